"""COCO's instances as VOC's classes: which images, which labels, and annotations that no network should see."""
import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from pycocotools import mask as coder

from pipeline.datasets import coco, voc
from pipeline.study import StudyError


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
    text = path.read_text()
    for damaged in (text[:-30], text.replace('"annotations": [', '"annotations": [null, ')):
        path.write_text(damaged)
        with pytest.raises(StudyError, match="instances_train2017.json is not a COCO instances file"):
            coco.splits(instances)


def test_coco_names_cover_the_20_classes():
    assert {coco.coco_name(name) for name in voc.CLASSES[1:]} == set(coco.CATEGORY_IDS)


@pytest.mark.parametrize("value, said", [*((far, "leads far out") for far in ("NaN", "Infinity", "-Infinity", "1e300", "4e7", "-1000")),
                                         ("50, 10", "of 9 numbers: they come in pairs")])
def test_coco_outlines_that_are_none_are_named(instances, value, said):
    """pycocotools takes 20 GB for a NaN, and does not survive 1e300."""
    path = instances / "annotations/instances_train2017.json"
    text = path.read_text()
    assert "[[10, 10, 50, 10" in text
    path.write_text(text.replace("[[10, 10, 50, 10", f"[[10, 10, {value}, 10", 1))
    with pytest.raises(OSError, match=f"cannot be decoded: an outline {said}"):
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


@given(st.data())
def test_coco_compressed_runs_are_read_as_pycocotools_writes_them(data):
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    edges = data.draw(st.sets(st.integers(0, height * width), max_size=200))
    runs = np.diff([0, *sorted(edges), height * width]).tolist()
    counts = coder.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"].decode()
    size, expected = [height, width], coder.decode({"size": [height, width], "counts": counts})
    assert coco._unpacked(counts) == runs
    for written in (counts, runs):
        np.testing.assert_array_equal(coco._mask({"size": size, "counts": written}, height, width), expected)


@pytest.mark.parametrize("counts", [[], [100], [4801], [-1, 4801], [4800, 0, -1, 1], [4294967295, 4801], [4800.0], [None], [True, 4799],
                                    ["4800"], 4800, None, "", "2_", "T4", "no", "\u00e9", "____________", "000" * 40])
def test_coco_runs_that_do_not_fill_the_image_are_named(tmp_path, counts):
    """pycocotools leaves the rest of the mask as the memory was, or writes behind it."""
    write_instances(tmp_path, [(1, 17, [[10, 10, 50, 10, 50, 40, 10, 40]], 1200), (1, 1, {"size": [60, 80], "counts": counts}, 0)])
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["id"] = 4711
    path.write_text(json.dumps(content))
    with pytest.raises(OSError, match="^annotation 4711 of .*instances_train2017.json cannot be decoded: "):
        coco.label(coco.splits(tmp_path)["train"][0])
