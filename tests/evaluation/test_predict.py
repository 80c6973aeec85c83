"""The commands predict and export on a small untrained network: what they leave, and what they say of what they cannot do."""
import os
import shutil
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline import records, study as studies
from pipeline.datasets import palettes
from pipeline.evaluation import photos, trained
from pipeline.models import deeplab
from pipeline.schema import Strategy
from pipeline.study import StudyError
from stages import export, predict

STUDY = studies.load()
RUN = STUDY.runs["t2-x2"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run of the tiny scale, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    network = STUDY.scales["tiny"].network
    torch.manual_seed(0)
    model = deeplab.build(RUN, STUDY.backbones[RUN.backbone].family, network, 21)
    with torch.inference_mode():
        model.eval().logits.weight /= model(torch.randn(1, 3, 33, 33)).std()
    params = {"run": RUN.model_dump(mode="json"), "network": network.model_dump(mode="json"), "training": {"crop": 33}}
    records.write(tmp_path / "net", status="done", params=params)
    save_file(model.state_dict(), tmp_path / "net" / records.MODEL)
    return tmp_path / "net"


def photo(path: Path, size=(40, 61)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(size[0]).integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
    return path


def call(network, *images, out=None, strategy=None, longest=None):
    predict.main(str(network), list(images), out, strategy, longest)


def labels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P" and bytes(image.getpalette()) == palettes.of("voc", 21)[:len(image.getpalette())]
        return np.asarray(image)


@pytest.mark.parametrize("name", ["net", "net/model.safetensors", "t2-x2"])
def test_photos_are_labelled_by_folder_file_or_run(folder, name, capsys):
    if name == "t2-x2":
        shutil.copytree(folder, STUDY.artifacts("runs", name))
    call(name, photo(Path("a.png")))
    found = trained.described(folder)
    assert found.run == RUN and found.crop == 33
    models = trained.load(STUDY, folder, {16}, torch.device("cpu"))
    expected = photos.label(models, photos.read(Path("a.png")), Strategy(output_stride=16, scales=(1.0,), flip=False), 65)
    assert np.array_equal(labels_of(Path("a.labels.png")), expected) and len(np.unique(expected)) > 1
    with Image.open("a.overlay.png") as overlay:
        assert overlay.mode == "RGB" and overlay.size == (61, 40)


def test_a_network_that_has_seen_generated_scenes_only_is_said_to(folder, monkeypatch, capsys):
    for scale, said in (("miniature", True), ("paper", False)):
        study = STUDY.model_copy(update={"scale": scale})
        monkeypatch.setattr(studies, "load", lambda study=study: study)
        shutil.copytree(folder, study.artifacts("runs", "t2-x2"))
        call("t2-x2", photo(Path("a.png")))
        assert ("t2-x2 has seen generated scenes only" in capsys.readouterr().err) == said


def test_a_strategy_can_be_chosen_and_large_photos_are_shrunk(folder):
    image = photo(Path("a.png"), (80, 129))
    call(folder, image, out=Path("out"), strategy="os8-ms-flip", longest=49)
    models = trained.load(STUDY, folder, {8}, torch.device("cpu"))
    found = labels_of(Path("out/a.labels.png"))
    assert np.array_equal(found, photos.label(models, photos.read(image), STUDY.strategies["os8-ms-flip"], 49))
    assert not np.array_equal(found, photos.label(models, photos.read(image), STUDY.strategies["os8"], 1000))


def test_what_is_broken_is_named_and_the_rest_goes_on(folder, capsys):
    first, last = photo(Path("in/first.png")), photo(Path("in/last.jpg"), (33, 33))
    Path("in/broken.jpg").write_bytes(last.read_bytes()[:500])
    Path("in/notes.txt").write_text("no photo")
    os.mkfifo("in/pipe.png")
    Thread(target=Path("in/pipe.png").write_bytes, args=[b""], daemon=True).start()  # who reads it would wait for ever else
    with pytest.raises(StudyError, match="4 of 6 photos could not be labelled"):
        call(folder, first, Path("in/broken.jpg"), Path("in/notes.txt"), Path("in/gone.png"), Path("in/pipe.png"), last, out=Path("out/deep"))
    said = capsys.readouterr()
    for name, why in (("broken.jpg", "cannot be read"), ("notes.txt", "is not an image"), ("gone.png", "is not there"), ("pipe.png", "is no file")):
        assert f"error: in/{name}: {why}" in said.err
    assert "in/first.png: " in said.out and "%" in said.out
    left = {path.name for path in Path("out/deep").iterdir()}
    assert left == {f"{stem}.{kind}.png" for stem in ("first", "last") for kind in ("labels", "overlay")}


def test_a_photo_that_memory_does_not_suffice_for_is_named_and_the_rest_goes_on(folder, capsys, monkeypatch):
    def label(models, image, strategy, longest, plain=photos.label):
        if len(image) == 50:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(models, image, strategy, longest)
    monkeypatch.setattr(photos, "label", label)
    with pytest.raises(StudyError, match="1 of 2 photos could not be labelled"):
        call(folder, photo(Path("large.png"), (50, 40)), photo(Path("small.png")))
    assert "error: large.png: out of memory. Lower --longest" in capsys.readouterr().err and Path("small.labels.png").exists()


def test_photos_of_one_name_do_not_overwrite_each_other(folder):
    call(folder, photo(Path("a.png")), photo(Path("a.bmp"), (20, 20)), Path("a.png"))
    assert labels_of(Path("a.png.labels.png")).shape == (40, 61) and labels_of(Path("a.bmp.labels.png")).shape == (20, 20)
    with pytest.raises(StudyError, match="x/a.png, y/a.png would leave the same files"):
        call(folder, photo(Path("x/a.png")), photo(Path("y/a.png")), out=Path("out"))
    assert not Path("out").exists()


def test_a_folder_given_twice_is_labelled_anew_without_its_results(folder, capsys):
    photo(Path("in/a.png")), photo(Path("in/a.bmp"), (20, 20)), photo(Path("in/b.labels.png"), (33, 33))
    call(folder, *sorted(Path("in").iterdir()))
    first = {path: path.read_bytes() for path in Path("in").iterdir()}
    assert len(first) == 9 and "left out" not in capsys.readouterr().err
    Path("in/a.png.labels.png").write_bytes(b"lost")
    call(folder, *sorted(Path("in").iterdir()))
    assert {path: path.read_bytes() for path in Path("in").iterdir()} == first
    said = capsys.readouterr()
    assert "left out: results of an earlier call beside their photos, 6 files such as in/a.bmp.labels.png\n" in said.err
    assert said.out.count(" -> ") == 3
    for path in Path("in").glob("a.bmp*"):  # a.png.labels.png is still no photo, though a.png's would now be named a.labels.png
        path.unlink()
    call(folder, *sorted(Path("in").iterdir()), out=Path("out"))
    assert "4 files such as" in capsys.readouterr().err
    assert {path.name for path in Path("out").glob("a*")} == {f"a.{kind}.png" for kind in ("labels", "overlay")}


def test_a_photo_is_not_overwritten(folder):
    images = photo(Path("in/a.png")), photo(Path("out/a.labels.png"), (33, 33))
    before = images[1].read_bytes()
    with pytest.raises(StudyError, match="overwritten: out/../out/a.labels.png, by what in/a.png gives. Label them with another --out"):
        call(folder, *images, out=Path("out/../out"))
    assert images[1].read_bytes() == before and len(list(Path("out").iterdir())) == 1


def test_wrong_names_and_folders_say_what_to_do(folder):
    with pytest.raises(StudyError, match="nowhere is no folder and no run"):
        call("nowhere", Path("a.png"))
    Path("file").touch()
    with pytest.raises(StudyError, match="--out file is a file: name a folder"):
        call(folder, Path("a.png"), out=Path("file"))
    with pytest.raises(StudyError, match="did you mean os16"):
        call(folder, Path("a.png"), strategy="os61")
    Path("other.safetensors").write_bytes((folder / records.MODEL).read_bytes())
    with pytest.raises(StudyError, match="other.safetensors: name the folder that a training left, or the model.safetensors in it"):
        call("other.safetensors", Path("a.png"))
    with pytest.raises(StudyError, match="t2-x2 holds no trained network.*make study"):
        call("t2-x2", Path("a.png"))
    for content in (b"", (folder / records.MODEL).read_bytes()[:-5]):
        (folder / records.MODEL).write_bytes(content)
        with pytest.raises(StudyError, match="model.safetensors holds no network of this study"):
            call(folder, Path("a.png"))
    (folder / records.MODEL).unlink()
    with pytest.raises(StudyError, match="holds no network: model.safetensors is missing"):
        call(folder, Path("a.png"))
    records.write(folder, status="skipped", reason="no voc data at this scale")
    with pytest.raises(StudyError, match="holds no network: no voc data at this scale"):
        call(folder, Path("a.png"))
    with pytest.raises(StudyError, match="--output-stride is 8, 16 or 32, got 4"):
        export.main(str(folder), Path(), [export.Kind.pt2], 4)


@pytest.mark.parametrize("section, key, value, said", [
    ("run", "low_level_channels", 8, "net: its weights, model.safetensors, do not fit its record.json"),
    ("run", "decoder", "none", "do not fit its record.json"),
    ("network", "width", 1e9, "do not fit its record.json"),
    *(("training", "crop", crop, "net holds no trained network: record.json cannot be used .crop is .*no whole number above 16")
      for crop in ("x", -5, 16, 33.0))])
def test_a_record_that_is_not_of_these_weights_is_refused(folder, section, key, value, said):
    record = records.read(folder)
    record["params"][section][key] = value
    records.write(folder, **record)
    for command in (lambda: call(folder, photo(Path("a.png"))), lambda: export.main(str(folder), Path(), [export.Kind.pt2], None)):
        with pytest.raises(StudyError, match=said):
            command()


def test_export_hands_over_the_network_at_the_output_stride_that_was_asked_for(folder, monkeypatch, capsys):
    import pipeline.evaluation.export as module
    handed = []
    monkeypatch.setattr(module, "traced", lambda network: network)
    monkeypatch.setattr(module, "write", lambda *arguments: handed.append(arguments))
    export.main(str(folder), Path("out"), list(export.Kind), 8)
    assert [path for *_, path in handed] == [Path("out/net.pt2"), Path("out/net.onnx")]
    assert handed[0][1][15] == "person" and handed[0][2] == 65  # predict's, at the training crop of 33
    expected, x = trained.load(STUDY, folder, {8}, torch.device("cpu"))[8], torch.randn(1, 3, 65, 65)
    with torch.inference_mode():
        assert torch.equal(handed[0][0](x), expected(x))
    assert capsys.readouterr().out == "out/net.pt2\nout/net.onnx\n"
