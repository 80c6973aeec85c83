"""Submissions: the archives' layout, palette and label ids against the official tools; interruptions; and where something is missing,
that it is said, and that nothing is left which a server would refuse."""
import contextlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import schema, study as studies
from pipeline.datasets import cityscapes, voc
from pipeline.evaluation import inference, photos, submission, trained
from pipeline.study import StudyError
from stages import submit
from tests import changed


def call(run, strategy=None, split="test"):
    submit.main(run, strategy, split, False)


def unpacked(path: Path) -> dict[str, Image.Image]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(path) as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive}
    return {name: Image.open(io.BytesIO(content)) for name, content in files.items()}


@pytest.mark.parametrize("prepared", ["voc"], indirect=True)
def test_voc_archive_is_the_development_kits(prepared, capsys):
    _, run, ids, paths = prepared
    call(run, "os16")
    found = unpacked(Path(f"artifacts/tiny/submissions/{run}-os16-test.tar"))
    assert list(found) == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in ids]
    for image, path in zip(found.values(), paths):
        assert image.mode == "P" and image.size == Image.open(path).size
        assert bytes(image.getpalette("RGB"))[:63] == voc.palette().tobytes()[:63]
        assert np.asarray(image).max() <= 20
    assert "test_scores: {tiny: {voc: {run: t2-x2, strategy: os16, miou: ...}}}" in capsys.readouterr().out
    assert not list(Path("artifacts/tiny/unfinished").iterdir())


@pytest.mark.parametrize("prepared", ["cityscapes"], indirect=True)
def test_cityscapes_archive_is_what_the_official_scorer_finds(prepared, tmp_path, monkeypatch):
    with contextlib.redirect_stdout(io.StringIO()):
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as scorer
    from cityscapesscripts.helpers.labels import id2label
    _, run, ids, paths = prepared
    call(run)  # the strategy that params.yaml evaluates the run with
    path = Path(f"artifacts/tiny/submissions/{run}-os16-test.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "results")
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path / "results"))
    args = scorer.CArgs()
    args.predictionPath = args.predictionWalk = None
    for name, image in zip(ids, paths):
        found = scorer.getPrediction(args, f"/gtFine/test/{name.split('_')[0]}/{name}_gtFine_labelIds.png")
        with Image.open(found) as prediction, Image.open(image) as photo:
            assert prediction.mode == "L" and prediction.size == photo.size
            assert all(0 <= id2label[number].trainId < 19 for number in np.unique(prediction))
    assert len(list((tmp_path / "results").rglob("*"))) == 3
    for number in range(19):
        picture = Image.open(io.BytesIO(submission.encode(np.full((2, 3), number, np.uint8), "cityscapes")))
        assert id2label[np.asarray(picture)[0, 0]].trainId == number


def test_labels_are_those_of_the_network_as_it_was_trained(prepared, monkeypatch):
    """Whatever params.yaml says by then: atrous rates are not in the weights."""
    dataset, run, _, paths = prepared
    study = studies.load()
    network = study.settings.network.model_copy(update={"atrous_rates": (1, 1, 1)})
    monkeypatch.setattr(studies, "load", lambda: changed.scale(study, network=network))
    call(run, "os8")
    chosen, models = study.strategies["os8"], trained.load(study, study.artifacts("runs", run), {8}, torch.device("cpu"))
    found = unpacked(next(Path("artifacts/tiny/submissions").iterdir()))
    table = cityscapes.label_ids() if dataset == "cityscapes" else np.arange(21)
    size, seen = study.dataset(dataset).evaluate.canvas, set()
    for path, image in zip(paths, found.values()):
        with torch.inference_mode():
            labels = inference.predict(models, inference.canvas([photos.read(path)], size, torch.device("cpu")), {"it": chosen})["it"]
        expected = table[labels[0, :image.height, :image.width].numpy()]
        seen |= set(np.unique(expected))
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert len(seen) > 1


def test_interrupted_it_goes_on_and_ends_with_the_same_bytes(prepared, monkeypatch):
    _, run, ids, _ = prepared
    call(run, "os16")
    path = next(Path("artifacts/tiny/submissions").iterdir())
    whole = path.read_bytes()
    path.unlink()
    real, encoded = submission.encode, []

    def encode(labels, dataset):
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(1)
        return real(labels, dataset)
    monkeypatch.setattr(submission, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        call(run, "os16")
    assert not path.exists() and len(list(Path("artifacts/tiny/unfinished").rglob("*.png"))) == 2
    monkeypatch.setattr(submission, "encode", lambda *given: (encoded.append(1), real(*given))[1])
    call(run, "os16")
    assert path.read_bytes() == whole and len(encoded) == 3


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
    made = schema.Source(generate=schema.Generate(train=8, val=4, size=49, seed=1))
    generated = changed.dataset(studies.load(), "voc", source=made)
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
