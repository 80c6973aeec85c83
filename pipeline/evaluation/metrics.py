"""Every score as a pure function of the confusion facts: mIOU, IoU per class, trimap curve, bootstrap intervals, ranked images.

A fact is one row of `facts.parquet`: (strategy, image, band, target, prediction, pixels). Void pixels (label 255) are not in it.
Band k holds the pixels whose distance d to the nearest void pixel is TRIMAP_WIDTHS[k-1] < d <= TRIMAP_WIDTHS[k]; band 14 is all
that is farther away. Only integers are added up, so scores do not depend on how images were split over files or machines.
"""
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.datasets.trimap import BANDS
from pipeline.study import StudyError

SAMPLES = 10_000


@dataclass(frozen=True)
class Facts:
    """The facts of one run, column by column. `strategy` and `image` are codes (int32) into `strategies` and `images`."""
    strategies: tuple[str, ...]
    images: tuple[str, ...]
    strategy: np.ndarray
    image: np.ndarray
    band: np.ndarray
    target: np.ndarray
    prediction: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, table) -> "Facts":
        """From a pyarrow table like `facts.parquet`, in any order of rows. (to_numpy would import pandas, for seconds.)"""
        codes = {}
        for name in ("strategy", "image"):
            column = table[name].combine_chunks().dictionary_encode()  # as it is where it has a dictionary
            names = np.array(column.dictionary.to_pylist(), dtype=object)
            order = np.argsort(names) if len(names) else np.zeros(0, int)
            rank = np.empty(len(names), np.int32)
            rank[order] = np.arange(len(names), dtype=np.int32)
            codes[name] = tuple(names[order]), rank[np.from_dlpack(column.indices)]
        small = {name: np.from_dlpack(table[name].combine_chunks()) for name in ("band", "target", "prediction", "pixels")}
        if wrong := [name for name, column in small.items() if column.dtype.kind not in "iu" or (column < 0).any()]:
            raise ValueError(f"{wrong[0]} are not whole numbers from 0 on")
        return cls(codes["strategy"][0], codes["image"][0], codes["strategy"][1], codes["image"][1], **small)

    @classmethod
    def read(cls, path: str | Path) -> "Facts":
        """Read `facts.parquet`. StudyError where the file is missing or is no table of facts."""
        try:
            return cls.of(pq.ParquetFile(path, read_dictionary=["strategy", "image"]).read())
        except (OSError, KeyError, ValueError, TypeError) as error:  # pyarrow's, of columns of another type or with gaps
            raise StudyError(f"{path} is not a table of confusion facts ({error}): run the evaluate stage again") from error


def confusion(facts: Facts, strategy: str, classes: int, bands=None, by: str | None = None) -> np.ndarray:
    """Pixels by (target, prediction): int64 (classes, classes). `bands`: which distances count, all if None. by: "image" gives
    (images, classes, classes), in the order of `facts.images`; "band" (15, classes, classes)."""
    if strategy not in facts.strategies:
        raise StudyError(f"the facts have no strategy {strategy!r}; there are {', '.join(facts.strategies)}: "
                         "check evaluate in params.yaml")
    chosen = facts.strategy == facts.strategies.index(strategy)
    if bands is not None:
        wanted = np.zeros(256, bool)
        wanted[list(bands)] = True
        chosen &= wanted[facts.band]
    sizes = {by: {"image": len(facts.images), "band": BANDS}[by]} if by else {}
    sizes |= {"target": classes, "prediction": classes}
    keys = {name: getattr(facts, name)[chosen].astype(np.int64) for name in sizes}
    for name, key in keys.items():
        if len(key) and key.max() >= sizes[name]:
            what = f"{name if name == by else 'class'} {key.max()}"
            raise StudyError(f"the facts hold {what}, but there are only {sizes[name]}: run the evaluate stage again")
    shape = tuple(sizes.values())
    index = np.ravel_multi_index(tuple(keys.values()), shape)
    counts = np.bincount(index, facts.pixels[chosen], int(np.prod(shape)))  # in float64, which is exact below 2**53
    return counts.astype(np.int64).reshape(shape)


