"""Confusion facts: for each strategy and image, how many pixels of which class were given which label, and how near to a boundary.

Integers only. mIOU, per-class IoU, trimap curves and intervals are functions of them (metrics.py); counts add, so any split of
the images sums to the whole.
"""
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.evaluation.metrics import BANDS, WIDTHS
from pipeline.records import atomic

VOID = 255
SCHEMA = pa.schema([("strategy", pa.string()), ("image", pa.string()), ("band", pa.uint8()), ("target", pa.uint8()),
                    ("prediction", pa.uint8()), ("pixels", pa.int64())])
_BAND_OF = torch.bucketize(torch.arange(256), torch.tensor(WIDTHS))


def count(prediction: torch.Tensor, label: torch.Tensor, distance: torch.Tensor, classes: int) -> np.ndarray:
    """Pixels by (band, target, prediction), int64 of shape (BANDS, classes, classes), for one image; void is left out.

    prediction, label, distance: (H, W) uint8, one device. distance: to the nearest void pixel, rounded up.
    """
    valid = label != VOID
    band = _BAND_OF.to(distance.device)[distance[valid].long()]
    cell = (band * classes + label[valid].long()) * classes + prediction[valid].long()
    return torch.bincount(cell, minlength=BANDS * classes * classes).view(BANDS, classes, classes).cpu().numpy()


def rows(strategy: str, image: str, counts: np.ndarray) -> pa.Table:
    """The non-zero counts of one image as facts."""
    band, target, prediction = np.nonzero(counts)
    size = len(band)
    columns = [np.full(size, strategy, object), np.full(size, image, object), band.astype("u1"), target.astype("u1"),
               prediction.astype("u1"), counts[band, target, prediction]]
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA)], schema=SCHEMA)


def save(tables: list[pa.Table], folder: Path) -> None:
    """Write `folder/facts.parquet`, sorted by every key."""
    facts = pa.concat_tables(tables).sort_by([(name, "ascending") for name in SCHEMA.names[:-1]])
    with atomic(Path(folder) / "facts.parquet") as partial:
        pq.write_table(facts, partial, compression="zstd", use_dictionary=["strategy", "image"])
