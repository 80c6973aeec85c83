"""Readers of native layouts: against hand-made files, the data sets' own tools, and a real part of VOC."""
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import cityscapes, coco, imagenet, native, palettes, voc
from pipeline.study import StudyError

REAL = Path(__file__).parents[3] / "shared/data/VOCdevkit"


def test_voc_palette_is_the_official_one():
    """VOCdevkit's VOClabelcolormap, bit by bit."""
    for label in range(256):
        rest, rgb = label, [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (rest >> channel & 1) << (7 - bit)
            rest >>= 3
        assert voc.palette()[label].tolist() == rgb
    assert palettes.of("voc", 21)[-3:] == bytes((224, 224, 192)) and len(palettes.of("cityscapes", 19)) == 768


def test_cityscapes_train_ids_are_those_of_its_scripts():
    from cityscapesscripts.helpers.labels import id2label
    table = cityscapes.train_ids()
    for number in range(256):
        expected = id2label[number].trainId if number in id2label else 255
        assert table[number] == expected
    assert cityscapes.classes(Path())[:3] == ["road", "sidewalk", "building"] and len(cityscapes.classes(Path())) == 19


def test_cityscapes_refuses_unknown_label_ids(tmp_path):
    Image.fromarray(np.full((2, 2), 77, np.uint8)).save(tmp_path / "l.png")
    with pytest.raises(OSError, match=r"\[77\] do not exist"):
        cityscapes.label(native.Item("a", tmp_path / "i.png", tmp_path / "l.png"))


def test_imagenet_reads_the_central_part(tmp_path):
    picture = np.zeros((80, 160, 3), np.uint8)
    picture[5:75, 10:150] = 200
    Image.fromarray(picture).save(tmp_path / "a.png")
    item = native.Item("a", tmp_path / "a.png", 0)
    got = imagenet.read(item, (35, 70))
    assert got.shape == (35, 70, 3) and (got == 200).all()
    assert np.array_equal(imagenet.read(item, None), picture)


@pytest.mark.parametrize("height, width, size", [(7, 11, (5, 4)), (7, 11, (14, 3)), (41, 30, (33, 33)), (50, 64, (7, 7))])
def test_imagenet_is_resized_as_the_authors_library_does_it(tmp_path, height, width, size):
    """Pixel by pixel: crop from int((side - 7/8 side) / 2) on, then TensorFlow 1's bilinear kernel, align_corners=False: between
    the pixels before and after index * input / output, the last one repeated."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    got = imagenet.read(native.Item("a", tmp_path / "a.png", 0), size)
    top, left = int((height - height * .875) / 2), int((width - width * .875) / 2)
    part = picture[top:height - top, left:width - left].astype(float)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = row * part.shape[0] / size[0], column * part.shape[1] / size[1]
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, part.shape[0] - 1), min(x0 + 1, part.shape[1] - 1)
            upper, lower = (part[line, x0] + (part[line, x1] - part[line, x0]) * (x - x0) for line in (y0, y1))
            assert np.abs(got[row, column] - (upper + (lower - upper) * (y - y0))).max() <= .501


def test_imagenet_numbers_folders_with_images_only(tmp_path):
    for name in ("n00000002", "n00000001", "outliers", ".cache"):
        (tmp_path / "val" / name).mkdir(parents=True)
        if name.startswith("n"):
            Image.new("RGB", (3, 3)).save(tmp_path / "val" / name / "a.JPEG", "JPEG")
    assert imagenet.classes(tmp_path) == ["n00000001", "n00000002"]
    assert [item.label for item in imagenet.splits(tmp_path)["val"]] == [0, 1]


def test_while_imagenet_is_listed_one_sees_how_far_it_is(tmp_path, monkeypatch):
    """With train these are 1.28 million files. When a bar begins: tests/training/test_progress.py."""
    for split, name in (("train", "n1"), ("train", "n2"), ("val", "n1")):
        (folder := tmp_path / split / name).mkdir(parents=True)
        (folder / "a.JPEG").touch()
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    stream.isatty = lambda: True
    bar = imagenet.progress.bar
    monkeypatch.setattr(imagenet.progress, "bar", lambda *what, patience, **more: bar(*what, **more))
    monkeypatch.delenv("STUDY_JOB", raising=False)
    assert {split: len(items) for split, items in imagenet.splits(tmp_path).items()} == {"train": 2, "val": 1}
    assert "list ImageNet: 100%" in stream.getvalue() and "3/3" in stream.getvalue()


@pytest.mark.parametrize("reader, said", [
    (voc, "no VOC 2012"), (coco, "no COCO 2017"), (cityscapes, "no Cityscapes"), (imagenet, "no ImageNet")])
def test_an_empty_folder_says_what_was_expected(tmp_path, reader, said):
    with pytest.raises(StudyError, match=f"{said}: expected"):
        reader.splits(tmp_path)


@pytest.mark.parametrize("content, said", [("", "is empty"), (" \n", "is empty"), ("a\nb\na\n", "twice: a;")])
def test_lists_of_ids_are_checked(tmp_path, content, said):
    (tmp_path / "train.txt").write_text(content)
    with pytest.raises(StudyError, match=said):
        native.read_list(tmp_path / "train.txt")


def test_lists_have_one_id_a_line(tmp_path):
    (tmp_path / "train.txt").write_bytes("\ufeffmy cat 1 \r\n\r\n  dog\n\u732b\u3000a".encode())
    assert native.read_list(tmp_path / "train.txt") == ["my cat 1", "dog", "\u732b\u3000a"]


@pytest.mark.parametrize("train, said", [("a\nc\nb\n", "both name c: "), ("a\nc\nd\nb\n", "both name c and 1 more: ")])
def test_an_image_that_is_trained_on_and_scored_is_named(tmp_path, train, said):
    lists = tmp_path / "ImageSets/Segmentation"
    for folder in (lists, tmp_path / "JPEGImages"):
        folder.mkdir(parents=True)
    (lists / "train.txt").write_text(train)
    (lists / "val.txt").write_text("d\nc\n" if "d" in train else "c\n")
    (lists / "trainaug.txt").write_text("a\nb\nc\ne\n")
    with pytest.raises(StudyError, match=f"Segmentation/train.txt and .*Segmentation/val.txt {said}"):
        voc.splits(tmp_path)
    (lists / "train.txt").write_text("a\nb\n")
    found = {name: [item.id for item in items] for name, items in voc.splits(tmp_path).items()}
    assert "c" in found["trainval"] and "c" not in found["train_aug"]  # on trainval scores are the server's


@pytest.mark.parametrize("reader, place", [(cityscapes, "leftImg8bit/val"), (cityscapes, "leftImg8bit/val/b"), (imagenet, "val"),
                                           (imagenet, "val/b"), (native, "val/b")])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, reader, place):
    """It would be passed over, and the data set would look complete. Root may read all: the system is made to refuse."""
    for split in ("train", "val"):
        for city in "ab":
            (tmp_path / f"leftImg8bit/{split}/{city}").mkdir(parents=True)
            (tmp_path / f"leftImg8bit/{split}/{city}/{city}_1_leftImg8bit.png").touch()
            (tmp_path / f"{split}/{city}").mkdir(parents=True)
            (tmp_path / f"{split}/{city}/1.png").touch()
    read = native.files if reader is native else reader.splits
    assert len(list(read(tmp_path))) > 1

    def refusing(call):
        def asked(path="."):
            if str(path) == str(tmp_path / place):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path)
        return asked
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(f"os.{name}", refusing(getattr(os, name)))
    with pytest.raises(StudyError, match=rf"the folder .*{place} cannot be read \(Permission denied\)"):
        list(read(tmp_path))


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    """The doctor asks for the files of folders that params.yaml names."""
    assert list(native.files(tmp_path / "nowhere")) == [] == native.listed(tmp_path / "nowhere")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real part of VOC at {REAL}")
def test_real_voc():
    found = voc.splits(REAL)
    assert {name: len(items) for name, items in found.items()} == {"train": 437, "val": 445, "trainval": 882, "train_aug": 1000}
    assert not {item.id for item in found["train_aug"]} & {item.id for item in found["val"]}
    assert [item.id for item in found["train_aug"]] == sorted(item.id for item in found["train_aug"])
    own = [item for item in found["train_aug"] if item.label.parent.name == "SegmentationClass"]
    assert {item.id for item in own} == {item.id for item in found["train"]}


@pytest.mark.parametrize("name", ["/tmp/victim/photo", "../../../escaped", "a/../../b"])
def test_ids_that_lead_out_of_the_data_set_are_refused(tmp_path, name):
    """Label maps are written under these names (stages.submit)."""
    (tmp_path / "test.txt").write_text(f"2008_000001\n{name}\n")
    with pytest.raises(StudyError, match="leads out of the data set"):
        native.read_list(tmp_path / "test.txt")
    (tmp_path / "test.txt").write_text("city/frame..1\n")
    assert native.read_list(tmp_path / "test.txt") == ["city/frame..1"]


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_images_of_more_than_8_bits_are_refused(tmp_path, kind):
    """Pillow's conversion leaves white, or black."""
    Image.fromarray(np.full((3, 4), 200, kind)).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match=r"has grey levels of more than 8 bits \((I|I;16|F)\): save it with 8"):
        native.read_image(tmp_path / "a.tif")


def test_postscript_is_not_run(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    from pipeline.evaluation import photos
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **more: pytest.fail("gs was called"))
    Image.new("RGB", (5, 4)).save(tmp_path / "made.eps")
    (tmp_path / "made.eps").rename(tmp_path / "holiday.jpg")
    for read in (native.read_image, photos.read):
        with pytest.raises(OSError, match="is PostScript, a program"):
            read(tmp_path / "holiday.jpg")
