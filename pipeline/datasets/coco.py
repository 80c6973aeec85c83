"""COCO 2017 for pretraining: the 20 classes of VOC by name, every other class background (section 4 of the paper)."""
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from pipeline.datasets import voc
from pipeline.datasets.native import Item
from pipeline.study import StudyError

MINIMUM_PIXELS = 1000       # images with fewer annotated pixels of the 20 classes are left out ...
REFERENCE_AREA = 640 * 480  # ... at the usual image size; generated images are smaller and take the same share of their area
CATEGORY_IDS = {"person": 1, "bicycle": 2, "car": 3, "motorcycle": 4, "airplane": 5, "bus": 6, "train": 7, "boat": 9, "bird": 16,
                "cat": 17, "dog": 18, "horse": 19, "sheep": 20, "cow": 21, "bottle": 44, "chair": 62, "couch": 63,
                "potted plant": 64, "dining table": 67, "tv": 72}
_NAMES = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "pottedplant": "potted plant",
          "diningtable": "dining table", "tvmonitor": "tv"}


def coco_name(name: str) -> str:
    """COCO's name of a VOC class."""
    return _NAMES.get(name, name)


def classes(root: Path) -> list[str]:
    return list(voc.CLASSES)


colours = voc.colours


def splits(root: Path, proportional: bool = False) -> dict[str, list[Item]]:
    """train and val: images with more than 1,000 annotated pixels of the 20 classes. `proportional`: more than that share of a
    640x480 image, for generated images. An item's label is (height, width, [(VOC class, segmentation, is a crowd)])."""
    root = Path(root)
    found = {split: _split(root, split, proportional) for split in ("train", "val")
             if (root / f"annotations/instances_{split}2017.json").is_file()}
    if not found:
        raise StudyError(f"{root} holds no COCO 2017: expected annotations/instances_train2017.json and train2017/ in it")
    return found


def _split(root: Path, split: str, proportional: bool) -> list[Item]:
    path = root / f"annotations/instances_{split}2017.json"
    try:
        content = json.loads(path.read_text())
        numbers = {each["name"]: each["id"] for each in content["categories"]}
        ids = {numbers[coco_name(name)]: index for index, name in enumerate(voc.CLASSES) if index}
        objects, areas = defaultdict(list), defaultdict(float)
        for each in content["annotations"]:
            if each["category_id"] in ids:
                objects[each["image_id"]].append((ids[each["category_id"]], each["segmentation"], bool(each.get("iscrowd"))))
                areas[each["image_id"]] += each["area"]
        items = []
        for image in sorted(content["images"], key=lambda image: image["id"]):
            size = image["height"], image["width"]
            share = size[0] * size[1] / REFERENCE_AREA if proportional else 1
            if areas[image["id"]] > MINIMUM_PIXELS * share:
                picture = root / f"{split}2017" / image["file_name"]
                items.append(Item(picture.stem, picture, (*size, objects[image["id"]])))
        return items
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is not a COCO instances file: {type(error).__name__}: {error}") from error


def label(item: Item) -> np.ndarray:
    """uint8 (H, W): VOC class numbers; 255 where objects of different classes overlap, and on crowds."""
    from pycocotools import mask as coder
    height, width, objects = item.label
    labels = np.zeros((height, width), np.uint8)
    for number, segmentation, crowd in objects:
        try:
            packed = isinstance(segmentation, dict) and isinstance(segmentation["counts"], str)
            coded = segmentation if packed else coder.frPyObjects(segmentation, height, width)
            mask = coder.decode(coder.merge(coded) if isinstance(coded, list) else coded).astype(bool)
        except Exception as error:  # pycocotools raises whatever the wrong input leads it to
            raise OSError(f"an annotation cannot be decoded: {error}") from error
        if mask.shape != labels.shape:
            raise OSError(f"an annotation of {mask.shape} on an image of {labels.shape}")
        labels[mask] = np.where((labels[mask] == 0) | (labels[mask] == number), voc.VOID if crowd else number, voc.VOID)
    return labels
