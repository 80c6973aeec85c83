"""PASCAL VOC 2012 segmentation, with the extra masks of SBD (train_aug), in their native layouts."""
from pathlib import Path

import numpy as np

from pipeline.datasets import mat
from pipeline.datasets.native import Item, read_labels, read_list
from pipeline.study import StudyError

TITLE = "PASCAL VOC 2012"
FILLED = 0.75  # photos of 4:3
CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
           "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
VOID = 255
COUNTS = {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582, "test": 1456}  # of all of VOC; section 4 of the paper


def palette() -> np.ndarray:
    """uint8 (256, 3): VOC's colours, whose bits are the bits of the label interleaved (VOCdevkit's VOClabelcolormap)."""
    labels = np.arange(256)
    channels = [sum(((labels >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
    return np.stack(channels, 1).astype(np.uint8)


def classes(root: Path) -> list[str]:
    return list(CLASSES)


def colours(count: int) -> np.ndarray:
    return palette()[:count]


def home(root: Path) -> Path:
    """The folder that holds JPEGImages, given that or one of the folders above it."""
    for folder in (root, root / "VOC2012", root / "VOCdevkit/VOC2012"):
        if (folder / "JPEGImages").is_dir():
            return folder
    raise StudyError(f"{root} holds no VOC 2012: expected JPEGImages, SegmentationClass, ImageSets in VOCdevkit/VOC2012 below it")


def splits(root: Path) -> dict[str, list[Item]]:
    """train, val, trainval and train_aug. train_aug is (VOC train + SBD train + SBD val) - VOC val, sorted, where SBD lies at
    ROOT/benchmark_RELEASE (its masks as .mat files); else the list trainaug.txt with masks in SegmentationClassAug. VOC's own
    mask is used where both exist. Raises StudyError where train and val share an image."""
    root = Path(root)
    base = home(root)
    lists = base / "ImageSets/Segmentation"
    train, val = read_list(lists / "train.txt"), read_list(lists / "val.txt")
    if shared := sorted(set(train) & set(val)):
        more = f" and {len(shared) - 1} more" if shared[1:] else ""
        raise StudyError(f"{lists / 'train.txt'} and {lists / 'val.txt'} both name {shared[0]}{more}: scores on images that were "
                         "trained on say nothing; take them out of one of the two")
    sbd = next((folder for folder in (root / "benchmark_RELEASE/dataset", root / "dataset") if (folder / "cls").is_dir()), None)
    if sbd:
        extra, source, suffix = read_list(sbd / "train.txt") + read_list(sbd / "val.txt"), sbd / "cls", ".mat"
    elif (lists / "trainaug.txt").is_file():
        extra, source, suffix = read_list(lists / "trainaug.txt"), base / "SegmentationClassAug", ".png"
    else:
        extra, source, suffix = [], None, None
    official = set(train) | set(val)

    def items(ids):
        return [Item(each, base / f"JPEGImages/{each}.jpg",
                     base / f"SegmentationClass/{each}.png" if each in official else source / f"{each}{suffix}") for each in ids]
    found = {"train": items(train), "val": items(val), "trainval": items(sorted(train + val))}
    if extra:
        found["train_aug"] = items(sorted((set(train) | set(extra)) - set(val)))
    return found


def images(root: Path, split: str) -> list[Item]:
    """The images that ImageSets/Segmentation/SPLIT.txt names, without labels: `test` has none."""
    base = home(Path(root))
    return [Item(each, base / f"JPEGImages/{each}.jpg", None) for each in read_list(base / f"ImageSets/Segmentation/{split}.txt")]


def label(item: Item) -> np.ndarray:
    """uint8 (H, W), 0..20 and 255. SBD's .mat files have no void."""
    if item.label.suffix != ".mat":
        return read_labels(item.label)
    try:
        mask = mat.field(item.label, "GTcls", "Segmentation")
    except ValueError as error:
        raise OSError(f"not a mask of SBD: {error}") from error
    if not np.isin(mask, np.arange(256)).all():
        raise OSError("not a mask of SBD: values beyond 255")
    return mask.astype(np.uint8, "C")
