"""Shards give back what was put in, without copies; the void distance agrees with its definition."""
import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pipeline.datasets.shards import Example, Shard, Writer, void_distance
from pipeline.study import StudyError

CLASSES = ["background", "cat"]
sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


def examples(shapes, seed, distances):
    rng = np.random.default_rng(seed)
    for number, shape in enumerate(shapes):
        label = rng.choice(np.array([0, 1, 255], np.uint8), shape)
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        yield Example(f"image {number} ä", image, label, void_distance(label) if distances else None)


@settings(deadline=None, max_examples=60)
@given(shapes=sizes, seed=st.integers(0, 99), distances=st.booleans(), batch=st.sampled_from([1, 200, 1 << 20]))
def test_round_trip(tmp_path_factory, shapes, seed, distances, batch):
    path = tmp_path_factory.mktemp("shard") / "val.arrow"
    put = list(examples(shapes, seed, distances))
    with Writer(path, "voc", CLASSES, batch_bytes=batch) as writer:
        for example in put:
            writer.add(example)
    shard = Shard(path)
    assert len(shard) == len(put) and shard.classes == CLASSES and shard.dataset == "voc"
    assert shard.ids == [example.id for example in put]
    for index, example in enumerate(put):
        got = shard[index]
        assert got.id == example.id and got.target is None
        np.testing.assert_array_equal(got.image, example.image)
        np.testing.assert_array_equal(got.label, example.label)
        assert got.distance is None if not distances else np.array_equal(got.distance, example.distance)


def test_targets_of_imagenet(tmp_path):
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    with Writer(tmp_path / "val.arrow", "imagenet", ["a", "b"]) as writer:
        writer.add(Example("a/1", image, target=0))
        writer.add(Example("b/1", image, target=1))
    shard = Shard(tmp_path / "val.arrow")
    assert [shard[index].target for index in range(2)] == [0, 1]
    assert shard[0].label is None and shard[0].distance is None


def test_views_survive_the_shard_and_pickling(tmp_path):
    put = next(examples([(40, 30)], 1, True))
    with Writer(tmp_path / "s.arrow", "voc", CLASSES) as writer:
        writer.add(put)
    shard = pickle.loads(pickle.dumps(Shard(tmp_path / "s.arrow")))
    got = shard[0]
    del shard
    np.testing.assert_array_equal(got.image, put.image)
    assert not got.image.flags.owndata and not got.image.flags.writeable
    with pytest.raises(IndexError):
        Shard(tmp_path / "s.arrow")[1]


def test_a_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), Writer(tmp_path / "s.arrow", "voc", CLASSES) as writer:
        writer.add(next(examples([(4, 3)], 1, True)))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_shard_is_named(tmp_path):
    with Writer(tmp_path / "s.arrow", "voc", CLASSES) as writer:
        for example in examples([(9, 9)] * 20, 1, True):
            writer.add(example)
    whole = (tmp_path / "s.arrow").read_bytes()
    for content in (b"", b"nonsense", whole[:-10], whole[: len(whole) // 2]):
        (tmp_path / "bad.arrow").write_bytes(content)
        with pytest.raises(StudyError, match="bad.arrow is no shard .* run the stage prepare again"):
            Shard(tmp_path / "bad.arrow")
    with pytest.raises(StudyError, match="none.arrow"):
        Shard(tmp_path / "none.arrow")


@settings(deadline=None, max_examples=60)
@given(shape=st.tuples(st.integers(1, 14), st.integers(1, 14)), voids=st.integers(0, 8), seed=st.integers(0, 999))
def test_void_distance_is_the_rounded_up_distance_to_the_nearest_void(shape, voids, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 21, shape).astype(np.uint8)
    spots = np.stack([rng.integers(0, side, voids) for side in shape], 1)
    label[tuple(spots.T)] = 255
    points = np.argwhere(np.ones(shape, bool))
    if voids:
        squares = ((points[:, None] - spots[None]) ** 2).sum(2).min(1).reshape(shape)
        root = np.sqrt(squares).astype(int)
        root = np.where(root * root > squares, root - 1, root)  # ceil in whole numbers: no rounding in the reference
        expected = np.where(root * root == squares, root, root + 1)
    else:
        expected = np.full(shape, 255)
    np.testing.assert_array_equal(void_distance(label), expected)


def test_void_distance_ends_at_255():
    label = np.zeros((2, 400), np.uint8)
    label[:, 0] = 255
    assert void_distance(label)[0, [0, 1, 254, 255, 256, 399]].tolist() == [0, 1, 254, 255, 255, 255]
