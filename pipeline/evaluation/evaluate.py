"""Evaluate one network on one shard: the confusion facts of every strategy in one pass over the images.

Each batch leaves its facts in a folder for unfinished work: an interrupted evaluation goes on after the last whole batch.
"""
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from pipeline import files, progress, records
from pipeline.datasets import palettes
from pipeline.datasets.shards import VOID, Example, Shard
from pipeline.evaluation import facts, trained
from pipeline.evaluation.inference import on_canvas, predictions
from pipeline.models import device as devices
from pipeline.schema import Strategy
from pipeline.study import Study

PARTS = "{:07d}.facts.parquet", "{:07d}.labels.parquet"


def evaluate(study: Study, folder: Path, strategies: dict[str, Strategy], title: str, unfinished: Path,
             bf16: bool = False) -> tuple[pa.Table, pa.Table, str]:
    """(facts of every strategy, label maps of the first, the device's name). unfinished: the folder for interrupted work."""
    found, device = trained.described(folder), devices.pick()
    run, data = found.run, study.dataset(found.run.dataset)
    shard = Shard.of(study, run.dataset, data.evaluate.split)
    models = trained.load(study, folder, {strategy.output_stride for strategy in strategies.values()}, device)
    settings = [each.model_dump(mode="json") for each in (run, found.sizes, data.evaluate, *strategies.values())]
    settings += [list(strategies), study.backbones[run.backbone].family, bf16, data.evaluate_batch, devices.describe(device)]
    sheet = study.artifacts("shards", run.dataset) / "sheet.json"
    inputs = files.digest(settings, folder / records.MODEL, sheet, *trained.CODE)
    palette = palettes.of(run.dataset, len(shard.classes))
    tables = confusion_facts(models, shard, strategies, data.evaluate.canvas, data.evaluate_batch, title, palette,
                             unfinished / inputs[:16], bf16)
    return *tables, devices.describe(device)


@torch.inference_mode()
def confusion_facts(models: dict[int, nn.Module], shard: Shard, strategies: dict[str, Strategy], size: tuple[int, int],
                    batch: int, title: str, palette: bytes, unfinished: Path, bf16: bool = False) -> tuple[pa.Table, pa.Table]:
    """The facts of every image and strategy, and the first strategy's label maps as palette PNGs in the order of the shard.

    unfinished: a folder of this very evaluation (weights, settings, images); batches found there are not computed again.
    """
    starts = range(0, len(shard), batch)
    parts = {start: part for start in starts if (part := _read(unfinished, start)) is not None}
    missing = [start for start in starts if start not in parts]
    numbers = [number for start in missing for number in range(start, min(start + batch, len(shard)))]
    bar = progress.bar(title, len(shard), "image", initial=len(shard) - len(numbers))
    for start, (examples, maps) in zip(missing, predictions(models, shard, strategies, size, batch, numbers, bf16)):
        parts[start] = facts_of(examples, maps, len(shard.classes)), pngs_of(examples, maps, palette)
        for name, table in zip(PARTS, parts[start]):
            with files.atomic(unfinished / name.format(start), durable=False) as partial:  # _read knows a damaged one
                pq.write_table(table, partial)
        bar.update(len(examples))
    bar.close()
    return tuple(pa.concat_tables(tables) for tables in zip(*(parts[start] for start in starts)))


def facts_of(examples: list[Example], maps: dict[str, torch.Tensor], classes: int) -> pa.Table:
    """The facts of one batch. maps: the label maps by strategy, (N, H, W) uint8 on the canvas."""
    first = next(iter(maps.values()))
    label, distance = (on_canvas([getattr(example, name) for example in examples], first.shape[1:], VOID, first.device)
                       for name in ("label", "distance"))
    counts = facts.count(list(maps.values()), label, distance, classes)
    return facts.table(list(maps), [example.id for example in examples], counts)


def pngs_of(examples: list[Example], maps: dict[str, torch.Tensor], palette: bytes) -> pa.Table:
    """The label maps of the first strategy as PNGs of the images' own sizes. maps: as `facts_of` takes them."""
    strategy, first = next(iter(maps.items()))
    pngs = []
    for values, example in zip(first.cpu().numpy(), examples):
        height, width = example.label.shape
        pngs.append(palettes.png(values[:height, :width], palette))
    return pa.table({"strategy": [strategy] * len(pngs), "image": [example.id for example in examples], "png": pngs})


def _read(folder: Path, start: int) -> tuple[pa.Table, pa.Table] | None:
    """What the batch from image `start` left, or None where it is not there to its end."""
    try:
        return tuple(pq.read_table(folder / name.format(start)) for name in PARTS)
    except (OSError, pa.ArrowException):
        return None
