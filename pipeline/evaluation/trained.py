"""A trained run, loaded at every output stride its strategies ask for, and evaluated."""
from pathlib import Path

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline import records
from pipeline.datasets import palettes
from pipeline.datasets.shards import Shard
from pipeline.evaluation.evaluate import confusion_facts
from pipeline.models import deeplab, device as devices
from pipeline.schema import Network, Run, Strategy
from pipeline.study import Study, StudyError

MODEL = "model.safetensors"
CODE = Path(__file__).parent, Path(deeplab.__file__).parent  # of what unfinished work was made


def load(run: Run, family: str, network: Network, folder: Path, output_strides: set[int],
         device: torch.device) -> dict[int, nn.Module]:
    """The network trained in `folder` at each output stride: other strides and rates, the same weights."""
    models = {}
    try:
        weights = load_file(folder / MODEL)
        classes = len(weights["logits.bias"])
    except (SafetensorError, KeyError) as error:
        raise StudyError(f"{folder / MODEL} holds no network of this study ({error})") from error
    for output_stride in sorted(output_strides, reverse=True):
        model = deeplab.build(run, family, network, classes, output_stride)
        model.load_state_dict(weights)
        models[output_stride] = model.eval().to(device, memory_format=torch.channels_last)
    return models


def described(folder: Path) -> tuple[Run, Network, int]:
    """Run, network sizes and training crop of what the stage train left in `folder`. StudyError where that is no network."""
    try:
        record = records.read(folder)
        if record["status"] != "done" or not (folder / MODEL).is_file():
            raise StudyError(f"{folder} holds no network: {record['reason'] or f'{MODEL} is missing'}")
        params = record["params"]
        return Run.model_validate(params["run"]), Network.model_validate(params["network"]), params["training"]["crop"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StudyError):
            raise
        why = f"{records.RECORD} cannot be used ({error})"
        raise StudyError(f"{folder} holds no trained network: {why}. Train it: make study") from error


def evaluate(study: Study, run: Run, folder: Path, strategies: dict[str, Strategy], title: str, unfinished: Path,
             bf16: bool = False) -> tuple[pa.Table, pa.Table, str]:
    """Facts of every strategy, label maps of the first, the device's name. unfinished: where interrupted work lies."""
    settings, family, device = study.dataset(run.dataset).evaluate, study.backbones[run.backbone].family, devices.pick()
    shards = study.artifacts("shards", run.dataset)
    shard = Shard(shards / f"{settings.split}.arrow")
    output_strides = {strategy.output_stride for strategy in strategies.values()}
    models = load(run, family, study.settings.network, folder, output_strides, device)
    what = [each.model_dump(mode="json") for each in (run, study.settings.network, settings, *strategies.values())]
    what += [list(strategies), family, bf16, devices.describe(device)]
    inputs = records.digest(what, folder / MODEL, shards / "sheet.json", *CODE)
    palette = palettes.of(run.dataset, len(shard.classes))
    with devices.memory_explained("Lower evaluate.batch of the data set (params.yaml)"):
        tables = confusion_facts(models, shard, strategies, settings.canvas, settings.batch, title, palette,
                                 unfinished / inputs[:16], bf16)
    return *tables, devices.describe(device)
