"""Confusion facts: for each strategy and image, how many pixels of which class got which label, and how near to a boundary.

Integers only. mIOU, per-class IoU, trimap curves and intervals are functions of them (metrics.py); counts add, so any split of
the images sums to the whole.
"""
import functools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.datasets.shards import VOID
from pipeline.datasets.trimap import BANDS, TRIMAP_WIDTHS
from pipeline.files import atomic

SCHEMA = pa.schema([("strategy", pa.string()), ("image", pa.string()), ("band", pa.uint8()), ("target", pa.uint8()),
                    ("prediction", pa.uint8()), ("pixels", pa.int64())])


@functools.cache
def _cells(classes: int, device: torch.device) -> torch.Tensor:
    """int32 (65536,): where (band, target) begins in an image's counts, by 256 * distance + label. Void is one more target.

    Far beyond all counts for labels that are no class, so that `count` fails there."""
    targets = torch.full((256,), 2 ** 30, dtype=torch.int32)
    targets[:classes], targets[VOID] = torch.arange(classes) * classes, classes * classes
    bands = torch.bucketize(torch.arange(256), torch.tensor(TRIMAP_WIDTHS), out_int32=True)
    return (bands.view(-1, 1) * ((classes + 1) * classes) + targets).flatten().to(device)


def count(predictions: list[torch.Tensor], label: torch.Tensor, distance: torch.Tensor, classes: int) -> np.ndarray:
    """Pixels by (strategy, image, band, target, prediction), int64 (strategies, N, BANDS, classes, classes), void left out.

    predictions: one (N, H, W) for each strategy; label, distance: (N, H, W); all uint8, on one device. distance: to the nearest
    void pixel, rounded up. A GPU is waited for once, at the end: bincount would ask it for the largest cell before.
    """
    shape = len(label), BANDS, classes + 1, classes
    image = torch.arange(len(label), dtype=torch.int32, device=label.device).view(-1, 1, 1) * math.prod(shape[1:])
    first = _cells(classes, label.device).index_select(0, (distance.int() * 256 + label).flatten()).view(label.shape) + image
    one = torch.ones((), dtype=torch.int64, device=label.device).expand(label.numel())
    counts = torch.zeros(len(predictions), math.prod(shape), dtype=torch.int64, device=label.device)
    for row, prediction in zip(counts, predictions):
        row.index_add_(0, (first + prediction).flatten(), one)
    return counts.view(-1, *shape)[:, :, :, :classes].cpu().numpy()


def table(strategies: list[str], images: list[str], counts: np.ndarray) -> pa.Table:
    """The non-zero counts as facts. counts: as `count` returns them, for these strategies and images."""
    at = np.nonzero(counts)
    strategy, image, *keys = at
    names = [pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(values, pa.string())).cast(pa.string())
             for codes, values in ((strategy, strategies), (image, images))]
    return pa.table([*names, *(pa.array(key.astype(np.uint8)) for key in keys), pa.array(counts[at])], schema=SCHEMA)


def save(facts: pa.Table, folder: Path) -> None:
    """Write `folder/facts.parquet`, sorted by every key: the same bytes whatever the order of `facts`."""
    facts = facts.combine_chunks().sort_by([(name, "ascending") for name in SCHEMA.names[:-1]])
    with atomic(folder / "facts.parquet") as partial:
        pq.write_table(facts, partial, compression="zstd", use_dictionary=["strategy", "image"])
