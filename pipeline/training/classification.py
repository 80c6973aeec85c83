"""ImageNet pretraining of one backbone: Table 4 at the study's own scale."""
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.datasets.shards import Shard
from pipeline.models import deeplab, device as devices
from pipeline.models.layers import normalise
from pipeline.models.weights import count_parameters
from pipeline.records import WEIGHTS, History
from pipeline.study import Study, StudyError
from pipeline.training import batch_norm, distributed, schedule
from pipeline.training.acceleration import adapt
from pipeline.training.checkpoint import Checkpoint, inputs_digest
from pipeline.training.loop import fit


class Pictures:
    """An endless stream of batches: random flips and shifts of up to an eighth of the side. `state()` and `resume()` continue it.

    images: (N, 3, H, W) float32 in [-1, 1]; targets: (N,) int64. rank, world: as augmentation.Crops has them.
    """

    def __init__(self, images: torch.Tensor, targets: torch.Tensor, ids: list[str], batch: int, seed: int,
                 rank: int = 0, world: int = 1):
        self.targets = targets
        self.ids = ids
        self.batch = batch
        self.mine = slice(rank, None, world)
        self.shift = images.shape[-1] // 8
        self.padded = F.pad(images, (self.shift,) * 4)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """(N, 3, H, W) float32 in [-1, 1]; (N,) int64; the whole batch's image numbers."""
        chosen = torch.randint(len(self.targets), (self.batch,), generator=self.generator)
        shifts = torch.randint(2 * self.shift + 1, (self.batch, 2), generator=self.generator)
        flips = torch.rand(self.batch, generator=self.generator) < 0.5
        height, width = (side - 2 * self.shift for side in self.padded.shape[-2:])
        crops = [self.padded[number, :, top:top + height, left:left + width]
                 for number, (top, left) in zip(chosen[self.mine].tolist(), shifts[self.mine].tolist())]
        batch = torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips[self.mine].tolist())])
        return batch, self.targets[chosen[self.mine].to(self.targets.device, non_blocking=True)], chosen.tolist()

    def state(self) -> dict:
        return {"generator": self.generator.get_state()}

    def resume(self, state: dict) -> None:
        self.generator.set_state(state["generator"].cpu())


@devices.memory_explained()
def errors(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, batch: int) -> dict[str, float]:
    """Top-1 and top-5 error in percent, `batch` pictures at a time. images, targets: as `Pictures` has them."""
    scores = torch.cat([model(part) for part in images.split(batch)]).float()
    hits = scores.topk(min(5, scores.shape[1])).indices == targets[:, None]
    right = {"top1_error": hits[:, 0], "top5_error": hits.any(1)}
    return {name: 100 * (1 - each.float().mean().item()) for name, each in right.items()}


def tensors(shard: Shard, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """All pictures of a classification shard, (N, 3, H, W) float32 in [-1, 1], and their classes, (N,) int64; on `device`."""
    examples = [shard[number] for number in range(len(shard))]
    pictures = torch.from_numpy(np.stack([example.image for example in examples]))
    return normalise(pictures.to(device)), torch.tensor([example.target for example in examples], device=device)


def loss_of(network, pictures: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy, summed over the pictures. pictures: (N, 3, H, W) in [-1, 1]; targets: (N,) int64."""
    return F.cross_entropy(network(pictures).float(), targets, reduction="sum")


def pretrain(study: Study, name: str, out: Path, checkpoints: Path) -> tuple[History, dict[str, float], str]:
    """Train backbone `name` as a classifier, write its weights to `out`; return curves, final metrics and the device's name."""
    data, backbone = study.settings.imagenet, study.backbones[name]
    training, size = data.train, study.settings.network.backbones[name]
    device = devices.pick(training.deterministic)
    shard = Shard.of(study, "imagenet", training.split)
    validation = Shard.of(study, "imagenet", data.evaluate.split)
    if (side := shard[0].image.shape[0]) != training.crop:
        raise StudyError(f"scales.{study.scale}.imagenet.train.crop: backbones are pretrained on whole pictures, here of {side} "
                         f"pixels a side, not on crops of {training.crop}")
    if not training.fine_tune_batch_norm:
        raise StudyError(f"scales.{study.scale}.imagenet.train.fine_tune_batch_norm: a backbone that begins from nothing has no "
                         "statistics to keep: leave it out")

    torch.manual_seed(0)
    model = deeplab.build_classifier(backbone.family, size, len(shard.classes)).to(device, memory_format=torch.channels_last)
    batch_norm.set_decay(model, backbone.batch_norm_decay, training.batch_norm_decay, training.steps)
    adapt(model, training)
    optimiser = schedule.optimiser(model, backbone.weight_decay, training.learning_rate,
                                   training.last_layer_gradient_multiplier, training.optimiser)
    pictures = Pictures(*tensors(shard, device), shard.ids, training.batch, 0, distributed.rank(), distributed.world())
    held_out = tensors(validation, device)
    settings = [each.model_dump() for each in (backbone, size, training, data.evaluate)]
    inputs = inputs_digest(settings, study.artifacts("shards", "imagenet") / "sheet.json")

    def validate() -> dict[str, float]:
        return errors(model, *held_out, data.evaluate_batch)

    checkpoint = Checkpoint(checkpoints / f"{name}.pt", inputs)
    history, metrics = fit(model, optimiser, pictures, loss_of, validate, training, checkpoint, name)
    checkpoint.finish(model.backbone, out / WEIGHTS)
    metrics["parameters"] = count_parameters(model.backbone)
    return history, metrics, distributed.describe(device)
