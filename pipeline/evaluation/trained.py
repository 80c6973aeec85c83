"""A trained network as the stage train left it: what it is, and loaded at every output stride that strategies ask for."""
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline import records
from pipeline.datasets import native, shards
from pipeline.models import deeplab
from pipeline.records import MODEL
from pipeline.schema import Network, Run
from pipeline.study import Study, StudyError
from pipeline.written import suggest

CODE = Path(__file__).parent, Path(deeplab.__file__).parent, Path(shards.__file__).parent  # what unfinished work depends on


class Trained(NamedTuple):
    """What a trained network is. sizes: its scale's; crop: the side of its training crops in pixels; classes: their names."""
    run: Run
    sizes: Network
    crop: int
    classes: list[str]


def load(study: Study, folder: Path, output_strides: set[int], device: torch.device) -> dict[int, nn.Module]:
    """The network trained in `folder` at each output stride, with the same weights: as its record says, not params.yaml."""
    found = described(folder)
    if (backbone := found.run.backbone) not in study.backbones:
        raise StudyError(f"{folder}: params.yaml has no backbone {backbone!r}{suggest(backbone, study.backbones)}")
    family = study.backbones[backbone].family
    try:
        weights = load_file(folder / MODEL)
        with torch.device("meta"):  # takes no memory, whatever sizes the record names
            deeplab.build(found.run, family, found.sizes, len(found.classes)).load_state_dict(weights, assign=True)
    except SafetensorError as error:
        raise StudyError(f"{folder / MODEL} holds no network of this study ({error})") from error
    except (RuntimeError, TypeError, OverflowError) as error:
        raise StudyError(f"{folder}: its weights, {MODEL}, do not fit its {records.RECORD}: they are of two networks") from error
    models = {}
    for output_stride in sorted(output_strides, reverse=True):
        model = deeplab.build(found.run, family, found.sizes, len(found.classes), output_stride)
        model.load_state_dict(weights)
        models[output_stride] = model.eval().to(device, memory_format=torch.channels_last)
    return models


def described(folder: Path) -> Trained:
    """What the stage train left in `folder`, by its record. StudyError where that is no network."""
    try:
        record = records.read(folder)
        if record is None:
            raise StudyError(f"{folder} holds no trained network: {records.RECORD} is missing. Train it: make study")
        if record["status"] != "done" or not (folder / MODEL).is_file():
            raise StudyError(f"{folder} holds no network: {record['reason'] or f'{MODEL} is missing'}")
        params = record["params"]
        if type(crop := params["training"]["crop"]) is not int or crop <= 16:
            raise ValueError(f"crop is {crop!r}, no whole number above 16")
        run = Run.model_validate(params["run"])
        classes = params.get("classes") or native.classes(run.dataset, None)  # from before they were recorded: no others
        return Trained(run, Network.model_validate(params["network"]), crop, [str(name) for name in classes])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StudyError):
            raise
        why = f"{records.RECORD} cannot be used ({error})"
        raise StudyError(f"{folder} holds no trained network: {why}. Train it: make study") from error
