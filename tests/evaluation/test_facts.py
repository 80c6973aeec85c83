"""Counting against a pixel-by-pixel loop, and the file that is left."""
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pipeline.datasets.trimap import BANDS, TRIMAP_WIDTHS
from pipeline.evaluation import facts


def slowly(prediction, label, distance):
    cells = Counter()
    for p, t, d in zip(prediction.ravel(), label.ravel(), distance.ravel()):
        if t != 255:
            band = next((k for k, width in enumerate(TRIMAP_WIDTHS) if d <= width), len(TRIMAP_WIDTHS))
            cells[band, int(t), int(p)] += 1
    return cells


def scenes(rng, images, height, width, classes, strategies):
    """Predictions of each strategy, labels with void, distances: (images, height, width) uint8 each."""
    predictions = [rng.integers(0, classes, (images, height, width)).astype(np.uint8) for _ in range(strategies)]
    label = rng.integers(0, classes, (images, height, width)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = 255
    return predictions, label, rng.integers(0, 256, label.shape).astype(np.uint8)


def table_of(predictions, label, distance, classes, names, numbers):
    """Facts of the images `numbers`."""
    numbers = list(numbers)
    counts = counted(predictions, label, distance, classes, numbers)
    return facts.table(names, [f"2007_{number:06d}" for number in numbers], counts)


def counted(predictions, label, distance, classes, numbers):
    label, distance, *predictions = (torch.tensor(each[numbers]) for each in (label, distance, *predictions))
    return facts.count(predictions, label, distance, classes)


@settings(max_examples=60)
@given(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30), st.integers(1, 21), st.integers(1, 3), st.integers(0, 10**6))
def test_counts_equal_a_loop_over_pixels_and_leave_void_out(images, height, width, classes, strategies, seed):
    """At every distance, and where an image is all void."""
    rng = np.random.default_rng(seed)
    predictions, label, distance = scenes(rng, images, height, width, classes, strategies)
    label[-1] = rng.choice([0, 255])
    names = ["os8", "os16", "os16-ms"][:strategies]
    found = {}
    for row in table_of(predictions, label, distance, classes, names, range(images)).to_pylist():
        assert row["pixels"] > 0
        found.setdefault((row["strategy"], row["image"]), {})[row["band"], row["target"], row["prediction"]] = row["pixels"]
    for name, prediction in zip(names, predictions):
        for number in range(images):
            assert found.get((name, f"2007_{number:06d}"), {}) == slowly(prediction[number], label[number], distance[number])


@pytest.mark.parametrize("value", [4, 5, 254])
def test_a_label_that_is_no_class_is_not_counted_as_another(value):
    predictions, label, distance = scenes(np.random.default_rng(0), 2, 7, 5, 4, 1)
    label[0, 3, 3] = value
    with pytest.raises(IndexError):
        counted(predictions, label, distance, 4, [0, 1])


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(0, 10**6))
def test_any_split_of_the_images_gives_the_same_file(tmp_path_factory, part_of, seed):
    predictions, label, distance = scenes(np.random.default_rng(seed), 6, 7, 5, 4, 2)
    parts = [[number for number in range(6) if part_of[number] == part] for part in range(4)]
    split = [table_of(predictions, label, distance, 4, ["os16", "os8"], part) for part in parts if part]
    folder = tmp_path_factory.mktemp("facts")
    facts.save(pa.concat_tables(split), folder / "split")
    facts.save(table_of(predictions, label, distance, 4, ["os16", "os8"], range(6)), folder / "whole")
    assert (folder / "split/facts.parquet").read_bytes() == (folder / "whole/facts.parquet").read_bytes()
    added = sum(counted(predictions, label, distance, 4, part).sum(1) for part in parts if part)
    assert np.array_equal(added, counted(predictions, label, distance, 4, list(range(6))).sum(1))


def test_the_file_is_sorted_by_unique_keys(tmp_path):
    predictions, label, distance = scenes(np.random.default_rng(0), 3, 9, 9, 4, 2)
    facts.save(table_of(predictions, label, distance, 4, ["os8", "os16"], [2, 0, 1]), tmp_path)
    table = pq.read_table(tmp_path / "facts.parquet")
    keys = [tuple(row.values())[:-1] for row in table.to_pylist()]
    assert table.schema.remove_metadata() == facts.SCHEMA and keys == sorted(keys) and len(set(keys)) == len(keys)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: pytest -m gpu")
def test_on_a_gpu_it_is_the_same():
    random = torch.Generator().manual_seed(0)
    predictions = [torch.randint(4, (3, 40, 50), dtype=torch.uint8, generator=random) for _ in range(2)]
    label, distance = (torch.randint(most, (3, 40, 50), dtype=torch.uint8, generator=random) for most in (4, 256))
    label[:, :5] = 255
    here = facts.count(predictions, label, distance, 4)
    there = facts.count([each.cuda() for each in predictions], label.cuda(), distance.cuda(), 4)
    assert here.shape == (2, 3, BANDS, 4, 4) and here.sum() == 2 * 3 * 35 * 50 and np.array_equal(here, there)
