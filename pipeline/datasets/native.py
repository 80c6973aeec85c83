"""What every reader of a native layout gives: items (id, image file, label source), and how files become arrays.

Each of the modules voc, coco, cityscapes, imagenet has TITLE, its name in the report, `splits(root) -> {split: [Item]}`
(coco's takes `proportional`, too) and `classes(root) -> names` (asked by `classes` below), COUNTS, {split: images} of the
complete data set, and FILLED, the part of the canvas that an image takes; coco, whose splits leave images out, also
`counts(root) -> {split: images}` of all that are there. Those of segmentation have `colours(count) -> uint8 (count, 3)` and
`label(item) -> uint8 (H, W)`, class numbers and 255 for void, and the same classes whatever `root` holds; those with a test
server `images(root, split) -> [Item]` without labels. In imagenet an item's label is its class number, and `read(item, size)
-> uint8 (*size, 3)` gives the image.
"""
import contextlib
import importlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from pipeline.datasets import png
from pipeline.schema import Dataset
from pipeline.study import StudyError


@dataclass(frozen=True)
class Item:
    """One image of a split. `label`: the label file, or what else the data set's reader makes the label of."""
    id: str
    image: Path
    label: Any


def reader(dataset: str):
    """The module that reads `dataset`."""
    return importlib.import_module(f"pipeline.datasets.{dataset}")


def classes(dataset: str, settings: Dataset | None, root: Path = Path()) -> list[str]:
    """Names of the classes of `dataset`: those that a scale's `settings` of it give them, or else its own, which published
    networks know (settings: None). root: where it lies; imagenet alone has other classes elsewhere."""
    named = settings.source.classes if settings and settings.source else None
    return list(named or reader(dataset).classes(root))


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB. Raises OSError where the file cannot be decoded to its end, or has grey levels of 16 bits."""
    content = path.read_bytes()
    if content.startswith(b"\xff\xd8"):  # JPEG: the same pixels as Pillow's, a quarter faster
        with contextlib.suppress(ValueError):  # damaged: Pillow says what is wrong, as of other formats, CMYK and giants
            height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
            if colours in ("YCbCr", "RGB", "Gray") and height * width <= Image.MAX_IMAGE_PIXELS:
                return simplejpeg.decode_jpeg(content)
    with opened(io.BytesIO(content)) as image:
        if image.mode.startswith(("I", "F")):  # Pillow would make white of all above 255, or black of 0 to 1
            raise OSError(f"has grey levels of more than 8 bits ({image.mode}): save it with 8")
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def turned(path: Path) -> bool:
    """Whether a viewer shows the photo otherwise than it is stored, as its EXIF says."""
    with path.open("rb") as file:
        if b"Exif" not in file.read(64):  # what most photos are is known at once
            return False
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"), opened(path) as image:  # EXIF may be damaged
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return False


def opened(source) -> Image.Image:
    """The picture in a path or file, not decoded yet. OSError where it is none, or PostScript: Pillow would run Ghostscript."""
    try:
        image = Image.open(source)
    except UnidentifiedImageError:  # its words name an object in memory
        raise UnidentifiedImageError("is not an image that Pillow can read") from None
    if image.format == "EPS":
        image.close()
        raise OSError("is PostScript, a program rather than a picture: save it as PNG")
    return image


def read_labels(path: Path) -> np.ndarray:
    """uint8 (H, W): the indices of a palette or grey PNG, unchanged. Raises OSError as above or where the image has colours."""
    content = path.read_bytes()
    if (label := png.unfiltered(content)) is not None:
        return label
    with opened(io.BytesIO(content)) as image:
        if image.mode in ("1", "L") and png.bits(content) < 8:  # decoders spread greys of fewer bits over 0 to 255
            raise OSError(f"a grey label image has 8 bits, this one {png.bits(content)}: save it with 8, or with a palette")
        if image.mode not in ("P", "L"):
            raise OSError(f"a label image has one channel of 8 bits, this one is {image.mode}: save the numbers of the classes, "
                          "as grey or palette PNG (docs/own-data.md)")
        return np.asarray(image)


def read_list(path: Path) -> list[str]:
    """The ids in a text file, one a line. StudyError where it is missing or empty, or has an id twice or outside the data set."""
    if not path.is_file():
        raise StudyError(f"{path} is missing: is {path.parent} the native layout of the data set?")
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # editors of Windows begin a file with a mark
        ids = [line.strip() for line in lines if line.strip()]
        if any("\0" in each for each in ids):
            raise ValueError("it holds zeros")
    except ValueError as error:
        raise StudyError(f"{path} is no list of names: {error}") from error
    if not ids:
        raise StudyError(f"{path} is empty")
    if len(set(ids)) < len(ids):
        raise StudyError(f"{path} names an image twice: {Counter(ids).most_common(1)[0][0]}; take one of the lines out")
    if outside := [each for each in ids if each.startswith("/") or ".." in each.split("/")]:
        raise StudyError(f"{path} names {outside[0]!r}, which leads out of the data set")
    return ids


def listed(folder: Path) -> list[Path]:
    """What lies in `folder`, sorted; nothing where it is none. StudyError where it cannot be read; Path.glob passes over it."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        refuse_unreadable(error)
        return []


def files(root: Path) -> Iterator[str]:
    """The paths of all files under `root`, those behind links too, each folder once. StudyError where one cannot be read."""
    seen = {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, onerror=refuse_unreadable, followlinks=True):
        fresh = []
        for name in sorted(folders):
            place = os.path.realpath(os.path.join(folder, name))
            if place not in seen:
                seen.add(place)
                fresh.append(name)
        folders[:] = fresh  # what os.walk enters next
        yield from (os.path.join(folder, name) for name in names)


def refuse_unreadable(error: OSError):
    """Raise StudyError of a folder that is there and cannot be read: the data set would look complete. Not of lost+found."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError) and os.path.basename(error.filename) != "lost+found":
        raise StudyError(f"the folder {error.filename} cannot be read ({error.strerror}): chmod u+rx gives you the right to, or "
                         "take it out of the data set") from error
