"""Void borders around objects, as VOC's annotators drew them: a stroke of about five pixels along every outline, thin parts too.

Two pixels outside the object and two inside. The stroke is as wide as on VOC's large images, not scaled with ours: output stride
and trimap widths are in pixels too, so what lies right beside the void is as far from the outline, in strides, as in Figure 5.
"""
import numpy as np
from PIL import Image, ImageFilter


def borders(objects: np.ndarray) -> np.ndarray:
    """bool (H, W): the void pixels of int (H, W) `objects` (0 background, else an object's number)."""
    void = _beside(objects)
    void |= np.any(_neighbours(void), axis=0) & (objects == 0)
    for number in range(1, objects.max() + 1):
        mask = Image.fromarray(np.where(objects == number, 255, 0).astype(np.uint8))
        core = np.asarray(mask.filter(ImageFilter.MinFilter(5))) > 0
        void |= (objects == number) & ~core
    return void


def _beside(objects: np.ndarray) -> np.ndarray:
    """bool (H, W): pixels that touch another object by a side, on the side of the larger one, which lies behind."""
    areas = np.bincount(objects.ravel())
    areas[0] = objects.size + 1  # the background is behind everything
    return np.any([(other != objects) & (areas[other] < areas[objects]) for other in _neighbours(objects)], axis=0)


def _neighbours(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """(H, W) each: the pixels above, below, left and right; beyond the edge the pixel itself."""
    framed = np.pad(pixels, 1, mode="edge")
    return framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
