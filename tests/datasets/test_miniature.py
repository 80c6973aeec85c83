"""The generated data: the same bytes every time, legal labels in native layouts, and what makes the paper's mechanisms matter."""
import hashlib
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import cityscapes, coco, imagenet, miniature, native, voc
from pipeline.datasets.miniature import scenes
from pipeline.datasets.miniature.borders import borders
from pipeline.datasets.miniature.looks import LOOKS, SHAPES
from pipeline.schema import Generate
from pipeline.study import StudyError

SETTINGS = {"voc": Generate(train=16, val=6, size=65, seed=5), "coco": Generate(train=8, val=4, size=65, seed=6),
            "cityscapes": Generate(train=5, val=3, size=48, seed=7), "imagenet": Generate(train=24, val=12, size=33, seed=8)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("miniature")
    for name, settings in SETTINGS.items():
        miniature.generate(name, settings, root / name)
    return root


def test_a_data_set_that_nothing_generates(tmp_path):
    with pytest.raises(StudyError, match="nothing generates another: name a folder or archives"):
        miniature.generate("another", SETTINGS["voc"], tmp_path)


def digests(root):
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", SETTINGS)
def test_same_seed_same_bytes_other_seed_other_bytes(made, tmp_path, name):
    miniature.generate(name, SETTINGS[name], tmp_path / "again")
    assert digests(tmp_path / "again") == digests(made / name)
    miniature.generate(name, SETTINGS[name].model_copy(update={"seed": 99}), tmp_path / "other")
    mine, other = digests(made / name), digests(tmp_path / "other")
    images = [path for path in mine if path.endswith((".jpg", ".JPEG", "8bit.png"))]
    assert images and mine.keys() == other.keys() and not any(mine[path] == other[path] for path in images)


def test_same_bytes_on_two_processes(tmp_path):
    settings = Generate(train=60, val=8, size=33, seed=1)
    miniature.generate("voc", settings, tmp_path / "one", workers=1)
    miniature.generate("voc", settings, tmp_path / "two", workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_voc(made):
    found = voc.splits(made / "voc")
    assert {name: len(items) for name, items in found.items()} == {"train": 4, "val": 6, "trainval": 10, "train_aug": 16}
    legal = {0, 255, *(voc.CLASSES.index(name) for name in scenes.CLASSES)}
    for item in found["train_aug"] + found["val"]:
        label = voc.label(item)
        assert set(np.unique(label)) <= legal
        assert label.shape == native.read_image(item.image).shape[:2] and max(label.shape) == 65
        with Image.open(item.label) as picture:
            assert picture.mode == "P" and picture.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        # official masks have borders, the added ones (as SBD's) have none
        assert (255 in label) == (item in found["val"] or item.id in {each.id for each in found["train"]})


def test_borders_part_different_things(made):
    for item in voc.splits(made / "voc")["val"]:
        label = voc.label(item)
        assert not ((label[:, :-1] != label[:, 1:]) & (label[:, :-1] != 255) & (label[:, 1:] != 255)).any()
        assert not ((label[:-1] != label[1:]) & (label[:-1] != 255) & (label[1:] != 255)).any()


def test_a_border_is_two_pixels_on_each_side_and_covers_thin_parts():
    objects = np.zeros((20, 24), int)
    objects[5:15, 6:14] = 1
    objects[9:11, 14:20] = 1  # a handle of two pixels
    void = borders(objects)
    assert void[7, :10].tolist() == [False] * 4 + [True] * 4 + [False] * 2
    assert void[:9, 10].tolist() == [False] * 3 + [True] * 4 + [False] * 2
    assert void[7:13, 17].all() and not void[[6, 13], 17].any()
    objects = np.ones((20, 24), int)
    objects[4:14, 2:12] = 2  # a smaller object in front: its border takes two pixels of each
    assert borders(objects)[9].tolist() == [True] * 4 + [False] * 6 + [True] * 4 + [False] * 10


def test_coco(made):
    found = coco.splits(made / "coco", proportional=True)
    assert len(found["train"]) <= 8 and len(found["val"]) <= 4
    for item in found["train"] + found["val"]:
        label = coco.label(item)
        assert label.shape == native.read_image(item.image).shape[:2]
        assert set(np.unique(label)) <= {0, *(voc.CLASSES.index(name) for name in scenes.CLASSES)}
        assert (label > 0).sum() > coco.MINIMUM_PIXELS * label.size / coco.REFERENCE_AREA
    assert json.loads((made / "coco/annotations/instances_train2017.json").read_text())["categories"]


def test_cityscapes(made):
    found = cityscapes.splits(made / "cityscapes")
    assert {name: len(items) for name, items in found.items()} == {"train": 5, "val": 3, "trainval": 8}
    seen = set()
    for item in found["trainval"]:
        label = cityscapes.label(item)
        assert label.shape == (48, 96) == native.read_image(item.image).shape[:2]
        seen |= set(np.unique(label).tolist())
    names = {cityscapes.classes(made)[number] for number in seen - {255}}
    assert 255 in seen and {"road", "sidewalk", "building", "sky", "car", "person", "pole"} <= names


def test_imagenet(made):
    found = imagenet.splits(made / "imagenet")
    assert imagenet.classes(made / "imagenet") == sorted(LOOKS)
    assert len(found["train"]) == 24 and len(found["val"]) == 12
    assert np.bincount([item.label for item in found["train"]]).min() >= 2
    assert native.read_image(found["val"][0].image).shape == (33, 33, 3)


def test_only_boat_and_car_look_alike():
    assert SHAPES["boat"] == SHAPES["car"] and replace(LOOKS["boat"], hue=LOOKS["car"].hue) == LOOKS["car"]
    others = [LOOKS[name] for name in scenes.CLASSES if name not in ("boat", "car")] + [LOOKS["car"]]
    apart = [min(abs(one.hue - other.hue), 1 - abs(one.hue - other.hue)) > .05 or one.texture != other.texture
             for one, other in itertools.combinations(others, 2)]
    assert all(apart)


def test_classes_are_balanced_and_of_many_sizes():
    rng = np.random.default_rng(0)
    drawn = [scenes.scene(97, scenes.VOC, rng) for _ in range(250)]
    names = [name for each in drawn for name in each.names]
    shares = {name: names.count(name) / len(names) for name in scenes.CLASSES}
    assert min(shares.values()) > .08 and max(shares.values()) < .18
    covered = np.mean([(each.objects > 0).mean() for each in drawn])
    assert .25 < covered < .45
    extents = []
    for each in drawn:
        for number in range(1, len(each.names) + 1):
            rows = np.flatnonzero((each.objects == number).any(1))
            extents += [np.ptp(rows) + 1] if len(rows) else []
    assert np.quantile(extents, .05) < 22 and np.quantile(extents, .95) > 60
    assert len(extents) > .97 * len(names)  # hardly any object is hidden
    assert not any(set(each.names) >= {"boat", "car"} for each in drawn)  # they live in different scenes
