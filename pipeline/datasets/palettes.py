"""Colours of the classes as the data sets publish them, and pictures as the bytes of a file."""
import io

import numpy as np
from PIL import Image

from pipeline.datasets import native

CREAM = (224, 224, 192)  # void, as in VOC's own pictures


def of(dataset: str, classes: int) -> bytes:
    """768 bytes: RGB of the 256 label values of `dataset` (voc, coco, cityscapes) with `classes` classes; 255 is void."""
    table = np.zeros((256, 3), np.uint8)
    colours = native.reader(dataset).colours(classes)
    table[:len(colours)] = colours
    table[255] = CREAM
    return table.tobytes()


def png(labels: np.ndarray, palette: bytes) -> bytes:
    """A label map, (H, W) uint8, as a palette PNG. palette: 768 bytes, as `of` gives them."""
    picture = Image.fromarray(labels)
    picture.putpalette(palette)
    return encoded(picture)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    """`picture` as a file. options: as Image.save takes them."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
