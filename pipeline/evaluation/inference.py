"""A network's label maps for the images of a shard, and the mIOU that training shows as its progress.

Kept apart from facts and metrics, so that no network is trained again when the analysis changes.
"""
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.datasets.shards import VOID, Example, Shard
from pipeline.evaluation.strategies import canvas, predict
from pipeline.models import device as devices
from pipeline.schema import Strategy
from pipeline.study import StudyError


def predictions(models: dict[int, nn.Module], shard: Shard, strategies: dict[str, Strategy], size: tuple[int, int], batch: int,
                numbers: list[int], bf16: bool = False) -> Iterator[tuple[list[Example], dict[str, torch.Tensor]]]:
    """Batch by batch the examples of `numbers` and, by strategy, their label maps (N, *size) uint8 on the padded canvas.
    StudyError where memory runs out, or a GPU has no bf16."""
    device = next(next(iter(models.values())).parameters()).device
    if bf16 and device.type == "cuda" and not devices.has_bfloat16(device):
        raise StudyError("this GPU does not compute in bfloat16: leave --bf16 out")
    for start in range(0, len(numbers), batch):
        examples = [shard[number] for number in numbers[start:start + batch]]
        with devices.memory_explained():
            images = canvas([example.image for example in examples], size, device)
            if torch.backends.cudnn.benchmark:  # cuDNN would try its kernels anew on a last batch of another size
                images = F.pad(images, (0, 0, 0, 0, 0, 0, 0, batch - len(examples)))
            maps = predict(models, images, strategies, bf16)
        yield examples, {name: each[:len(examples)] for name, each in maps.items()}


def on_canvas(maps: list[np.ndarray], size: tuple[int, int], fill: int, device: torch.device) -> torch.Tensor:
    """Maps, each (H, W) uint8, in the upper left corner of a canvas of `fill`: (N, *size) uint8."""
    padded = np.full((len(maps), *size), fill, np.uint8)
    for target, values in zip(padded, maps):
        target[:values.shape[0], :values.shape[1]] = values
    return torch.from_numpy(padded).to(device)


def progress_miou(model: nn.Module, output_stride: int, shard: Shard, size: tuple[int, int], batch: int, images: int,
                  scored: list[int]) -> dict[str, float]:
    """miou over the first `images` images, in percent: plain inference, mean over the classes `scored` that occur; {} if none."""
    strategies = {"plain": Strategy(output_stride=output_stride, scales=(1.0,), flip=False)}
    device = next(model.parameters()).device
    bf16 = device.type == "cuda" and devices.has_bfloat16(device)
    numbers = list(range(min(images, len(shard))))
    classes = len(shard.classes)
    total = torch.zeros(classes, classes, dtype=torch.long)
    for examples, maps in predictions({output_stride: model}, shard, strategies, size, batch, numbers, bf16):
        target = on_canvas([example.label for example in examples], size, VOID, device)
        cell = (target.int() * classes + maps["plain"])[target != VOID]
        total += torch.bincount(cell, minlength=classes ** 2).view(classes, classes).cpu()
    hits = total.diagonal()
    union = total.sum(0) + total.sum(1) - hits
    occur = [number for number in scored if union[number]]
    return {"miou": float(100 * (hits[occur] / union[occur]).mean())} if occur else {}
