"""Readers of native layouts: against hand-made files, the data sets' own tools, and a real part of VOC."""
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coder

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


def write_instances(root, annotations):
    """instances_train2017.json of images of 60 x 80 pixels; annotations: (image, category, shape, area[, crowd]) each."""
    categories = [{"id": each, "name": name} for name, each in [*coco.CATEGORY_IDS.items(), ("zebra", 99)]]
    images = sorted({image for image, *_ in annotations}, reverse=True)
    content = {"categories": categories,
               "images": [{"id": number, "file_name": f"{number:012d}.jpg", "height": 60, "width": 80} for number in images],
               "annotations": [{"image_id": image, "category_id": category, "segmentation": shape, "area": area, "iscrowd": int(bool(crowd))}
                               for image, category, shape, area, *crowd in annotations]}
    path = root / "annotations/instances_train2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))


@pytest.fixture
def instances(tmp_path):
    """Two images: one with a polygon, a crowd and another class; one with too few pixels."""
    crowd = np.zeros((60, 80), bool)
    crowd[40:, 60:] = True
    packed = coder.encode(np.asfortranarray(crowd.astype(np.uint8)))
    packed["counts"] = packed["counts"].decode()
    square = [10, 10, 50, 10, 50, 40, 10, 40]
    overlap = [40, 10, 60, 10, 60, 40, 40, 40]
    write_instances(tmp_path, [(1, 17, [square], 1200), (1, 18, [overlap], 600), (1, 1, packed, 400, "crowd"), (1, 99, [square], 1200),
                               (2, 17, [[0, 0, 5, 0, 5, 5]], 12)])
    return tmp_path


def test_coco_labels(instances):
    items = coco.splits(instances)["train"]
    assert [item.id for item in items] == ["000000000001"]
    label = coco.label(items[0])
    cat, dog = voc.CLASSES.index("cat"), voc.CLASSES.index("dog")
    assert [label[y, x] for y, x in ((0, 0), (20, 20), (20, 55), (20, 45), (50, 70), (50, 20))] == [0, cat, dog, 255, 255, 0]
    assert abs((label == cat).sum() - 900) < 60


def test_coco_threshold_follows_the_area_of_generated_images(instances):
    assert len(coco.splits(instances, proportional=True)["train"]) == 1
    path = instances / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["area"] = 16  # more than 1,000 / (640 x 480) of 60 x 80 pixels
    path.write_text(json.dumps(content))
    assert len(coco.splits(instances, proportional=True)["train"]) == 2 and len(coco.splits(instances)["train"]) == 1


def test_coco_counts_the_area_of_the_20_classes_and_takes_more_than_1000(tmp_path):
    def box(left, top, right, bottom):
        return [[left, top, right, top, right, bottom, left, bottom]]
    annotations = [(1, 17, box(0, 0, 40, 25), 1000), (2, 17, box(0, 0, 40, 25), 1001), (3, 17, box(0, 0, 10, 10), 100),
                   (3, 99, box(0, 0, 60, 60), 3600), (4, 17, box(0, 0, 40, 40), 1600), (4, 17, box(20, 20, 60, 60), 1600)]
    write_instances(tmp_path, annotations)
    items = coco.splits(tmp_path)["train"]
    assert [item.id for item in items] == ["000000000002", "000000000004"]
    assert coco.label(items[1])[30, 30] == voc.CLASSES.index("cat"), "two cats that overlap are cat"


def test_coco_leaves_out_what_is_a_crowd_only(tmp_path):
    """A crowd is void: such an image has nothing to learn."""
    crowd = {"counts": [0, 4800], "size": [60, 80]}
    write_instances(tmp_path, [(1, 1, crowd, 4800, "crowd"), (2, 1, crowd, 4800, "crowd"), (2, 17, [[0, 0, 50, 0, 50, 50, 0, 50]], 2500)])
    assert [item.id for item in coco.splits(tmp_path)["train"]] == ["000000000002"]


def test_coco_damaged_annotations_are_named(instances):
    path = instances / "annotations/instances_train2017.json"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(StudyError, match="instances_train2017.json is not a COCO instances file"):
        coco.splits(instances)


