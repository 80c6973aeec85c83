"""Where a split lives: the same pixels everywhere, no copies on the CPU, nothing warned about."""
import threading

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.training import data
from pipeline.training.augmentation import Crops
from pipeline.training.cutting import Draw, Packed, crops
from pipeline.training.data import Mapped, Resident, Streamed, place, size, views

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path, random = tmp_path_factory.mktemp("shards") / "train.arrow", np.random.default_rng(0)
    with Writer(path, "voc", ["background", "thing"], batch_bytes=5000) as writer:  # several record batches
        for number in range(9):
            shape = tuple(random.integers(8, 40, 2))
            image, label = random.integers(0, 256, (*shape, 3), np.uint8), random.integers(0, 2, shape, np.uint8)
            writer.add(Example(f"image-{number}", image, label))
    return Shard(path)


def pairs(examples):
    """Image and label of each, wherever they are."""
    if not isinstance(examples, Packed):
        return examples
    slices = [slice(start, start + height * width) for start, (height, width) in zip(examples.starts, examples.shapes)]
    return [(examples.pixels[part].view(*shape, 3), examples.labels[part].view(shape))
            for part, shape in zip(slices, examples.shapes)]


@pytest.mark.parametrize("home", [Mapped, lambda shard: Resident(shard, CPU), lambda shard: Streamed(shard, CPU)])
@pytest.mark.parametrize("expected", [None, [3, 1], [8, 0, 3]])
def test_every_place_gives_the_examples_asked_for(shard, home, expected):
    split = home(shard)
    assert split.ids == [f"image-{number}" for number in range(9)]
    for numbers in ([8, 0, 3], [5]):
        if expected is not None:
            split.expect(expected)
        for number, (image, label) in zip(numbers, pairs(split(numbers)), strict=True):
            assert np.array_equal(image.numpy(), shard[number].image) and np.array_equal(label.numpy(), shard[number].label)


def test_on_the_cpu_nothing_is_copied_and_nothing_warned_about(shard, recwarn):
    example = shard[4]
    image, label = views([example], 0)
    assert image.data_ptr() == example.image.ctypes.data and label.data_ptr() == example.label.ctypes.data
    assert isinstance(place(shard, CPU), Mapped)
    assert not recwarn.list


def test_a_gpu_holds_a_split_that_takes_three_tenths_of_its_free_memory_and_is_streamed_a_larger_one(shard, monkeypatch):
    for home in ("Resident", "Streamed"):
        monkeypatch.setattr(data, home, lambda shard, device, home=home: (home, shard, device))
    gpu, enough = torch.device("cuda", 1), int(size(shard) / 0.3) + 1
    for free, home in ((enough, "Resident"), (enough - 4, "Streamed")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: {gpu: (free, 100 * enough)}[device])
        assert place(shard, gpu) == (home, shard, gpu)


def test_size_counts_images_and_labels(shard):
    assert size(shard) == sum(4 * shard[number].label.size for number in range(9))


def test_what_is_expected_is_fetched_by_another_thread_before_it_is_asked_for(shard, monkeypatch):
    split, asked = Streamed(shard, CPU), []
    monkeypatch.setattr(data, "views", lambda *given: asked.append(threading.current_thread().name) or views(*given))
    split.expect([2, 6])
    split.coming.result()
    assert len(asked) == 2 and threading.main_thread().name not in asked
    split([2, 6])
    assert len(asked) == 2, "fetched once"


def test_a_fault_in_the_thread_reaches_the_training(shard):
    split = Streamed(shard, CPU)
    split.expect([99])
    with pytest.raises(IndexError):
        split([99])


def test_crops_are_the_same_from_every_place_and_resume_with_a_batch_in_flight(shard):
    streams = [Crops(split, 17, 4, seed=5) for split in (Mapped(shard), Resident(shard, CPU), Streamed(shard, CPU))]
    for _ in range(3):
        (pixels, labels, _), *others = [stream() for stream in streams]
        assert all(torch.allclose(pixels, other[0], atol=1e-3) and torch.equal(labels, other[1]) for other in others)
    state, later = streams[2].state(), [streams[1]() for _ in range(4)]
    again = Crops(Streamed(shard, CPU), 17, 4, seed=0)
    again()
    again.resume(state)
    for pixels, labels, numbers in later:
        other = again()
        assert torch.equal(pixels, other[0]) and torch.equal(labels, other[1]) and numbers == other[2]


class Count(TorchDispatchMode):
    """How many operations are started; views are none."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **kwargs or {})
        self.count += not func.is_view
        return found


def test_a_gpu_is_given_as_many_operations_to_cut_a_batch_as_to_cut_one_image(shard):
    counts = []
    for images in (1, 4, 32):
        draws = [Draw(.5 * (number % 4), .3, .6, number % 2 == 0) for number in range(images)]
        examples = Resident(shard, CPU)([number % 4 for number in range(images)])
        with Count() as counted:
            pixels, labels = crops(examples, draws, 33)
        assert pixels.shape == (images, 33, 33, 3) and labels.shape == (images, 33, 33)
        counts.append(counted.count)
    assert counts[0] == counts[1] == counts[2] < 100


def test_processes_share_the_batch_that_one_would_have_drawn(shard):
    whole, shares = Crops(Mapped(shard), 17, 6, seed=5), [Crops(Mapped(shard), 17, 6, 5, rank, 3) for rank in range(3)]
    for _ in range(4):
        pixels, labels, numbers = whole()
        for rank, share in enumerate(shares):
            some, their, drawn = share()
            assert torch.equal(some, pixels[rank::3]) and torch.equal(their, labels[rank::3]) and drawn == numbers


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: pytest -m gpu")
@pytest.mark.parametrize("home", [Resident, Streamed])
def test_on_a_gpu_the_crops_are_the_cpus(shard, home):
    here, there = Crops(Mapped(shard), 17, 4, seed=5), Crops(home(shard, torch.device("cuda", 0)), 17, 4, seed=5)
    for _ in range(5):
        (pixels, labels, numbers), (pixels2, labels2, numbers2) = here(), there()
        assert numbers == numbers2 and torch.allclose(pixels, pixels2.cpu(), atol=1e-2)
        assert (labels == labels2.cpu()).float().mean() > 0.99  # a tie between two pixels may fall either way
