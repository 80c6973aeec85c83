"""Submissions of which something is missing: said, and nothing is left that a server would refuse."""
import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline import schema, study as studies
from pipeline.datasets import cityscapes, voc
from pipeline.study import StudyError
from stages import submit
from tests.evaluation import untrained


def call(run, strategy=None, split="test"):
    submit.main(run, strategy, split, False)


@pytest.mark.parametrize("prepared", ["voc"], indirect=True)
def test_only_what_a_server_scores_has_to_be_complete(prepared, monkeypatch):
    _, run, ids, _ = prepared
    sets = Path("native/VOCdevkit/VOC2012/ImageSets/Segmentation")
    shutil.copy(sets / "test.txt", sets / "val.txt")
    for split in ("test", "val"):
        monkeypatch.setitem(voc.COUNTS, split, 4)
    call(run, split="val")
    with pytest.raises(StudyError, match="the server wants 4"):
        call(run)
    study = studies.load()
    generated = untrained.sourced(study, "voc", schema.Source(generate=schema.Generate(train=8, val=4, size=49, seed=1)))
    monkeypatch.setattr(studies, "load", lambda: generated)
    call(run)
    for split in ("test", "val"):
        with tarfile.open(f"artifacts/tiny/submissions/{run}-os8-ms-flip-{split}.tar") as archive:
            assert len(archive.getmembers()) == len(ids)


def test_what_is_missing_is_said(prepared, monkeypatch):
    dataset, run, _, paths = prepared
    with pytest.raises(StudyError, match="did you mean t7-nodec"):
        call("t7-nodecc")
    with pytest.raises(StudyError, match="there is no|did you mean os16"):
        call(run, "os166")
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:len(whole) // 3])
    with pytest.raises(StudyError, match=f"{paths[1].name} cannot be read"):
        call(run)
    monkeypatch.setitem({"voc": voc, "cityscapes": cityscapes}[dataset].COUNTS, "test", 4)
    with pytest.raises(StudyError, match="test has 3 images in .*, the server wants 4"):
        call(run)
    paths[1].unlink()
    with pytest.raises(StudyError, match=f"{paths[1].name}: missing" if dataset == "voc" else "has 2 images"):
        call(run)
    shutil.rmtree("native/VOCdevkit/VOC2012/ImageSets" if dataset == "voc" else "native/leftImg8bit")
    with pytest.raises(StudyError, match="test.txt is missing" if dataset == "voc" else "no cityscapes images of the split test"):
        call(run)
    assert not Path("artifacts/tiny/submissions").exists()
    with pytest.raises(StudyError, match="only voc and cityscapes have a test server"):
        call("coco-x65", "os16")
    with pytest.raises(StudyError, match="has no line for t6-test: name one of os32, .* by --strategy"):
        call("t6-test")
