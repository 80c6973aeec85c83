"""What a training step takes against batch and crop: its multiply-adds, and the memory of its activations and gradients.

    python benchmarks/memory.py

Counted on `meta` tensors (shapes without data) at the paper's size: the most that is alive at once in a forward and a backward
pass besides the weights, the optimiser's momentum (as much again) and what the libraries need for themselves. float32 is a CPU's,
bfloat16 a GPU's under autocast, whose bfloat16 copies of the weights are left out. First the miniature network, with CPU time of
one thread.
"""
import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from benchmarks.steps import CLASSES, SETTINGS, network, step_of
from benchmarks.training import seconds
from pipeline import memory
from pipeline.datasets.shards import VOID
from pipeline.models.cost import Counter
from pipeline.training.acceleration import checkpoint_activations
from pipeline.training.loop import gradients
from pipeline.training.segmentation import loss_of

ROWS = [  # setting, crop, batch, accumulate, checkpoint_activations
    ("gpu-resnet101", 257, 16, 1, False), ("gpu-resnet101", 385, 16, 1, False), ("gpu-resnet101", 513, 16, 1, False),
    ("gpu-resnet101", 769, 16, 1, False), ("gpu-resnet101", 513, 8, 1, False), ("gpu-resnet101", 513, 4, 1, False),
    ("gpu-resnet101", 513, 16, 2, False), ("gpu-resnet101", 513, 16, 4, False), ("gpu-resnet101", 513, 16, 1, True),
    ("gpu-resnet101", 513, 16, 4, True), ("gpu-xception65", 513, 16, 1, False), ("gpu-xception65", 769, 16, 1, False),
    ("gpu-mobilenet", 513, 16, 1, False),
]
TIMED = [
    ("cpu-miniature", 97, 8, 1, False), ("cpu-miniature", 97, 4, 1, False), ("cpu-miniature", 97, 16, 1, False),
    ("cpu-miniature", 193, 8, 1, False), ("cpu-miniature", 97, 8, 2, False), ("cpu-miniature", 97, 8, 1, True),
]
ROUNDS = 9


class Step(Counter):
    """Counts a backward pass too, which the Counter's quick way through batch norm does not allow."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self._count(operation, args, result)
        return result


def peak(model: torch.nn.Module, crop: int, batch: int, accumulate: int, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes alive at most in a step besides weights and batch, and multiply-adds of its forward passes, recomputed ones too."""
    device = next(model.parameters()).device
    pixels = torch.zeros(batch, 3, crop, crop, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, crop, crop, device=device, dtype=torch.long)
    with Step() as counter:
        gradients(model, model, pixels, labels, loss_of, VOID, accumulate)
    for parameter in model.parameters():
        parameter.grad = None
    return counter.peak, counter.executed * batch // accumulate


def step(name: str, crop: int, batch: int, accumulate: int, checkpointed: bool) -> Callable[[], None]:
    """A real step on this CPU."""
    model = network(SETTINGS[name]).to(memory_format=torch.channels_last)
    if checkpointed:
        checkpoint_activations(model.backbone)
    pixels = torch.rand(batch, 3, crop, crop).to(memory_format=torch.channels_last) * 255
    labels = torch.randint(CLASSES, (batch, crop, crop))
    return step_of(model, lambda: (pixels, labels), loss_of, accumulate)


def row(name: str, crop: int, batch: int, accumulate: int, checkpointed: bool) -> dict[str, float]:
    """GiB in float32 and in bfloat16, and 1e9 multiply-adds of the forward passes."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.device("meta"):
            model = network(SETTINGS[name]).to(dtype, memory_format=torch.channels_last).train()
        if checkpointed:
            checkpoint_activations(model.backbone)
        held, madds = peak(model, crop, batch, accumulate, dtype)
        found |= {str(dtype).removeprefix("torch."): held / 2**30, "madds": madds / 1e9}
    return found


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    memory.keep()
    made, times = [step(*settings) for settings in TIMED], [[] for _ in TIMED]
    for _ in range(1 + ROUNDS):
        for take, taken in zip(made, times):
            taken.append(seconds(take, 1, torch.device("cpu")))
    print("| network | crop | batch | accumulate | checkpointed | float32, MiB | CPU time, ms a step | ms an image |")
    print("|---|---:|---:|---:|---|---:|---:|---:|")
    for settings, taken in zip(TIMED, times):
        name, crop, batch, accumulate, checkpointed = settings
        median, held = 1000 * statistics.median(taken[1:]), 1024 * row(*settings)["float32"]
        print(f"| {name} | {crop} | {batch} | {accumulate} | {'yes' if checkpointed else 'no'} | {held:.0f} | {median:.0f} | "
              f"{median / batch:.1f} |", flush=True)
    print("\n| network | crop | batch | accumulate | checkpointed | 1e9 multiply-adds forward | float32, GiB | bfloat16, GiB |")
    print("|---|---:|---:|---:|---|---:|---:|---:|")
    for name, crop, batch, accumulate, checkpointed in ROWS:
        found = row(name, crop, batch, accumulate, checkpointed)
        print(f"| {SETTINGS[name].backbone} | {crop} | {batch} | {accumulate} | {'yes' if checkpointed else 'no'} | "
              f"{found['madds']:.0f} | {found['float32']:.1f} | {found['bfloat16']:.1f} |", flush=True)
