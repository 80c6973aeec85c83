"""Evaluate one network on one shard: every strategy in one pass over the images."""
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from pipeline.datasets.shards import Shard
from pipeline.evaluation import facts
from pipeline.evaluation.strategies import canvas, predict
from pipeline.study import Strategy


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
def confusion_facts(models: dict[int, nn.Module], shard: Shard, strategies: dict[str, Strategy], size: tuple[int, int], batch: int,
                    title: str, palette: bytes) -> tuple[list[pa.Table], pa.Table]:
    """The facts of every image and strategy, and the first strategy's label maps as palette PNGs."""
    tables, pictures, kept = [], [], next(iter(strategies))
    progress = tqdm(total=len(shard), desc=title, unit="image", mininterval=1, dynamic_ncols=True)
    for number, labels in predictions(models, shard, strategies, size, batch, list(range(len(shard)))):
        example = shard[number]
        device = labels[kept].device
        label, distance = torch.tensor(example.label, device=device), torch.tensor(example.distance, device=device)
        for name, prediction in labels.items():
            counts = facts.count(prediction, label, distance, len(shard.classes))
            tables.append(facts.rows(name, example.id, counts))
        pictures.append((kept, example.id, png(labels[kept].cpu().numpy(), palette)))
        progress.update()
    progress.close()
    columns = zip(*pictures)
    return tables, pa.table(list(map(pa.array, columns)), names=["strategy", "image", "png"])


def png(labels: np.ndarray, palette: bytes) -> bytes:
    """A label map (H, W) uint8 as a palette PNG."""
    picture = Image.fromarray(labels, "P")
    picture.putpalette(palette)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@torch.inference_mode()
def quick_miou(model: nn.Module, output_stride: int, shard: Shard, size: tuple[int, int], batch: int, images: int,
               classes: list[int]) -> float:
    """mIOU in percent over the first `images` images, plain inference: the curve that training shows."""
    strategies = {"plain": Strategy(output_stride=output_stride, scales=(1.0,), flip=False)}
    total = np.zeros((len(shard.classes),) * 2, np.int64)
    for number, labels in predictions({output_stride: model}, shard, strategies, size, batch, list(range(min(images, len(shard))))):
        example = shard[number]
        label = torch.tensor(example.label, device=labels["plain"].device)
        total += facts.count(labels["plain"], label, torch.zeros_like(label), len(shard.classes)).sum(0)
    hits = total.diagonal()
    union = total.sum(0) + total.sum(1) - hits
    scored = [number for number in classes if union[number]]
    return float(100 * np.mean(hits[scored] / union[scored])) if scored else float("nan")
