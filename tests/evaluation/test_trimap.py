"""The trimap by discs and by squares, against real dilations and against the facts."""
import numpy as np
import pyarrow as pa
import pytest
from scipy.ndimage import binary_dilation

from pipeline.datasets.palettes import png
from pipeline.datasets.shards import Example
from pipeline.datasets.trimap import TRIMAP_WIDTHS, void_distance
from pipeline.evaluation import metrics, square_trimap
from tests.shards import shard


def labels_with_void(seed, shape=(60, 70)):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, shape).astype(np.uint8)
    label[rng.random(shape) < 0.002] = 255
    label[0, 0] = 255
    return label


@pytest.mark.parametrize("width", [1, 4, 7, 22])
def test_both_distances_are_dilations_of_void(width):
    label, far = labels_with_void(0), np.arange(-width, width + 1)
    disc = far[:, None] ** 2 + far ** 2 <= width ** 2
    assert np.array_equal(void_distance(label) <= width, binary_dilation(label == 255, disc))
    assert np.array_equal(square_trimap.square_distance(label) <= width, binary_dilation(label == 255, np.ones((2 * width + 1,) * 2)))
    assert (square_trimap.square_distance(np.zeros((3, 3), np.uint8)) == 255).all()


@pytest.fixture
def scored(tmp_path):
    """A shard of four images and label maps that are wrong at one pixel in five."""
    rng, maps, labels = np.random.default_rng(1), [], [labels_with_void(number) for number in range(4)]
    for label in labels:
        guess = rng.integers(0, 3, label.shape).astype(np.uint8)
        maps.append(np.where((rng.random(label.shape) < 0.8) & (label != 255), label, guess))
    images = shard(tmp_path / "val.arrow", [Example(f"image-{number}", np.zeros((*label.shape, 3), np.uint8), label, void_distance(label))
                                            for number, label in enumerate(labels)], "abc")
    pictures = [png(each, bytes(768)) for each in maps]
    kept = {f"image-{number}": pa.scalar(pictures[number]) for number in (2, 0, 3, 1)}
    return images, kept, labels, maps


def test_recounted_by_the_disc_it_is_what_the_evaluation_counts(scored):
    import torch

    from pipeline.evaluation import facts
    shard, kept, labels, maps = scored
    distances = [void_distance(label) for label in labels]
    label, distance, prediction = (torch.tensor(np.stack(each)) for each in (labels, distances, maps))
    expected = facts.count([prediction], label, distance, 3)[0]
    (recounted,) = square_trimap.recounted(shard, [kept], void_distance)
    assert np.array_equal(recounted, expected.sum(0))
    for number, name in enumerate(shard.ids):
        assert np.array_equal(square_trimap.recounted(shard, [{name: kept[name]}], void_distance)[0], expected[number])


def test_curves_are_counted_together_as_they_are_alone_and_share_the_distances(scored):
    shard, kept, labels, _ = scored
    other, some, asked = dict(zip(kept, reversed(kept.values()))), dict(list(kept.items())[:2]), []
    def distance(label):
        asked.append(label)
        return square_trimap.square_distance(label)
    together = square_trimap.recounted(shard, [kept, other, some], distance)
    assert len(asked) == len(labels) and not np.array_equal(together[0], together[1])
    for maps, found in zip((kept, other, some), together):
        assert np.array_equal(found, square_trimap.recounted(shard, [maps])[0])


def test_by_squares_a_band_is_wider_and_the_whole_the_same(scored):
    shard, kept, labels, maps = scored
    discs, squares = (square_trimap.recounted(shard, [kept], *by)[0] for by in ([void_distance], []))
    inside = [[each[:k + 1].sum() for k in range(len(TRIMAP_WIDTHS))] for each in (discs, squares)]
    assert (np.array(inside[1]) >= inside[0]).all() and inside[1][1] > inside[0][1]
    assert np.array_equal(discs.sum(0), squares.sum(0))
    for width, found in zip(TRIMAP_WIDTHS[:2], metrics.miou_within(squares)):
        label, guess = np.concatenate(labels), np.concatenate(maps)
        near = np.concatenate([square_trimap.square_distance(each) <= width for each in labels])
        label, guess = label[near & (label != 255)], guess[near & (label != 255)]
        scores = [((label == c) & (guess == c)).sum() / ((label == c) | (guess == c)).sum() for c in range(3)]
        assert found == pytest.approx(100 * np.mean(scores))


def test_square_distances_beyond_a_byte_are_255():
    label = np.zeros((1, 400), np.uint8)
    label[0, 0] = 255
    assert square_trimap.square_distance(label)[0, [0, 1, 254, 255, 256, 399]].tolist() == [0, 1, 254, 255, 255, 255]
