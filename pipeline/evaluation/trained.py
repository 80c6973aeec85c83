"""A trained run, loaded at every output stride its strategies ask for, and evaluated."""
from pathlib import Path

import pyarrow as pa
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.datasets import palettes
from pipeline.datasets.shards import Shard
from pipeline.evaluation.evaluate import confusion_facts
from pipeline.models import deeplab, device as devices
from pipeline.study import Run, Strategy, Study


def load(study: Study, run: Run, folder: Path, classes: int, output_strides: set[int], device: torch.device) -> dict[int, nn.Module]:
    """The network trained in `folder` at each output stride: other strides and rates, the same weights."""
    weights, models = load_file(folder / "model.safetensors"), {}
    for output_stride in sorted(output_strides, reverse=True):
        model = deeplab.build(run, study.backbones[run.backbone].family, study.settings.network, classes, output_stride)
        model.load_state_dict(weights)
        models[output_stride] = model.eval().to(device, memory_format=torch.channels_last)
    return models


def evaluate(study: Study, run: Run, folder: Path, strategies: dict[str, Strategy], title: str) -> tuple[list[pa.Table], pa.Table, str]:
    """Facts of every strategy, label maps of the first, and the device's name."""
    settings, device = study.dataset(run.dataset).evaluate, devices.pick()
    shard = Shard(study.artifacts("shards", run.dataset) / f"{settings.split}.arrow")
    models = load(study, run, folder, len(shard.classes), {strategy.output_stride for strategy in strategies.values()}, device)
    tables, labels = confusion_facts(models, shard, strategies, settings.canvas, settings.batch, title, palettes.of(run.dataset, len(shard.classes)))
    return tables, labels, devices.describe(device)
