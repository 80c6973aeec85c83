"""COCO 2017 for pretraining: the 20 classes of VOC by name, every other class background (section 4 of the paper)."""
from array import array
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets import jsonlists, voc
from pipeline.datasets.native import Item, listed
from pipeline.study import StudyError

TITLE = "COCO"
FILLED = 0.75  # photos of 4:3
COUNTS = {"train": 118287, "val": 5000}  # images of COCO 2017, before some are left out
MINIMUM_PIXELS = 1000       # images with fewer pixels in objects of the 20 classes are left out ...
REFERENCE_AREA = 640 * 480  # ... at the usual image size; generated images are smaller and take the same share of their area
FAR = 4                     # image sides that an outline may lead out of its image
CATEGORY_IDS = {"person": 1, "bicycle": 2, "car": 3, "motorcycle": 4, "airplane": 5, "bus": 6, "train": 7, "boat": 9, "bird": 16,
                "cat": 17, "dog": 18, "horse": 19, "sheep": 20, "cow": 21, "bottle": 44, "chair": 62, "couch": 63,
                "potted plant": 64, "dining table": 67, "tv": 72}
_NAMES = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "pottedplant": "potted plant",
          "diningtable": "dining table", "tvmonitor": "tv"}


@dataclass(frozen=True)
class Annotations:
    """Where the annotations of a split lie. Only their places in the file are kept in memory, not the outlines."""
    path: Path
    changed: tuple[int, int]                # size and time of the file: parts made of another one are not used
    numbers: tuple[tuple[int, int], ...]    # (COCO's category id, VOC class)


def counts(root: Path) -> dict[str, int]:
    """Images by split, those that are left out included."""
    return {split: len(listed(Path(root) / f"{split}2017")) for split in COUNTS}


def coco_name(name: str) -> str:
    """COCO's name of a VOC class."""
    return _NAMES.get(name, name)


def classes(root: Path) -> list[str]:
    return list(voc.CLASSES)


colours = voc.colours


def splits(root: Path, proportional: bool = False) -> dict[str, list[Item]]:
    """train and val: images with more than 1,000 pixels in objects of the 20 classes, crowds left out. `proportional`: more than
    that share of a 640x480 image, for generated images. An item's label is (Annotations, height, width, spans in the file)."""
    root = Path(root)
    found = {split: _split(root, split, proportional) for split in ("train", "val")
             if (root / f"annotations/instances_{split}2017.json").is_file()}
    if not found:
        raise StudyError(f"{root} holds no COCO 2017: expected annotations/instances_train2017.json and train2017/ in it")
    return found


def _split(root: Path, split: str, proportional: bool) -> list[Item]:
    path = root / f"annotations/instances_{split}2017.json"
    images, names = [], {}
    columns = [array(code) for code in "qqqqd"]  # of annotations: image, category, place, length, area
    try:
        for key, each, (start, length) in jsonlists.elements(path):
            if key == "images":
                if not 0 < each["height"] * each["width"] <= Image.MAX_IMAGE_PIXELS:
                    raise ValueError(f"an image of {each['height']}x{each['width']} pixels")
                images.append((each["id"], each["file_name"], each["height"], each["width"]))
            elif key == "categories":
                names[each["name"]] = each["id"]
            elif key == "annotations":
                area = 0 if each.get("iscrowd") else each["area"]  # a crowd is void
                for column, value in zip(columns, (each["image_id"], each["category_id"], start, length, area)):
                    column.append(value)
        numbers = {names[coco_name(name)]: index for index, name in enumerate(voc.CLASSES) if index}
        spans, sums = defaultdict(list), defaultdict(float)
        for owner, category, start, length, area in zip(*columns):
            if category in numbers:
                spans[owner].append((start, length))
                sums[owner] += area
        stat, items = path.stat(), []
        source = Annotations(path, (stat.st_size, stat.st_mtime_ns), tuple(numbers.items()))
        for number, name, height, width in sorted(images):
            share = height * width / REFERENCE_AREA if proportional else 1
            if sums[number] > MINIMUM_PIXELS * share:
                picture = root / f"{split}2017" / name
                items.append(Item(picture.stem, picture, (source, height, width, tuple(spans[number]))))
        return items
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StudyError(f"{path} is not a COCO instances file: {type(error).__name__}: {error}") from error


def label(item: Item) -> np.ndarray:
    """uint8 (H, W): VOC class numbers; 255 where objects of different classes overlap, and on crowds."""
    source, height, width, spans = item.label
    numbers, labels = dict(source.numbers), np.zeros((height, width), np.uint8)
    for span in spans:
        which = f"an annotation of {source.path}"
        try:
            found = jsonlists.element(source.path, span)
            which = f"annotation {found.get('id', 'without id')} of {source.path}"
            number, crowd = numbers[found["category_id"]], bool(found.get("iscrowd"))
            mask = _mask(found["segmentation"], height, width)
        except Exception as error:  # pycocotools raises whatever the wrong input leads it to
            raise OSError(f"{which} cannot be decoded: {error}") from error
        labels[mask] = np.where((labels[mask] == 0) | (labels[mask] == number), voc.VOID if crowd else number, voc.VOID)
    return labels


def _mask(segmentation, height: int, width: int) -> np.ndarray:
    """bool (H, W): the pixels in outlines, or in runs. ValueError of masks of another size, runs that do not fill them, and
    outlines far out, for which pycocotools would take gigabytes, or which it does not survive."""
    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"a mask of {segmentation['size']} on an image of {height}x{width}")
        counts = segmentation["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else counts
        if set(map(type, runs)) != {int} or min(runs) < 0 or sum(runs) != height * width:
            raise ValueError(f"its runs are not whole numbers from 0 on that add up to {height}x{width} pixels")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((height, width), order="F")  # down the columns
    if not all((np.abs(np.asarray(each, float)) <= FAR * max(height, width)).all() for each in segmentation):
        raise ValueError("an outline leads far out of the image")  # or nowhere: NaN
    if odd := [len(each) for each in segmentation if len(each) % 2]:  # pycocotools would leave out the last
        raise ValueError(f"an outline of {odd[0]} numbers: they come in pairs")
    from pycocotools import mask as coder
    return coder.decode(coder.merge(coder.frPyObjects(segmentation, height, width))).astype(bool)


def _unpacked(counts: str) -> list[int]:
    """The runs in COCO's compressed text, as rleFrString of its maskApi.c reads it: 5 bits a character, the lowest first; a sixth
    says that more follow; from the fourth run on the difference to the one before the last. ValueError where it is none."""
    runs, run, shift = [], 0, 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"{character!r} in its runs is not COCO's compressed text")
        run |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            run -= (bits & 16) << shift - 4  # the sign: the highest bit of all
            runs.append(run + (runs[-2] if len(runs) > 2 else 0))
            run = shift = 0
    if shift:
        raise ValueError("its runs break off")
    return runs
