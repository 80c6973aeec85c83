"""Confusion facts: for each strategy and image, how many pixels of which class got which label, and how near to a boundary.

Integers only. mIOU, per-class IoU, trimap curves and intervals are functions of them (metrics.py); counts add, so any split of
the images sums to the whole.
"""
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.datasets.shards import VOID
from pipeline.paper import BANDS, TRIMAP_WIDTHS
from pipeline.records import atomic

SCHEMA = pa.schema([("strategy", pa.string()), ("image", pa.string()), ("band", pa.uint8()), ("target", pa.uint8()),
                    ("prediction", pa.uint8()), ("pixels", pa.int64())])
_BAND_OF = torch.bucketize(torch.arange(256), torch.tensor(TRIMAP_WIDTHS), out_int32=True)


def count(predictions: list[torch.Tensor], label: torch.Tensor, distance: torch.Tensor, classes: int) -> np.ndarray:
    """Pixels by (strategy, image, band, target, prediction), int64 (strategies, N, BANDS, classes, classes), void left out.

    predictions: one (N, H, W) for each strategy; label, distance: (N, H, W); all uint8, on one device. distance: to the nearest
    void pixel, rounded up. One bincount for all strategies, in which void has a bin of its own at the end, dropped.
    """
    images, strategies = len(label), len(predictions)
    bins = images * BANDS * classes * classes
    image = torch.arange(images, dtype=torch.int32, device=label.device).view(-1, 1, 1)
    first = ((image * BANDS + _BAND_OF.to(label.device)[distance.int()]) * classes + label) * classes
    void = label == VOID
    cells = torch.stack([(first + prediction + number * bins).masked_fill_(void, strategies * bins)
                         for number, prediction in enumerate(predictions)])
    counts = torch.bincount(cells.flatten(), minlength=strategies * bins)[:strategies * bins]
    return counts.view(strategies, images, BANDS, classes, classes).cpu().numpy()


def rows(strategies: list[str], images: list[str], counts: np.ndarray) -> pa.Table:
    """The non-zero counts as facts. counts: as `count` returns them, for these strategies and images."""
    strategy, image, *keys = at = np.nonzero(counts)
    names = [pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(values, pa.string())).cast(pa.string())
             for codes, values in ((strategy, strategies), (image, images))]
    return pa.table([*names, *(pa.array(key.astype(np.uint8)) for key in keys), pa.array(counts[at])], schema=SCHEMA)


def save(facts: pa.Table, folder: Path) -> None:
    """Write `folder/facts.parquet`, sorted by every key: the same bytes whatever the order of `facts`."""
    facts = facts.combine_chunks().sort_by([(name, "ascending") for name in SCHEMA.names[:-1]])
    with atomic(Path(folder) / "facts.parquet") as partial:
        pq.write_table(facts, partial, compression="zstd", use_dictionary=["strategy", "image"])
