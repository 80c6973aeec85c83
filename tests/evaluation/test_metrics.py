"""Scores from confusion facts against counts by hand, slow loops, and the properties that counts have. Against others' scorers:
test_cityscapes_scorer.py, test_evaluate.py."""
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.evaluation import metrics
from pipeline.study import StudyError

CLASSES = 5


def facts_of(labels, predictions, distances, strategy="os16"):
    """Facts counted pixel by pixel, the plain way; every array is (images, H, W), 255 in labels is void."""
    counts = {}
    for number, (label, prediction, distance) in enumerate(zip(labels, predictions, distances)):
        for target, guess, far in zip(label.ravel(), prediction.ravel(), distance.ravel()):
            if target != 255:
                band = next((index for index, width in enumerate(TRIMAP_WIDTHS) if width >= far), 14)
                key = strategy, f"image-{number:02d}", band, int(target), int(guess)
                counts[key] = counts.get(key, 0) + 1
    return metrics.Facts.of(table([(*key, pixels) for key, pixels in counts.items()]))


def table(rows):
    names = ("strategy", "image", "band", "target", "prediction", "pixels")
    types = (pa.string(), pa.string(), pa.uint8(), pa.uint8(), pa.uint8(), pa.int64())
    columns = zip(*rows) if rows else [()] * 6
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, types)], names=names)


@pytest.fixture
def scenes():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, (6, 12, 10)).astype(np.uint8)
    predictions = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, CLASSES, labels.shape)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    return labels, predictions, rng.integers(1, 60, labels.shape)


def test_two_classes_by_hand():
    facts = metrics.Facts.of(table([("s", "a", 14, 0, 0, 6), ("s", "a", 14, 0, 1, 2), ("s", "b", 0, 1, 1, 3),
                                    ("s", "b", 0, 1, 0, 1)]))
    matrix = metrics.confusion(facts, "s", 3)
    assert matrix.tolist() == [[6, 2, 0], [1, 3, 0], [0, 0, 0]]
    assert metrics.per_class_iou(matrix)[:2] == pytest.approx([100 * 6 / 9, 100 * 3 / 6])
    assert np.isnan(metrics.per_class_iou(matrix)[2])
    assert metrics.miou(matrix) == pytest.approx((100 * 6 / 9 + 50) / 2)  # the class that nobody has seen is left out
    assert metrics.miou(matrix, only=[1]) == pytest.approx(50)
    assert metrics.miou_within(metrics.confusion(facts, "s", 3, by="band"))[0] == pytest.approx((0 + 75) / 2)  # class 0 is only predicted there: IoU 0


def test_trimap_curve_is_the_score_of_the_near_pixels(scenes):
    labels, predictions, distances = scenes
    facts = facts_of(*scenes)
    for width, score in zip(TRIMAP_WIDTHS, metrics.miou_within(metrics.confusion(facts, "os16", CLASSES, by="band"))):
        near = facts_of(np.where(distances <= width, labels, 255), predictions, distances)
        assert score == pytest.approx(float(metrics.miou(metrics.confusion(near, "os16", CLASSES))))


@given(split=st.lists(st.booleans(), min_size=6, max_size=6), seed=st.integers(0, 9))
@settings(max_examples=25)
def test_any_split_of_the_images_sums_to_the_whole_in_any_order_of_rows(split, seed):
    rng = np.random.default_rng(seed)
    rows = [("s", f"i{image}", int(rng.integers(15)), int(rng.integers(4)), int(rng.integers(4)), int(rng.integers(1, 99)))
            for image in range(6)
            for _ in range(5)]
    rows = list({row[:5]: row for row in rows}.values())
    whole = metrics.Facts.of(table([rows[place] for place in rng.permutation(len(rows))]))
    parts = [[row for row in rows if split[int(row[1][1:])] == side] for side in (True, False)]
    summed = sum(metrics.confusion(metrics.Facts.of(table(part)), "s", 4, by="band") for part in parts if part)
    assert (summed == metrics.confusion(whole, "s", 4, by="band")).all()
    by_image = metrics.confusion(metrics.Facts.of(table(rows)), "s", 4, by="image")
    assert (metrics.confusion(whole, "s", 4, by="image") == by_image).all() and (by_image.sum(0) == metrics.confusion(whole, "s", 4)).all()
    assert metrics.confusion(whole, "s", 4).sum() == sum(row[5] for row in rows)


def test_paired_bootstrap_is_the_slow_loop(scenes):
    labels, predictions, distances = scenes
    worse = np.where(np.random.default_rng(2).random(labels.shape) < 0.3, 0, predictions).astype(np.uint8)
    a, b = (metrics.tp_fp_fn(metrics.confusion(facts_of(labels, guess, distances), "os16", CLASSES, by="image"))
            for guess in (predictions, worse))
    fast = metrics.bootstrap(a, b, samples=300, seed=4)
    draws = np.random.default_rng(4).multinomial(6, [1 / 6] * 6, size=300)
    for value, draw in zip(fast, draws):
        chosen = np.repeat(np.arange(6), draw)  # the data set that this draw stands for, image by image
        scores = []
        for guess in (predictions, worse):
            resampled = facts_of(labels[chosen], guess[chosen], distances[chosen])
            scores.append(float(metrics.miou(metrics.confusion(resampled, "os16", CLASSES))))
        assert value == pytest.approx(scores[0] - scores[1])
    low, high = metrics.interval(fast)
    assert low < np.median(fast) < high and np.isclose((fast < low).mean(), 0.025, atol=0.01)


