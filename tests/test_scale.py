"""The one line that chooses the scale."""
import fcntl
import re

import pytest

from pipeline import study as studies
from pipeline.study import StudyError
from stages import scale
from tests import changed

REAL = (studies.ROOT / "params.yaml").read_text()


def with_line(line: str) -> str:
    """params.yaml with another line that chooses the scale."""
    return re.sub(r"(?m)^scale:.*$", line, REAL, count=1)


@pytest.fixture
def params(tmp_path, monkeypatch):
    path = tmp_path / "params.yaml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    monkeypatch.setattr(studies, "load", lambda: STUDY)
    return path


STUDY = changed.at("miniature")


@pytest.mark.parametrize("before, after", [
    ("scale: miniature   # one line", "scale: tiny   # one line"),
    ("scale: 'miniature'", "scale: 'tiny'"),
    ('scale: "miniature"', 'scale: "tiny"'),
])
def test_only_that_line_changes(params, before, after):
    params.write_text(with_line(before))
    scale.main("tiny")
    assert params.read_text() == with_line(after)
    with pytest.raises(StudyError, match="did you mean tiny"):
        scale.main("tinny")


def test_a_line_that_is_not_found_is_said(params):
    params.write_text(with_line('"scale": miniature'))
    with pytest.raises(StudyError, match="no line that begins with scale"):
        scale.main("tiny")


def test_a_scale_that_lacks_something_is_not_chosen(params):
    """Nothing could be chosen after it: the settings would not load."""
    text = with_line("scale: miniature").replace("        mobilenetv2_050: null\n", "", 2)  # miniature's and tiny's
    params.write_text(text)
    with pytest.raises(StudyError, match=r"so miniature stays chosen:\n  scales\.tiny\.network\.backbones\.mobilenetv2_050: this key is"):
        scale.main("tiny")
    assert params.read_text() == text


def test_a_study_that_runs_keeps_its_scale(params):
    params.write_text(with_line("scale: miniature"))
    studies.ARTIFACTS.mkdir()
    with open(studies.ARTIFACTS / ".study.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as dag.alone has it
        scale.main("miniature")
        with pytest.raises(StudyError, match="a study of scale miniature runs in this folder"):
            scale.main("tiny")
        assert params.read_text() == with_line("scale: miniature")
    scale.main("tiny")
    assert params.read_text() == with_line("scale: tiny")