def tp_fp_fn(confusions: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives of each class: (..., classes, classes) -> int64 (..., 3, classes)."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([hits, confusions.sum(-2) - hits, confusions.sum(-1) - hits], axis=-2)


def iou_of_counts(counts: np.ndarray) -> np.ndarray:
    """IoU in percent from `tp_fp_fn`: (..., 3, classes) -> float64 (..., classes); nan where the union is empty."""
    union = counts.sum(-2)
    return 100.0 * counts[..., 0, :] / np.where(union > 0, union, np.nan)


def miou_of_counts(counts: np.ndarray, only=None) -> np.ndarray:
    """mIOU in percent from `tp_fp_fn` (..., 3, classes), over those of the classes `only` (all if None) that occur; else nan."""
    scores = iou_of_counts(counts if only is None else counts[..., list(only)])
    seen = ~np.isnan(scores)
    return np.where(seen, scores, 0.0).sum(-1) / np.where(seen.any(-1), seen.sum(-1), np.nan)


def per_class_iou(confusions: np.ndarray) -> np.ndarray:
    """`iou_of_counts` of confusion matrices: (..., classes, classes) -> float64 (..., classes)."""
    return iou_of_counts(tp_fp_fn(confusions))


def miou(confusions: np.ndarray, only=None) -> np.ndarray:
    """`miou_of_counts` of confusion matrices: (..., classes, classes) -> float64 (...)."""
    return miou_of_counts(tp_fp_fn(confusions), only)


def miou_within(bands: np.ndarray, only=None) -> np.ndarray:
    """Figure 5a: mIOU in percent over the pixels within TRIMAP_WIDTHS[k] pixels of void, of confusion matrices by band:
    (15, classes, classes) -> float64 (14,)."""
    return miou(bands.cumsum(0)[:-1], only)


def bootstrap(counts: np.ndarray, other: np.ndarray | None = None, only=None, samples: int = SAMPLES,
              seed: int = 0) -> np.ndarray:
    """mIOU in percent of `samples` data sets drawn from these images with replacement: float64 (samples,).

    `counts` is int64 (images, 3, classes), the `tp_fp_fn` of each image. With `other`, of the same images in the same order, both
    are scored on the same draws and the result is mIOU(counts) - mIOU(other): a paired bootstrap, in which what makes an image
    hard cancels out. nan for fewer than two images: one says nothing of others. StudyError where the numbers of images differ.
    """
    if other is not None and len(other) != len(counts):
        raise StudyError(f"a paired bootstrap needs the same images on both sides, got {len(counts)} and {len(other)}: "
                         "evaluate both runs again")
    if len(counts) < 2:
        return np.full(samples, np.nan)
    sides = [side if only is None else side[..., list(only)] for side in (counts, other) if side is not None]
    draws, results = _draws(len(counts), samples, seed), []
    for start in range(0, samples, 1000):                       # float64 counts are exact below 2**53 pixels
        weights = draws[start:start + 1000].astype(np.float64)
        drawn = [np.tensordot(weights, side.astype(np.float64), 1) for side in sides]
        scores = [miou_of_counts(counts) for counts in drawn]
        results.append(scores[0] if other is None else scores[0] - scores[1])
    return np.concatenate(results)


def interval(sample: np.ndarray) -> tuple[float, float]:
    """The central 95 percent of a bootstrap sample, its nan left out: (low, high); nan where nothing else is in it."""
    if np.isnan(sample).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(sample, [2.5, 97.5])
    return float(low), float(high)


def by_score(facts: Facts, strategy: str, classes: int, only=None) -> list[tuple[str, float]]:
    """Images with the mIOU of each (over the classes in it or predicted), worst first; equal ones by name."""
    scores = miou(confusion(facts, strategy, classes, by="image"), only)
    return sorted(((name, float(score)) for name, score in zip(facts.images, scores) if not np.isnan(score)),
                  key=lambda pair: pair[::-1])


@lru_cache(maxsize=4)
def _draws(images: int, samples: int, seed: int) -> np.ndarray:
    """How often each image is drawn in each resampled data set: uint16 (samples, images)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=samples).astype(np.uint16)
