"""Where the images of a split live while a network trains: on the GPU if they fit, else in the memory-mapped shard.

Three classes with one interface: `split(numbers)` gives the examples as cutting.crops takes them, `split.expect(numbers)` says
what comes next, and `split.ids` names them. Nothing is decoded or resized here, and nothing writes into what is given out.
"""
import contextlib
import itertools
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pipeline.datasets.shards import Shard
from pipeline.training.cutting import Packed, Pair, pinned

RESIDENT = 0.3  # of the GPU's free memory may hold the split; the rest is for activations

with warnings.catch_warnings():
    # torch warns, once, that it cannot protect a read-only array. This is the once: training only reads
    warnings.simplefilter("ignore")
    torch.from_numpy(np.frombuffer(b"\0", np.uint8))


def place(shard: Shard, device: torch.device):
    """The split in the fastest place that holds it: Mapped on a CPU, Resident or else Streamed on a GPU."""
    if device.type == "cpu":
        return Mapped(shard)
    free, _ = torch.cuda.mem_get_info(device)
    return Resident(shard, device) if size(shard) <= RESIDENT * free else Streamed(shard, device)


def size(shard: Shard) -> int:
    """Bytes of all images and labels."""
    return sum(part.numel() for number in range(len(shard)) for part in views(shard, number))


def views(shard: Shard, number: int) -> Pair:
    """Image and label as tensors over the shard's own memory, without a copy."""
    example = shard[number]
    return torch.from_numpy(example.image), torch.from_numpy(example.label)


def packed(shard: Shard, numbers: list[int], device: torch.device) -> Packed:
    """These images in one block on `device`. The host does not wait for a GPU to have copied them."""
    shapes = [shard[number].label.shape for number in numbers]
    *starts, end = itertools.accumulate((height * width for height, width in shapes), initial=0)
    pixels = torch.empty(end, 3, dtype=torch.uint8, device=device)
    labels = torch.empty(end, dtype=torch.uint8, device=device)
    for number, start in zip(numbers, starts):
        image, label = (pinned(part, device) for part in views(shard, number))
        pixels[start:start + label.numel()].view(image.shape).copy_(image, non_blocking=True)
        labels[start:start + label.numel()].view(label.shape).copy_(label, non_blocking=True)
    return Packed(pixels, labels, starts, shapes)


class Mapped:
    """On the CPU: views of the file, whose pages the operating system keeps and drops as memory allows."""

    def __init__(self, shard: Shard):
        self.shard, self.ids = shard, shard.ids

    def __call__(self, numbers: list[int]) -> list[Pair]:
        return [views(self.shard, number) for number in numbers]

    def expect(self, numbers: list[int]) -> None:
        """Nothing to prepare."""


class Resident:
    """All of the split in one block of the device's memory: a step copies nothing and the CPU moves no pixel."""

    def __init__(self, shard: Shard, device: torch.device):
        self.ids, self.all = shard.ids, packed(shard, list(range(len(shard))), device)

    def __call__(self, numbers: list[int]) -> Packed:
        starts, shapes = ([known[number] for number in numbers] for known in (self.all.starts, self.all.shapes))
        return self.all._replace(starts=starts, shapes=shapes)

    def expect(self, numbers: list[int]) -> None:
        """Everything is there."""


class Streamed:
    """Too large for the GPU: a thread pins the next batch's images and copies them on a stream of their own during the step."""

    def __init__(self, shard: Shard, device: torch.device):
        self.shard, self.ids, self.device = shard, shard.ids, device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        setup = (torch.cuda.set_device, (device,)) if self.stream else (None, ())  # a thread begins on the first GPU
        self.thread = ThreadPoolExecutor(1, "split", *setup)
        self.numbers = None
        self.coming = None

    def expect(self, numbers: list[int]) -> None:
        self.numbers, self.coming = numbers, self.thread.submit(self._bring, numbers)

    def __call__(self, numbers: list[int]) -> Packed:
        if self.numbers != numbers:
            self.expect(numbers)
        batch, self.numbers = self.coming.result(), None
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            for block in (batch.pixels, batch.labels):
                block.record_stream(current)  # the allocator may not hand its memory on before this stream has read it
        return batch

    def _bring(self, numbers: list[int]) -> Packed:
        with torch.cuda.stream(self.stream) if self.stream is not None else contextlib.nullcontext():
            return packed(self.shard, numbers, self.device)
