"""Train one run of the study: the network it describes, from where it starts, on its data set."""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.datasets.shards import Shard
from pipeline.evaluation.inference import progress_miou
from pipeline.models import deeplab, device as devices
from pipeline.models.layers import resize
from pipeline.records import History, atomic
from pipeline.study import Run, Study, StudyError
from pipeline.training import schedule
from pipeline.training.augmentation import Crops
from pipeline.training.loop import Checkpoint, digest, fit

VALIDATION_IMAGES = 64  # the curve is a progress report; the score is the evaluate stage's
MODEL = "model.safetensors"


def loss_of(model: nn.Module, batch) -> torch.Tensor:
    """Softmax cross-entropy on logits resized to the labels' size, void ignored, mean over valid pixels."""
    pixels, labels, _ = batch
    logits = resize(model(pixels / 127.5 - 1).float(), labels.shape[-2:])
    return F.cross_entropy(logits, labels, ignore_index=255)


def start_from(model: nn.Module, run: Run, folder: Path) -> None:
    """Load what `run.start` left in `folder`: an ImageNet backbone, or a whole network whose backbone and head are taken."""
    if run.start.startswith("weights/"):
        model.backbone.load_state_dict(load_file(folder / "weights.safetensors"))
        return
    start, own = load_file(folder / MODEL), model.state_dict()
    wrong = [name for name in own if name not in start or start[name].shape != own[name].shape]
    if wrong:
        raise StudyError(f"runs start from {run.start}, whose network is another one; these tensors differ: {', '.join(wrong[:8])}")
    model.load_state_dict(start)


def train(study: Study, name: str, out: Path, checkpoints: Path) -> tuple[History, dict[str, float], str]:
    """Train `name`, write its network to `out`; return curves, final metrics and the device's name."""
    run = study.runs[name]
    dataset = study.dataset(run.dataset)
    backbone, device = study.backbones[run.backbone], devices.pick()
    shards = study.artifacts("shards", run.dataset)
    shard = Shard(shards / f"{dataset.train.split}.arrow")
    validation = Shard(shards / f"{dataset.evaluate.split}.arrow")
    if not len(shard):
        raise StudyError(f"{shards}: split {dataset.train.split} has no images")

    torch.manual_seed(run.seed)
    model = deeplab.build(run, backbone.family, study.settings.network, len(shard.classes))
    start_from(model, run, study.artifacts(run.start))
    model.to(device, memory_format=torch.channels_last)
    schedule.set_batch_norm(model, backbone.family, dataset.train.steps)
    optimiser = schedule.optimiser(model, backbone.weight_decay, dataset.train.learning_rate)
    examples = [shard[number] for number in range(len(shard))]
    crops = Crops([torch.tensor(example.image, device=device) for example in examples],
                  [torch.tensor(example.label, device=device) for example in examples], dataset.train.crop, dataset.train.batch, run.seed)
    scored = scored_classes(dataset.evaluate.classes, shard.classes)
    start = study.artifacts(run.start) / ("weights.safetensors" if run.start.startswith("weights/") else MODEL)
    inputs = digest(run.model_dump(), dataset.train.model_dump(), study.settings.network.model_dump(), shards / "sheet.json", start)

    def validate() -> dict[str, float]:
        return {"miou": progress_miou(model, run.output_stride, validation, dataset.evaluate.canvas, dataset.evaluate.batch,
                                      VALIDATION_IMAGES, scored)}

    checkpoint = Checkpoint(checkpoints / f"{name}.pt", inputs)
    history, metrics = fit(model, optimiser, crops, loss_of, validate, dataset.train, checkpoint, name)
    with atomic(out / MODEL) as partial:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, partial)
    checkpoint.remove()
    metrics["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return history, metrics, devices.describe(device)


def scored_classes(names: tuple[str, ...] | None, classes: list[str]) -> list[int]:
    """The numbers of the classes that mIOU is the mean of: all, or those that `evaluate.classes` names."""
    unknown = [name for name in names or () if name not in classes]
    if unknown:
        raise StudyError(f"evaluate.classes: no class {', '.join(unknown)}; there are {', '.join(classes)}")
    return [classes.index(name) for name in names or classes]
