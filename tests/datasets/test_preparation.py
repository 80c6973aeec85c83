"""From files to shards: what is wrong is listed whole, interrupted work is used, and the sheet counts right."""
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import imagenet, preparation, voc
from pipeline.datasets.shards import Shard
from pipeline.datasets.trimap import void_distance
from pipeline.study import StudyError


def run(root, split="val", **options):
    items = voc.splits(root)[split]
    out = root.parent / "out" / f"{split}.arrow"
    return out, preparation.write_shard(out, root.parent / "parts", "voc", voc.classes(root), items, **options)


@pytest.mark.parametrize("part, workers", [(128, 1), (2, 1), (2, 2)])
def test_shards_hold_what_the_files_hold(root, monkeypatch, part, workers):
    monkeypatch.setattr(preparation, "PART", part)
    out, sheet = run(root, distances=True, workers=workers)
    shard, items = Shard(out), voc.splits(root)["val"]
    assert shard.ids == [item.id for item in items] and shard.classes == list(voc.CLASSES)
    labels = [np.asarray(Image.open(item.label)) for item in items]
    for index, item in enumerate(items):
        np.testing.assert_array_equal(shard[index].image, np.asarray(Image.open(item.image)))
        np.testing.assert_array_equal(shard[index].label, labels[index])
        np.testing.assert_array_equal(shard[index].distance, void_distance(labels[index]))
    pixels = np.concatenate([label.ravel() for label in labels])
    assert sheet["images"] == 6
    assert sheet["pixels"]["boat"] == (pixels == 4).sum()
    assert sheet["images_with"]["cat"] == sum((label == 8).any() for label in labels)
    assert sheet["void"] == pytest.approx((pixels == 255).mean()) and sum(sheet["frequency"].values()) == pytest.approx(1)
    assert sheet["height"] == [min(label.shape[0] for label in labels), max(label.shape[0] for label in labels)]
    assert sheet["mean_classes"] == pytest.approx(np.mean([len(set(np.unique(label)) - {0, 255}) for label in labels]))


def test_a_split_without_images_is_refused(root, tmp_path):
    with pytest.raises(StudyError, match="voc has no images in its split train_aug"):
        preparation.write_shard(tmp_path / "train_aug.arrow", tmp_path / "parts", "voc", voc.classes(root), [])
    assert not list(tmp_path.glob("*.arrow"))


def test_everything_wrong_is_listed_at_once(root, monkeypatch):
    monkeypatch.setattr(preparation, "PART", 2)
    items = voc.splits(root)["train_aug"]
    items[0].image.unlink()
    items[2].image.write_bytes(items[2].image.read_bytes()[:300])
    items[4].label.write_bytes(b"no picture")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(items[5].label)
    labels = np.asarray(Image.open(items[6].label)).copy()
    labels[:2] = 21
    labels[3] = 200
    Image.fromarray(labels).save(items[6].label)
    Image.fromarray(np.zeros((*labels.shape, 3), np.uint8)).save(items[7].label)
    labels = np.asarray(Image.open(items[8].label))
    Image.fromarray(np.resize(np.arange(256, dtype=np.uint8), labels.shape)).save(items[8].label)
    Image.new("RGB", (40, 30)).save(items[9].image)
    Image.new("L", (30, 40)).save(items[9].label)
    with pytest.raises(StudyError) as caught:
        run(root, "train_aug", workers=2)
    text = str(caught.value)
    assert "8 of 10 images cannot be used" in text and len(text.splitlines()) == 9
    assert f"{items[0].image}: missing" in text and f"{items[2].image}: " in text and f"{items[4].label}: is not an image that Pillow can read" in text
    height, width = np.asarray(Image.open(items[5].image)).shape[:2]
    assert f"{items[5].label}: label of 4x3 pixels for an image of {width}x{height}" in text
    assert f"{items[6].label}: label values [21, 200] are no class (0 to 20, 255 void)" in text
    assert f"{items[7].label}: a label image has one channel of 8 bits, this one is RGB: save the numbers of the classes" in text
    assert f"{items[8].label}: label values [21, 22, 23, 24, 25, 26, 27, 28] and 226 more are no class" in text
    assert f"{items[9].label}: label of 30x40 pixels for an image of 40x30, as stored: EXIF turns nothing" in text
    assert not (root.parent / "out").exists()


