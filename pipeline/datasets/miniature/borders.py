"""Void borders around objects, as VOC's annotators drew them: a stroke of three pixels along every outline.

Two pixels lie outside the object and one inside, where the object is thick enough to spare it; VOC's strokes have about five
pixels on images five times as large. What remains right beside the void is then one to two pixels from the true outline:
a network that predicts at stride 4 can get it right, and one that predicts at stride 16 cannot, as in the paper's Figure 5.
"""
import numpy as np
from PIL import Image, ImageFilter


def borders(objects: np.ndarray) -> np.ndarray:
    """bool (H, W): the void pixels of int (H, W) `objects` (0 background, else an object's number)."""
    outside = _beside(objects)
    outside |= _grown(outside) & (objects == 0)
    inside = np.zeros(objects.shape, bool)
    for number in range(1, objects.max() + 1):
        mask = Image.fromarray(np.where(objects == number, 255, 0).astype(np.uint8))
        core = mask.filter(ImageFilter.MinFilter(3))
        thick = np.asarray(core.filter(ImageFilter.MaxFilter(3))) > 0  # thin parts do not survive the core, and keep their width
        inside |= (objects == number) & thick & (np.asarray(core) == 0)
    return outside | inside


def _beside(objects: np.ndarray) -> np.ndarray:
    """bool (H, W): pixels that touch another object by a side, on the side of the larger one, which lies behind."""
    areas = np.bincount(objects.ravel())
    areas[0] = objects.size + 1  # the background is behind everything
    framed = np.pad(objects, 1, mode="edge")
    neighbours = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    return np.any([(other != objects) & (areas[other] < areas[objects]) for other in neighbours], axis=0)


def _grown(mask: np.ndarray) -> np.ndarray:
    framed = np.pad(mask, 1)
    return framed[:-2, 1:-1] | framed[2:, 1:-1] | framed[1:-1, :-2] | framed[1:-1, 2:]
