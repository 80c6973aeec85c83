"""The trimap by its other plausible definition, to show what the choice matters (Figure 5; section 4.4 of the paper).

The paper dilates the void annotations and does not name the structuring element. The facts use a disc: a pixel is in the band of
width w if a void pixel lies within the Euclidean distance w. With a square element it is within w rows and w columns, so each
square band holds the disc's band and reaches up to sqrt(2) times as far. Void has no class in either. No torch here.
"""
import numpy as np

from pipeline.datasets.shards import VOID, Shard
from pipeline.datasets.trimap import BANDS, TRIMAP_WIDTHS
from pipeline.evaluation.measure import decoded


def square_distance(label: np.ndarray) -> np.ndarray:
    """uint8 (H, W): max(rows, columns) from each pixel of `label` to the nearest 255; 255 at most, and without void."""
    from scipy.ndimage import distance_transform_cdt
    void = label == VOID
    if not void.any():
        return np.full(label.shape, 255, np.uint8)
    return np.minimum(distance_transform_cdt(~void, metric="chessboard"), 255).astype(np.uint8)


def recounted(shard: Shard, curves: list[dict], distance=square_distance) -> np.ndarray:
    """Pixels by (band, target, prediction) of each curve, banded by `distance`(label) instead of the disc, for
    `metrics.miou_within`: int64 (curves, BANDS, classes, classes).

    curves: of each its label maps as `measure.label_maps` gives them, of images of `shard`. Image by image, as all curves share
    its distances.
    """
    classes, band_of = len(shard.classes), np.searchsorted(TRIMAP_WIDTHS, np.arange(256))
    counts = np.zeros((len(curves), BANDS * classes ** 2), np.int64)
    for number, name in enumerate(shard.ids):
        mapped = [(row, maps[name]) for row, maps in zip(counts, curves) if name in maps]
        if mapped:
            label = shard[number].label
            valid = label != VOID
            first = (band_of[distance(label)[valid]] * classes + label[valid]) * classes
            for row, png in mapped:
                row += np.bincount(first + decoded(png)[valid], minlength=len(row))
    return counts.reshape(-1, BANDS, classes, classes)
