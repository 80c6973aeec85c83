"""ImageNet classification from folders with one folder a class (train/CLASS/*.JPEG, val/CLASS/*.JPEG)."""
from pathlib import Path

import numpy as np

from pipeline import progress
from pipeline.datasets.native import Item, listed, read_image
from pipeline.study import StudyError

TITLE = "ImageNet"
FILLED = 1
SUFFIXES = {".jpeg", ".jpg", ".png"}
COUNTS = {"train": 1281167, "val": 50000}
CENTRE = .875  # side of the central part that an image is classified by


def splits(root: Path) -> dict[str, list[Item]]:
    """train and val, as far as they are there. Classes are numbered in the order of their folders' names, as synsets are."""
    found = _pictures(root)
    numbers = {name: number for number, name in enumerate(_named(root, found))}
    return {split: [Item(f"{name}/{path.stem}", path, numbers[name]) for name, paths in folders.items() for path in paths]
            for split, folders in found.items() if folders}


def classes(root: Path) -> list[str]:
    """Names of the folders that hold images, sorted."""
    return _named(root, _pictures(root))


def _pictures(root: Path) -> dict[str, dict[str, list[Path]]]:
    """The images by split and folder, without folders that hold none. With train there are 1.3 million."""
    folders = [folder for split in ("train", "val") for folder in listed(Path(root) / split)]
    found = {"train": {}, "val": {}}
    for folder in progress.bar(f"list {TITLE}", len(folders), "folder", of=folders, patience=3):
        if pictures := [path for path in listed(folder) if path.suffix.lower() in SUFFIXES]:
            found[folder.parent.name][folder.name] = pictures
    return found


def _named(root: Path, found: dict[str, dict[str, list[Path]]]) -> list[str]:
    names = sorted({name for folders in found.values() for name in folders})
    if not names:
        raise StudyError(f"{root} holds no ImageNet: expected val/CLASS/*.JPEG (and train/CLASS/*.JPEG to train)")
    return names


def read(item: Item, size: tuple[int, int] | None) -> np.ndarray:
    """uint8 (*size, 3): the central 87.5 % of an image, resized to `size` (height, width); the whole image where it is None.

    As the authors' library evaluates classifiers (TensorFlow slim, inception_preprocessing.preprocess_for_eval): a crop of whole
    pixels, then bilinear between the neighbours of (row, column) * input / output. Nothing is averaged, however much it shrinks.
    """
    pixels = read_image(item.image)
    if size is None:
        return pixels
    cuts = [int((side - side * CENTRE) / 2) for side in pixels.shape[:2]]
    part = pixels[tuple(slice(cut, side - cut) for cut, side in zip(cuts, pixels.shape))]
    for axis, length in enumerate(size):
        side = part.shape[axis]
        at = np.arange(length) * (side / length)
        low = at.astype(int)
        weight = np.expand_dims((at - low).astype(np.float32), tuple(range(1, 3 - axis)))
        here, there = (part.take(each, axis) for each in (low, np.minimum(low + 1, side - 1)))
        part = here + (there - here.astype(np.float32)) * weight
    return part.round().astype(np.uint8)
