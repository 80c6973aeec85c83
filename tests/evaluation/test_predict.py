"""The command predict on a small untrained network: what it leaves, and what it says of photos that it cannot label."""
import os
import shutil
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import study as studies
from pipeline.datasets import palettes
from pipeline.evaluation import photos, trained
from pipeline.schema import Strategy
from pipeline.study import StudyError
from stages import predict
from tests import changed

STUDY = studies.load()


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
def test_photos_are_labelled_by_folder_file_or_run(folder, name):
    if name == "t2-x2":
        shutil.copytree(folder, STUDY.artifacts("runs", name))
    call(name, photo(Path("a.png")))
    found = trained.described(folder)
    assert found.run == STUDY.runs["t2-x2"] and found.crop == 33
    models = trained.load(STUDY, folder, {16}, torch.device("cpu"))
    expected = photos.label(models, photos.read(Path("a.png")), Strategy(output_stride=16, scales=(1.0,), flip=False), 65)
    assert np.array_equal(labels_of(Path("a.labels.png")), expected) and len(np.unique(expected)) > 1
    with Image.open("a.overlay.png") as overlay:
        assert overlay.mode == "RGB" and overlay.size == (61, 40)


def test_a_network_that_has_seen_generated_scenes_only_is_said_to(folder, monkeypatch, capsys):
    for scale, said in (("miniature", True), ("paper", False)):
        study = changed.at(scale)
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