def test_one_image_says_nothing_of_others(scenes):
    counts = metrics.tp_fp_fn(metrics.confusion(facts_of(*scenes), "os16", CLASSES, by="image"))
    for sides in ((counts[:1],), (counts[:1], counts[1:2]), (counts[:0],)):
        assert np.isnan(metrics.interval(metrics.bootstrap(*sides, samples=50))).all()
    assert np.isfinite(metrics.interval(metrics.bootstrap(counts[:2], samples=50))).all()
    assert metrics.interval(np.array([np.nan, 3.0, 3.0])) == (3, 3)


def test_images_are_ranked_by_their_own_miou(scenes):
    labels, predictions, distances = scenes
    predictions[3] = np.where(labels[3] == 255, 0, labels[3])
    predictions[5] = (predictions[5] + 1 + (predictions[5] + 1 == labels[5])) % CLASSES
    ranked = metrics.by_score(facts_of(labels, predictions, distances), "os16", CLASSES)
    assert ranked[-1] == ("image-03", 100.0)
    assert [score for _, score in ranked] == sorted(score for _, score in ranked)
    assert len(ranked) == 6


def test_images_are_ranked_by_the_classes_that_count_and_left_out_where_none_occurs():
    rows = [("s", "a", 0, 0, 0, 1), ("s", "b", 0, 1, 1, 1), ("s", "b", 0, 0, 1, 1), ("s", "c", 0, 2, 2, 1)]
    assert metrics.by_score(metrics.Facts.of(table(rows)), "s", 3, only=[0, 1]) == [("b", 25.0), ("a", 100.0)]


def test_faults_name_what_is_wrong(tmp_path, scenes):
    facts = facts_of(*scenes)
    with pytest.raises(StudyError, match="no strategy 'os8'; there are os16"):
        metrics.confusion(facts, "os8", CLASSES)
    for wrong in (3, 4):
        with pytest.raises(StudyError, match=f"class {wrong}, but there are only 3"):
            metrics.confusion(metrics.Facts.of(table([("os16", "a", 0, wrong, 0, 1)])), "os16", 3)
    (tmp_path / "facts.parquet").write_bytes(b"not a table")
    with pytest.raises(StudyError, match="facts.parquet is not a table of confusion facts"):
        metrics.Facts.read(tmp_path / "facts.parquet")
    with pytest.raises(StudyError, match="same images on both sides, got 6 and 5"):
        metrics.bootstrap(np.zeros((6, 3, 2), int), np.zeros((5, 3, 2), int))


@pytest.mark.parametrize("name, values", [("pixels", [-1]), ("pixels", [None]), ("pixels", [float("nan")]), ("pixels", ["1"]), ("target", [-1]),
                                          ("image", [None]), ("band", [True])])
def test_facts_that_are_no_counts_are_refused(tmp_path, name, values):
    """Negative counts, say, would give a score."""
    import pyarrow.parquet as pq
    good = table([("os16", "a", 0, 1, 0, 1)])
    pq.write_table(good.set_column(good.column_names.index(name), name, [values]), tmp_path / "facts.parquet")
    with pytest.raises(StudyError, match="facts.parquet is not a table of confusion facts"):
        metrics.Facts.read(tmp_path / "facts.parquet")


def test_ten_strategies_of_a_whole_val_set_in_seconds(tmp_path):
    import pyarrow.parquet as pq
    rng, (images, bands, cells) = np.random.default_rng(0), (1449, 15, 4)
    rows = 10 * images * bands * cells
    target = rng.integers(0, 21, rows)
    names = pa.array([f"2007_{number:06d}" for number in range(images)])
    columns = {"strategy": pa.DictionaryArray.from_arrays(np.repeat(np.arange(10), rows // 10),
                                                          [f"s{number}" for number in range(10)]).cast(pa.string()),
               "image": pa.DictionaryArray.from_arrays(np.tile(np.repeat(np.arange(images), bands * cells), 10),
                                                       names).cast(pa.string()),
               "band": pa.array(np.tile(np.repeat(np.arange(bands), cells), 10 * images), pa.uint8()),
               "target": pa.array(target, pa.uint8()),
               "prediction": pa.array(np.where(rng.random(rows) < 0.8, target, rng.integers(0, 21, rows)), pa.uint8()),
               "pixels": pa.array(rng.integers(1, 5000, rows))}
    pq.write_table(pa.table(columns), tmp_path / "facts.parquet")
    started = time.process_time()
    facts = metrics.Facts.read(tmp_path / "facts.parquet")
    scores = [(float(metrics.miou(metrics.confusion(facts, name, 21))), metrics.miou_within(metrics.confusion(facts, name, 21, by="band")))
              for name in facts.strategies]
    assert len(scores) == 10 and all(0 < score < 100 for score, _ in scores)
    assert time.process_time() - started < 3  # the design's bound
