"""Cityscapes: street scenes with fine or coarse labels of 19 classes, in its native layout (leftImg8bit, gtFine, gtCoarse)."""
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.datasets.native import Item, listed, read_labels
from pipeline.study import StudyError

TITLE = "Cityscapes"
FILLED = 1
COUNTS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998,
          "trainval": 3475, "train_coarse": 22973, "trainval_coarse": 23473}
TOGETHER = {"trainval": ("train", "val"), "train_coarse": ("train", "train_extra"),
            "trainval_coarse": ("train", "val", "train_extra")}
VOID = 255


@cache
def _table():
    """The 19 classes in the order of their train ids, by cityscapesscripts' table."""
    from cityscapesscripts.helpers.labels import labels
    return sorted((each for each in labels if 0 <= each.trainId < 255), key=lambda each: each.trainId)


@cache
def train_ids() -> np.ndarray:
    """uint8 (256,): train id of every label id; 255 for those that are not evaluated and for those that do not exist."""
    table = np.full(256, VOID, np.uint8)
    for each in _table():
        table[each.id] = each.trainId
    return table


def label_ids() -> np.ndarray:
    """uint8 (19,): label id of every train id, which is what the evaluation server takes."""
    return np.array([each.id for each in _table()], np.uint8)


@cache
def _known() -> np.ndarray:
    from cityscapesscripts.helpers.labels import labels
    known = np.zeros(256, bool)
    known[[each.id for each in labels if each.id >= 0]] = True
    return known


def classes(root: Path) -> list[str]:
    return [each.name for each in _table()]


def colours(count: int) -> np.ndarray:
    return np.array([each.color for each in _table()], np.uint8)[:count]


def splits(root: Path) -> dict[str, list[Item]]:
    """train, val and train_extra (coarse labels), and the authors' trainval, train_coarse and trainval_coarse (data_generator.py)
    of them, as far as they are there, each sorted by id (CITY_SEQUENCE_FRAME)."""
    found = {}
    for split, kind in (("train", "gtFine"), ("val", "gtFine"), ("train_extra", "gtCoarse")):
        labels = Path(root) / kind / split
        if (items := images(root, split)) and (kind == "gtFine" or labels.is_dir()):
            found[split] = [Item(item.id, item.image, labels / item.image.parent.name / f"{item.id}_{kind}_labelIds.png")
                            for item in items]
    if not found:
        raise StudyError(f"{root} holds no Cityscapes: expected leftImg8bit/train/CITY/*_leftImg8bit.png and gtFine beside it")
    found |= {split: sorted((item for part in parts for item in found[part]), key=lambda item: item.id)
              for split, parts in TOGETHER.items() if found.keys() >= set(parts)}
    return found


def images(root: Path, split: str) -> list[Item]:
    """The images of leftImg8bit/SPLIT, without labels: those of `test` are the server's."""
    cities = listed(Path(root) / "leftImg8bit" / split)
    paths = [path for city in cities for path in listed(city) if path.name.endswith("_leftImg8bit.png")]
    return [Item(path.name.removesuffix("_leftImg8bit.png"), path, None) for path in paths]


def label(item: Item) -> np.ndarray:
    """uint8 (H, W) train ids, 255 void. Raises OSError where the file has a label id that Cityscapes does not."""
    ids = read_labels(item.label)
    unknown = np.flatnonzero((np.bincount(ids.ravel(), minlength=256) > 0) & ~_known())
    if len(unknown):
        raise OSError(f"label ids {unknown.tolist()} do not exist in Cityscapes")
    return train_ids()[ids]