def test_interrupted_work_is_used(root, monkeypatch):
    monkeypatch.setattr(preparation, "PART", 2)
    real, done = preparation.load, []

    def failing(task, item):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(item.id)
        return real(task, item)
    monkeypatch.setattr(preparation, "load", failing)
    with pytest.raises(KeyboardInterrupt):
        run(root)
    assert not (root.parent / "out").exists()
    done.clear()
    monkeypatch.setattr(preparation, "load", lambda task, item: (done.append(item.id), real(task, item))[1])
    out, sheet = run(root)
    assert done == Shard(out).ids[4:] and sheet["images"] == 6
    done.clear()
    assert run(root)[1] == sheet and done == []  # also what was finished before another split was interrupted


def test_without_hard_links_parts_are_copied(root, monkeypatch):
    out, _ = run(root)
    expected = out.read_bytes()

    def refuse(*arguments):
        raise PermissionError
    monkeypatch.setattr(preparation.os, "link", refuse)
    out.unlink()
    assert run(root)[0].read_bytes() == expected


def test_changed_files_are_decoded_again(root):
    out, _ = run(root)
    item = voc.splits(root)["val"][3]
    label = np.asarray(Image.open(item.label)).copy()
    label[:] = 7
    Image.fromarray(label).save(item.label)
    out, sheet = run(root)
    assert (Shard(out)[3].label == 7).all()


def test_damaged_bytes_end_in_the_list_or_in_pixels(root):
    """300 damaged images and labels: never another error, never a shard with a label that is no class."""
    chance = random.Random(1)
    items = voc.splits(root)["val"]
    task = preparation.Task("voc", voc.CLASSES, (), True, None)
    refused = 0
    for number in range(300):
        item = items[number % len(items)]
        path = item.label if number % 2 else item.image
        whole = path.read_bytes()
        damaged = bytearray(whole[:chance.randrange(1, len(whole))] if number % 3 == 0 else whole)
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            example, counts = preparation.load(task, item)
        except preparation.Unusable as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert example.label.shape == example.image.shape[:2] and np.isin(example.label, [*range(21), 255]).all()
            np.testing.assert_array_equal(counts, np.bincount(example.label.ravel(), minlength=256))
        path.write_bytes(whole)
    assert refused > 100


def test_a_name_that_is_no_text_is_listed(root):
    """Linux takes any bytes as a name; a shard's ids are UTF-8."""
    items = voc.splits(root)["val"]
    odd = items[0].image.with_name("caf\udce9.jpg")
    items[0].image.rename(odd)
    items[0] = replace(items[0], id=odd.stem, image=odd)
    with pytest.raises(StudyError) as caught:
        preparation.write_shard(root.parent / "out/val.arrow", root.parent / "parts", "voc", voc.classes(root), items)
    assert f"1 of 6 images cannot be used:\n  {odd}: its name is not UTF-8: rename it" in str(caught.value)


def test_two_images_of_one_id_are_named(tmp_path):
    for name in ("a.JPEG", "a.png", "b.JPEG"):
        (tmp_path / "val/cat").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "val/cat" / name)
    items = imagenet.splits(tmp_path)["val"]
    with pytest.raises(StudyError, match="val/cat/a.JPEG and .*val/cat/a.png are both cat/a: rename or remove one"):
        preparation.write_shard(tmp_path / "out/val.arrow", tmp_path / "parts", "imagenet", ["cat"], items, size=(9, 9))
