"""Submissions: the archives' layout, palette and label ids against the official tools, interruptions; what is missing is said."""
import contextlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline import records, schema, study as studies
from pipeline.datasets import cityscapes, voc
from pipeline.evaluation import inference, photos, submission, trained
from pipeline.models import deeplab
from pipeline.study import StudyError
from stages import submit

STUDY = studies.load()
RUNS = {"voc": ("t2-x2", 21), "cityscapes": ("t7-x71", 19)}
SIZES = {"voc": [(30, 41), (41, 30), (35, 33)], "cityscapes": [(24, 48)] * 3}


def picture(path: Path, size, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)


@pytest.fixture
def prepared(tmp_path, monkeypatch, request):
    """A trained run of scale tiny and its data set's test images in the native layout; returns the data set's name and its ids."""
    dataset = request.param
    monkeypatch.chdir(tmp_path)
    run, classes = RUNS[dataset]
    source = schema.Source(folder="/somewhere")
    own = getattr(STUDY.scales["tiny"], dataset).model_copy(update={"source": source})
    scale = STUDY.scales["tiny"].model_copy(update={dataset: own})
    study = STUDY.model_copy(update={"scale": "tiny", "scales": {**STUDY.scales, "tiny": scale}})
    monkeypatch.setattr(studies, "load", lambda: study)
    torch.manual_seed(0)
    wanted = study.runs[run]
    model = deeplab.build(wanted, study.backbones[wanted.backbone].family, study.settings.network, classes)
    with torch.inference_mode():
        model.eval().logits.weight /= model(torch.randn(1, 3, 33, 33)).std()
    params = {"run": wanted.model_dump(mode="json"), "network": study.settings.network.model_dump(mode="json"), "training": {"crop": 33}}
    records.write(study.artifacts("runs", run), status="done", params=params)
    save_file(model.state_dict(), study.artifacts("runs", run) / records.MODEL)
    root = tmp_path / "native"
    if dataset == "voc":
        ids = ["2008_000006", "2008_000011", "2011_003270"]
        (root / "VOCdevkit/VOC2012/ImageSets/Segmentation").mkdir(parents=True)
        (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/test.txt").write_text("\n".join(ids) + "\n")
        paths = [root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg" for name in ids]
    else:
        ids = ["berlin_000000_000019", "berlin_000001_000019", "munich_000397_000019"]
        paths = [root / f"leftImg8bit/test/{name.split('_')[0]}/{name}_leftImg8bit.png" for name in ids]
    for seed, (path, size) in enumerate(zip(paths, SIZES[dataset])):
        picture(path, size, seed)
    monkeypatch.setitem({"voc": voc, "cityscapes": cityscapes}[dataset].COUNTS, "test", 3)
    data = study.artifacts("data", dataset)
    data.mkdir(parents=True)
    (data / "source.json").write_text(json.dumps({"status": "done", "root": str(root)}))
    return dataset, run, ids, paths


def both(function):
    return pytest.mark.parametrize("prepared", ["voc", "cityscapes"], indirect=True)(function)


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


@both
def test_labels_are_those_of_the_network_as_it_was_trained(prepared, monkeypatch):
    """Whatever params.yaml says by then: atrous rates are not in the weights."""
    dataset, run, _, paths = prepared
    study = studies.load()
    network = study.settings.network.model_copy(update={"atrous_rates": (1, 1, 1)})
    changed = study.model_copy(update={"scales": {**study.scales, "tiny": study.settings.model_copy(update={"network": network})}})
    monkeypatch.setattr(studies, "load", lambda: changed)
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


@both
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
    study = studies.load()
    generated = study.settings.voc.model_copy(update={"source": STUDY.scales["tiny"].voc.source})
    monkeypatch.setattr(studies, "load", lambda: study.model_copy(update={"scales": study.scales | {"tiny": study.settings.model_copy(
        update={"voc": generated})}}))
    call(run)
    assert sorted(len(unpacked(path)) for path in Path("artifacts/tiny/submissions").rglob("*.tar*")) == [len(ids), len(ids)]


@both
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
