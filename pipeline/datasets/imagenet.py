"""ImageNet classification from folders with one folder a class (train/CLASS/*.JPEG, val/CLASS/*.JPEG)."""
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.native import Item, read_image
from pipeline.study import StudyError

SUFFIXES = {".jpeg", ".jpg", ".png"}
CENTRE = .875  # side of the central part that the published top-1 errors are measured on


def splits(root: Path) -> dict[str, list[Item]]:
    """train and val, as far as they are there. Classes are numbered in the order of their folders' names, as synsets are."""
    numbers = {name: number for number, name in enumerate(classes(root))}
    found = {}
    for split in ("train", "val"):
        files = sorted(path for path in (Path(root) / split).glob("*/*") if path.suffix.lower() in SUFFIXES)
        if files:
            found[split] = [Item(f"{path.parent.name}/{path.stem}", path, numbers[path.parent.name]) for path in files]
    return found


def classes(root: Path) -> list[str]:
    names = sorted({path.name for split in ("train", "val") for path in (Path(root) / split).glob("*") if path.is_dir()})
    if not names:
        raise StudyError(f"{root} holds no ImageNet: expected val/CLASS/*.JPEG (and train/CLASS/*.JPEG to train)")
    return names


def read(item: Item, size: tuple[int, int]) -> np.ndarray:
    """uint8 (*size, 3). An image of another size has its central 87.5 % resized to `size` (height, width)."""
    pixels = read_image(item.image)
    if pixels.shape[:2] == tuple(size):
        return pixels
    image = Image.fromarray(pixels)
    x, y = (side * (1 - CENTRE) / 2 for side in image.size)
    box = (x, y, image.size[0] - x, image.size[1] - y)
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box))
