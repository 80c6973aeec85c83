"""Counting against a pixel-by-pixel loop, and the file that is left."""
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import torch
from hypothesis import given, settings, strategies as st

from pipeline.evaluation import facts
from pipeline.evaluation.metrics import WIDTHS


def slowly(prediction, label, distance):
    cells = Counter()
    for p, t, d in zip(prediction.ravel(), label.ravel(), distance.ravel()):
        if t != 255:
            band = next((k for k, width in enumerate(WIDTHS) if d <= width), len(WIDTHS))
            cells[band, int(t), int(p)] += 1
    return cells


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 21), st.integers(0, 10**6))
def test_counts_equal_a_loop_over_pixels_and_leave_void_out(height, width, classes, seed):
    rng = np.random.default_rng(seed)
    prediction, label = (rng.integers(0, classes, (height, width)).astype(np.uint8) for _ in range(2))
    label[rng.random((height, width)) < 0.2] = 255
    distance = rng.choice([0, 1, 2, 4, 5, 40, 41, 255], (height, width)).astype(np.uint8)
    counts = facts.count(*map(torch.tensor, (prediction, label, distance)), classes)
    assert {cell: counts[cell] for cell in zip(*map(list, np.nonzero(counts)))} == slowly(prediction, label, distance)
    table = facts.rows("os16", "2007_000033", counts)
    assert sum(table["pixels"].to_pylist()) == (label != 255).sum()


def test_the_file_is_sorted_and_the_same_bytes_whatever_the_order(tmp_path):
    rng = np.random.default_rng(0)
    tables = [facts.rows(strategy, image, rng.integers(0, 3, (facts.BANDS, 4, 4))) for strategy in ("os8", "os16") for image in "cab"]
    facts.save(tables, tmp_path / "a")
    facts.save(tables[::-1], tmp_path / "b")
    assert (tmp_path / "a/facts.parquet").read_bytes() == (tmp_path / "b/facts.parquet").read_bytes()
    keys = [tuple(row.values())[:-1] for row in pq.read_table(tmp_path / "a/facts.parquet").to_pylist()]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
