"""An edit while a stage runs fails that stage: DVC would record it as if it had been used."""
import pytest

from tests.engines.checkout import Checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    """One in which nothing has run."""
    return Checkout(tmp_path_factory.mktemp("edits"))


GUARDED = """
import re, sys
from pathlib import Path
import pipeline.datasets.shards
from pipeline.study import StudyError
from stages.engine import guard
path, pattern, replacement = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
text = path.read_text()
try:
    with guard.unchanged():
        path.write_text(re.sub(pattern, replacement, text))
        assert path.read_text() != text
except StudyError as error:
    print("refused:", error)
finally:
    path.write_text(text)
"""


@pytest.mark.parametrize("stage, path, pattern, replacement, moved", [
    ("train@t1-c64", "params.yaml", "low_level_channels: 64", "low_level_channels: 65", "runs.t1-c64 in params.yaml"),
    ("train@t1-c64", "params.yaml", "low_level_channels: 32", "low_level_channels: 33", None),  # another run's
    ("train@t1-c64", "params.yaml", r"(?m)^  t1-c64: .*\n", "", "params.yaml, which no longer has this stage"),
    ("train@t1-c64", "params.yaml", "# Table 1:", "# Of Table 1:", None),
    ("train@t1-c64", "pipeline/datasets/shards.py", r"\Z", "# a remark\n", "pipeline/datasets/shards.py"),
    ("train@t1-c64", "pipeline/datasets/coco.py", r"\Z", "# a remark\n", None),  # no dependency of it by dvc.yaml
    ("train@t1-c64", "pipeline/study.py", r"\Z", "# a remark\n", None),          # loaded, and yet none
    ("compile", "pipeline/paper/claims.yaml", r"\Z", "# a remark\n", "pipeline/paper/claims.yaml"),
    ("report", "pipeline/reporting/templates/style.css", r"\Z", "/**/\n", "pipeline/reporting/templates/style.css"),
])
def test_an_edit_while_a_stage_runs(checkout, stage, path, pattern, replacement, moved):
    printed = checkout.run("python", "-c", GUARDED, path, pattern, replacement, DVC_STAGE=stage)
    assert ("refused:" in printed) == (moved is not None)
    assert (moved or "") in printed


def test_a_stage_that_is_edited_fails_and_is_not_recorded(checkout):
    """Through DVC itself: the stage's own command edits its settings meanwhile, as a person in an editor would."""
    edit = "    file = Path('params.yaml'); file.write_text(file.read_text().replace('size: 49, seed: 1', 'size: 49, seed: 9'))\n"
    checkout.edit("stages/download.py", r"    study = studies\.load\(\)\n", rf"\g<0>{edit}")
    printed = checkout.run("dvc", "repro", "download@voc", fails=True)
    assert "scales.tiny.voc.source in params.yaml" in printed and "Run the same command again" in printed
    assert not (checkout.root / "dvc.lock").exists()
    checkout.run("git", "checkout", "--quiet", "stages/download.py")
    assert "Running stage 'download@voc'" in checkout.run("dvc", "repro", "download@voc")  # with the settings as they are now
    checkout.run("git", "checkout", "--quiet", "params.yaml")
