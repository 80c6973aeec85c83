"""The trimap by its other plausible definition, to show what the choice matters (Figure 5; section 4.4 of the paper).

The paper dilates the void annotations and does not name the structuring element. The facts use a disc: a pixel is in the band of
width w if a void pixel lies within the Euclidean distance w. With a square element it is within w rows and w columns, so each
square band holds the disc's band and reaches up to sqrt(2) times as far. Void has no class in either. No torch here.
"""
import numpy as np

from pipeline.datasets.shards import VOID, Shard
from pipeline.datasets.trimap import BANDS, TRIMAP_WIDTHS
from pipeline.evaluation.measure import decoded
from pipeline.evaluation.metrics import Facts


def square_distance(label: np.ndarray) -> np.ndarray:
    """uint8 (H, W): max(rows, columns) from each pixel of `label` to the nearest 255; 255 at most, and without void."""
    from scipy.ndimage import distance_transform_cdt
    void = label == VOID
    if not void.any():
        return np.full(label.shape, 255, np.uint8)
    return np.minimum(distance_transform_cdt(~void, metric="chessboard"), 255).astype(np.uint8)


def recounted(shard: Shard, strategy: str, maps: dict, distance=square_distance) -> Facts:
    """The facts of `strategy`, banded by `distance`(label) instead of the disc, for `metrics.trimap_curve`.

    maps: its label maps as `measure.label_maps` gives them, of images of `shard`.
    """
    classes, band_of = len(shard.classes), np.searchsorted(TRIMAP_WIDTHS, np.arange(256))
    number_of, columns = {name: number for number, name in enumerate(shard.ids)}, []
    images = sorted(maps)
    for code, name in enumerate(images):
        label = shard[number_of[name]].label
        prediction, valid = decoded(maps[name]), label != VOID
        cell = (band_of[distance(label)[valid]] * classes + label[valid]) * classes + prediction[valid]
        counts = np.bincount(cell, minlength=BANDS * classes ** 2).reshape(BANDS, classes, classes)
        at = np.nonzero(counts)
        columns.append([np.full(len(at[0]), code), *at, counts[at]])
    image, band, target, prediction, pixels = (np.concatenate(parts) for parts in zip(*columns))
    small = (each.astype(np.uint8) for each in (band, target, prediction))
    codes = np.zeros(len(image), np.int32), image.astype(np.int32)
    return Facts((strategy,), tuple(images), *codes, *small, pixels.astype(np.int64))