def test_coco_names_cover_the_20_classes():
    assert {coco.coco_name(name) for name in voc.CLASSES[1:]} == set(coco.CATEGORY_IDS)


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


@pytest.mark.parametrize("reader, said", [
    (voc, "no VOC 2012"), (coco, "no COCO 2017"), (cityscapes, "no Cityscapes"), (imagenet, "no ImageNet")])
def test_an_empty_folder_says_what_was_expected(tmp_path, reader, said):
    with pytest.raises(StudyError, match=f"{said}: expected"):
        reader.splits(tmp_path)


@pytest.mark.parametrize("content, said", [("", "is empty"), ("a\nb\na\n", "twice")])
def test_lists_of_ids_are_checked(tmp_path, content, said):
    (tmp_path / "train.txt").write_text(content)
    with pytest.raises(StudyError, match=said):
        native.read_list(tmp_path / "train.txt")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real part of VOC at {REAL}")
def test_real_voc():
    found = voc.splits(REAL)
    assert {name: len(items) for name, items in found.items()} == {"train": 437, "val": 445, "trainval": 882, "train_aug": 1000}
    assert not {item.id for item in found["train_aug"]} & {item.id for item in found["val"]}
    assert [item.id for item in found["train_aug"]] == sorted(item.id for item in found["train_aug"])
    own = [item for item in found["train_aug"] if item.label.parent.name == "SegmentationClass"]
    assert {item.id for item in own} == {item.id for item in found["train"]}
    for item in found["val"][::60]:
        label = voc.label(item)
        assert label.shape == native.read_image(item.image).shape[:2] and 255 in label and (label[label < 255] <= 20).all()
    for item in [each for each in found["train_aug"] if each not in own][::100]:
        assert 255 not in voc.label(item)


@pytest.mark.parametrize("name", ["/tmp/victim/photo", "../../../escaped", "a/../../b"])
def test_ids_that_lead_out_of_the_data_set_are_refused(tmp_path, name):
    """Label maps are written under these names (stages.submit)."""
    (tmp_path / "test.txt").write_text(f"2008_000001\n{name}\n")
    with pytest.raises(StudyError, match="leads out of the data set"):
        native.read_list(tmp_path / "test.txt")
    (tmp_path / "test.txt").write_text("city/frame..1\n")
    assert native.read_list(tmp_path / "test.txt") == ["city/frame..1"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e300", "4e7", "-1000"])
def test_coco_outlines_that_lead_nowhere_are_named(instances, value):
    """pycocotools takes 20 GB for a NaN, and does not survive 1e300."""
    path = instances / "annotations/instances_train2017.json"
    text = path.read_text()
    assert "[[10, 10, 50, 10" in text
    path.write_text(text.replace("[[10, 10, 50, 10", f"[[10, 10, {value}, 10", 1))
    with pytest.raises(OSError, match="cannot be decoded: an outline leads far out"):
        coco.label(coco.splits(instances)["train"][0])


def test_coco_masks_and_images_of_absurd_sizes_are_named(instances):
    path = instances / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    crowd = next(each for each in content["annotations"] if each.get("iscrowd"))
    crowd["segmentation"]["size"] = [20000, 20000]
    path.write_text(json.dumps(content))
    with pytest.raises(OSError, match="cannot be decoded: a mask of .20000, 20000. on an image of 60x80"):
        coco.label(coco.splits(instances)["train"][0])
    content["images"][0]["height"] = 10 ** 7
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match="is not a COCO instances file: ValueError: an image of 10000000x80 pixels"):
        coco.splits(instances)


def test_postscript_is_not_run(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    from pipeline.evaluation import photos
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **more: pytest.fail("gs was called"))
    Image.new("RGB", (5, 4)).save(tmp_path / "made.eps")
    (tmp_path / "made.eps").rename(tmp_path / "holiday.jpg")
    for read in (native.read_image, photos.read):
        with pytest.raises(OSError, match="is PostScript, a program"):
            read(tmp_path / "holiday.jpg")
