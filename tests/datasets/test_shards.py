"""Shards give back what was put in, without copies; the void distance agrees with its definition."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.ndimage import distance_transform_edt

from pipeline.datasets import voc
from pipeline.datasets.shards import Example, Shard, Writer, file_of
from pipeline.datasets.trimap import FAR, void_distance
from pipeline.study import ROOT, StudyError
from tests.shards import shard as written

CLASSES = ["background", "cat"]
REAL = ROOT.parent / "shared/data/VOCdevkit"
sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


def examples(shapes, seed, distances):
    rng = np.random.default_rng(seed)
    for number, shape in enumerate(shapes):
        label = rng.choice(np.array([0, 1, 255], np.uint8), shape)
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        yield Example(f"image {number} ä", image, label, void_distance(label) if distances else None)


@settings(max_examples=60)
@given(shapes=sizes, seed=st.integers(0, 99), distances=st.booleans(), batch=st.sampled_from([1, 200, 1 << 20]))
def test_round_trip(tmp_path_factory, shapes, seed, distances, batch):
    path = tmp_path_factory.mktemp("shard") / "val.arrow"
    put = list(examples(shapes, seed, distances))
    shard = written(path, put, CLASSES, batch_bytes=batch)
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
    shard = written(tmp_path / "val.arrow", [Example("a/1", image, target=0), Example("b/1", image, target=1)], "ab", "imagenet")
    assert [shard[index].target for index in range(2)] == [0, 1]
    assert shard[0].label is None and shard[0].distance is None


def test_views_survive_the_shard(tmp_path):
    put = next(examples([(40, 30)], 1, True))
    shard = written(tmp_path / "s.arrow", [put], CLASSES)
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


def test_a_disk_too_full_for_a_shard_is_named(tmp_path, no_room):
    no_room(tmp_path / "s.arrow")
    with pytest.raises(OSError, match=f"'{tmp_path}/s.arrow'"):
        written(tmp_path / "s.arrow", examples([(4, 3)], 1, True), CLASSES)
    assert not list(tmp_path.iterdir())


def test_what_is_no_shard_is_named(tmp_path):
    written(tmp_path / "s.arrow", examples([(9, 9)] * 20, 1, True), CLASSES)
    whole = (tmp_path / "s.arrow").read_bytes()
    for content in (b"", b"nonsense", whole[:-10], whole[: len(whole) // 2]):
        (tmp_path / "bad.arrow").write_bytes(content)
        with pytest.raises(StudyError, match="bad.arrow is no shard .* run the stage prepare again"):
            Shard(tmp_path / "bad.arrow")
    with pytest.raises(StudyError, match="none.arrow"):
        Shard(tmp_path / "none.arrow")


def exact(label):
    """By scipy: distances rounded up, 255 beyond FAR."""
    if not (label == 255).any():
        return np.full(label.shape, 255)
    distance = np.ceil(distance_transform_edt(label != 255))
    return np.where(distance > FAR, 255, distance)


@settings(max_examples=60)
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


@settings(max_examples=150)
@given(shape=st.tuples(st.integers(1, 150), st.integers(1, 150)), voids=st.integers(0, 30), size=st.integers(1, 20), seed=st.integers(0, 999))
def test_void_distance_is_scipys_within_the_widest_trimap(shape, voids, size, seed):
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for _ in range(voids):
        top, left = (rng.integers(0, side) for side in shape)
        label[top:top + rng.integers(1, size + 1), left:left + rng.integers(1, size + 1)] = 255
    np.testing.assert_array_equal(void_distance(label), exact(label))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real part of VOC at {REAL}")
def test_void_distance_is_scipys_on_real_labels():
    for item in voc.splits(REAL)["val"][::15]:
        np.testing.assert_array_equal(void_distance(voc.label(item)), exact(voc.label(item)))


def test_void_distance_ends_at_the_widest_trimap():
    label = np.zeros((2, 400), np.uint8)
    label[:, 0] = 255
    assert void_distance(label)[0, [0, 1, 39, 40, 41, 256, 399]].tolist() == [0, 1, 39, 40, 255, 255, 255]


def test_a_shard_of_several_files_is_one(tmp_path):
    put = list(examples([(5, 4)] * 7, 3, True))
    for number, part in enumerate((put[:3], put[3:6], put[6:])):
        with Writer(file_of(tmp_path / "val.arrow", number), "voc", CLASSES, files=3) as writer:
            for example in part:
                writer.add(example)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val-0001.arrow", "val-0002.arrow", "val.arrow"]
    shard = Shard(tmp_path / "val.arrow")
    assert shard.ids == [example.id for example in put] and len(shard) == 7
    for got, example in zip((shard[number] for number in range(7)), put):
        np.testing.assert_array_equal(got.image, example.image)
        np.testing.assert_array_equal(got.distance, example.distance)
    file_of(tmp_path / "val.arrow", 1).unlink()
    with pytest.raises(StudyError, match="val-0001.arrow is no shard .* run the stage prepare again"):
        Shard(tmp_path / "val.arrow")
