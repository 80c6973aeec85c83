"""The one line that chooses the scale."""
import fcntl

import pytest

from pipeline import study as studies
from pipeline.study import StudyError
from stages import scale


@pytest.fixture
def params(tmp_path, monkeypatch):
    path = tmp_path / "params.yaml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    monkeypatch.setattr(studies, "load", lambda: STUDY)
    return path


STUDY = studies.load().model_copy(update={"scale": "miniature"})


@pytest.mark.parametrize("before, after", [
    ("a: 1\nscale: miniature   # one line\nscale: b\n", "a: 1\nscale: tiny   # one line\nscale: b\n"),
    ("scale: 'miniature'\n", "scale: 'tiny'\n"),
    ('scale: "miniature"\n', 'scale: "tiny"\n'),
])
def test_only_that_line_changes(params, before, after):
    params.write_text(before)
    scale.main("tiny")
    assert params.read_text() == after
    with pytest.raises(StudyError, match="did you mean tiny"):
        scale.main("tinny")


def test_a_line_that_is_not_found_is_said(params):
    params.write_text("{scale: miniature}\n")
    with pytest.raises(StudyError, match="no line that begins with scale"):
        scale.main("tiny")


def test_a_study_that_runs_keeps_its_scale(params):
    params.write_text("scale: miniature\n")
    studies.ARTIFACTS.mkdir()
    with open(studies.ARTIFACTS / ".study.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as dag.start has it
        scale.main("miniature")
        with pytest.raises(StudyError, match="a study of scale miniature runs in this folder"):
            scale.main("tiny")
        assert params.read_text() == "scale: miniature\n"
    scale.main("tiny")
    assert params.read_text() == "scale: tiny\n"
