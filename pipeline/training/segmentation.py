"""Train one run of the study: the network it describes, from where it starts, on its data set."""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline import files, records
from pipeline.datasets.shards import VOID, Shard
from pipeline.evaluation.inference import progress_miou
from pipeline.models import deeplab, device as devices
from pipeline.models.layers import resize
from pipeline.models.weights import count_parameters
from pipeline.records import MODEL, WEIGHTS, History
from pipeline.schema import Run
from pipeline.study import Study, StudyError
from pipeline.training import batch_norm, distributed, schedule
from pipeline.training.acceleration import adapt
from pipeline.training.augmentation import Crops
from pipeline.training.checkpoint import Checkpoint, inputs_digest
from pipeline.training.data import place
from pipeline.training.loop import fit

VALIDATION_IMAGES = 64  # the curve is a progress report; the score is the evaluate stage's


def loss_of(network, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy on logits resized to the labels' size, summed over all but void pixels.

    pixels: (N, 3, H, W) in [0, 255]; labels: (N, H, W) int64.
    """
    logits = resize(network(pixels / 127.5 - 1).float(), labels.shape[-2:])
    return F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none").sum()  # CUDA's own sum is not deterministic


def start_from(model: nn.Module, run: Run, weights: Path, classes: list[str]) -> None:
    """Load the file that `run.start` left: an ImageNet backbone's weights, or a whole network's. Where that knows other classes
    than `classes`, the last layer keeps its random weights, as with the authors' initialize_last_layer=False."""
    target = model if run.start_run else model.backbone
    with files.whole(weights, SafetensorError):
        start = load_file(weights)
    own, record = target.state_dict(), records.read(weights.parent) if run.start_run else None
    if record and (known := record["params"].get("classes", classes)) != classes:
        start |= {name: value for name, value in own.items() if name.startswith("logits.")}
        if distributed.rank() == 0:
            print(f"{run.start} knows {len(known)} classes, not these {len(classes)}: the last layer starts anew", flush=True)
    wrong = [name for name in own if name not in start or start[name].shape != own[name].shape]
    if wrong:
        raise StudyError(f"a run starts from {run.start}, whose network is another one, or of another size; these tensors "
                         f"differ: {', '.join(wrong[:8])}")
    target.load_state_dict(start)


def train(study: Study, name: str, out: Path, checkpoints: Path) -> tuple[History, dict[str, float], str]:
    """Train `name`, write its network to `out`; return curves, final metrics and the device's name."""
    run = study.runs[name]
    data, backbone = study.dataset(run.dataset), study.backbones[run.backbone]
    training = study.training(name)
    device = devices.pick(training.deterministic)
    shard = Shard.of(study, run.dataset, training.split)
    validation = Shard.of(study, run.dataset, data.evaluate.split)

    torch.manual_seed(run.seed)
    model = deeplab.build(run, backbone.family, study.settings.network, len(shard.classes))
    start = study.artifacts(run.start) / (MODEL if run.start_run else WEIGHTS)
    start_from(model, run, start, shard.classes)
    model.to(device, memory_format=torch.channels_last)
    batch_norm.set_decay(model, backbone.batch_norm_decay, training.batch_norm_decay, training.steps)
    if run.output_stride == 8 or not training.fine_tune_batch_norm:
        batch_norm.freeze(model if run.start_run else model.backbone)
    adapt(model, training)
    optimiser = schedule.optimiser(model, backbone.weight_decay, training.learning_rate,
                                   training.last_layer_gradient_multiplier, training.optimiser)
    crops = Crops(place(shard, device), training.crop, training.batch, run.seed, distributed.rank(), distributed.world())
    scored = study.scored(run.dataset, shard.classes) or list(range(len(shard.classes)))
    settings = [each.model_dump() for each in (run, backbone, training, study.settings.network.of(run.backbone), data.evaluate)]
    inputs = inputs_digest(settings, study.artifacts("shards", run.dataset) / "sheet.json", start)

    def validate() -> dict[str, float]:
        return progress_miou(model, run.output_stride, validation, data.evaluate.canvas, data.evaluate_batch,
                             VALIDATION_IMAGES, scored)

    checkpoint = Checkpoint(checkpoints / f"{name}.pt", inputs)
    history, metrics = fit(model, optimiser, crops, loss_of, validate, training, checkpoint, name, VOID)
    checkpoint.finish(model, out / MODEL)
    metrics["parameters"] = count_parameters(model)
    return history, metrics, distributed.describe(device)
