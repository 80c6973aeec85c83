"""A network's label maps for the images of a shard, and the mIOU that training shows as its progress.

Apart from facts and metrics on purpose: what analyses scores may change without a network being trained again.
"""
from collections.abc import Iterator

import torch
from torch import nn

from pipeline.datasets.shards import Shard
from pipeline.evaluation.strategies import canvas, predict
from pipeline.study import Strategy

VOID = 255


def predictions(models: dict[int, nn.Module], shard: Shard, strategies: dict[str, Strategy], size: tuple[int, int], batch: int,
                numbers: list[int]) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """For each image of `numbers`: its number and, by strategy, its label map (H, W) uint8 at the image's own size."""
    device = next(next(iter(models.values())).parameters()).device
    for start in range(0, len(numbers), batch):
        chosen = numbers[start:start + batch]
        examples = [shard[number] for number in chosen]
        labels = predict(models, canvas([example.image for example in examples], size, device), strategies)
        for row, (number, example) in enumerate(zip(chosen, examples)):
            height, width = example.label.shape
            yield number, {name: maps[row, :height, :width] for name, maps in labels.items()}


@torch.inference_mode()
def progress_miou(model: nn.Module, output_stride: int, shard: Shard, size: tuple[int, int], batch: int, images: int,
                  scored: list[int]) -> float:
    """mIOU in percent over the first `images` images, plain inference, mean over the classes `scored` that occur."""
    strategies, classes = {"plain": Strategy(output_stride=output_stride, scales=(1.0,), flip=False)}, len(shard.classes)
    total = torch.zeros(classes, classes, dtype=torch.long)
    for number, labels in predictions({output_stride: model}, shard, strategies, size, batch, list(range(min(images, len(shard))))):
        target, prediction = torch.tensor(shard[number].label).long(), labels["plain"].cpu().long()
        cell = (target * classes + prediction)[target != VOID]
        total += torch.bincount(cell, minlength=classes ** 2).view(classes, classes)
    hits = total.diagonal()
    union = total.sum(0) + total.sum(1) - hits
    occur = [number for number in scored if union[number]]
    return float(100 * (hits[occur] / union[occur]).mean())
