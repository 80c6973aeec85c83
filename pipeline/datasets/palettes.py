"""Colours of the classes as the data sets publish them, for palette PNGs."""
import numpy as np

from pipeline.datasets import native


def of(dataset: str, classes: int) -> bytes:
    """768 bytes: RGB of the 256 label values of `dataset` (voc, coco, cityscapes) with `classes` classes; 255 is void."""
    table = np.zeros((256, 3), np.uint8)
    colours = native.reader(dataset).colours(classes)
    table[:len(colours)] = colours
    table[255] = (224, 224, 192)  # VOC's void
    return table.tobytes()
