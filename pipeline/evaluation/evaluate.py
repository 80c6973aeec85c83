"""Evaluate one network on one shard: the confusion facts of every strategy in one pass over the images."""
import io

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from pipeline.datasets.shards import Shard
from pipeline.evaluation import facts
from pipeline.evaluation.inference import predictions
from pipeline.study import Strategy


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
