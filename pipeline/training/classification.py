"""ImageNet pretraining of one backbone: Table 4 at the study's own scale."""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from pipeline.datasets.shards import Shard
from pipeline.models import deeplab, device as devices
from pipeline.models.layers import normalise
from pipeline.records import History, atomic
from pipeline.study import Study
from pipeline.training import schedule
from pipeline.training.loop import Checkpoint, digest, fit

WEIGHTS = "weights.safetensors"


class Pictures:
    """An endless stream of batches: random flips and shifts of up to an eighth of the side. `state()` and `resume()` continue it."""

    def __init__(self, images: torch.Tensor, targets: torch.Tensor, batch: int, seed: int):
        self.images, self.targets, self.batch = images, targets, batch
        self.shift = images.shape[-1] // 8
        self.padded = F.pad(images, (self.shift,) * 4)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """(N, 3, H, W) float32 in [-1, 1]; (N,) int64; image numbers."""
        chosen = torch.randint(len(self.images), (self.batch,), generator=self.generator)
        shifts = torch.randint(2 * self.shift + 1, (self.batch, 2), generator=self.generator)
        flips = torch.rand(self.batch, generator=self.generator) < 0.5
        height, width = self.images.shape[-2:]
        crops = [self.padded[number, :, top:top + height, left:left + width]
                 for number, (top, left) in zip(chosen.tolist(), shifts.tolist())]
        batch = torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips.tolist())])
        return batch, self.targets[chosen.to(self.targets.device)], chosen.tolist()

    def state(self) -> dict:
        return {"generator": self.generator.get_state()}

    def resume(self, state: dict) -> None:
        self.generator.set_state(state["generator"])


def errors(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, batch: int) -> dict[str, float]:
    """Top-1 and top-5 error in percent."""
    scores = torch.cat([model(part) for part in images.split(batch)]).float()
    hits = scores.topk(min(5, scores.shape[1])).indices == targets[:, None]
    return {"top1_error": 100 * (1 - hits[:, 0].float().mean().item()), "top5_error": 100 * (1 - hits.any(1).float().mean().item())}


def tensors(shard: Shard, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """All pictures of a classification shard, normalised, and their classes."""
    pictures = torch.stack([torch.tensor(shard[number].image) for number in range(len(shard))])
    return normalise(pictures.to(device)), torch.tensor([shard[number].target for number in range(len(shard))], device=device)


def pretrain(study: Study, backbone: str, out: Path, checkpoints: Path) -> tuple[History, dict[str, float], str]:
    """Train `backbone` as a classifier, write its state dict to `out`; return curves, final metrics and the device's name."""
    dataset, family, device = study.settings.imagenet, study.backbones[backbone], devices.pick()
    size = study.settings.network.backbones[backbone]
    shards = study.artifacts("shards", "imagenet")
    shard, validation = Shard(shards / f"{dataset.train.split}.arrow"), Shard(shards / f"{dataset.evaluate.split}.arrow")
    torch.manual_seed(0)
    model = deeplab.build_classifier(family.family, size, len(shard.classes)).to(device, memory_format=torch.channels_last)
    schedule.set_batch_norm(model, family.family, dataset.train.steps)
    optimiser = schedule.optimiser(model, family.weight_decay, dataset.train.learning_rate)
    pictures = Pictures(*tensors(shard, device), dataset.train.batch, seed=0)
    held_out = tensors(validation, device)
    inputs = digest(size.model_dump(), dataset.train.model_dump(), shards / "sheet.json")
    checkpoint = Checkpoint(checkpoints / f"{backbone}.pt", inputs)

    history, metrics = fit(model, optimiser, pictures, lambda model, batch: F.cross_entropy(model(batch[0]).float(), batch[1]),
                           lambda: errors(model, *held_out, dataset.evaluate.batch), dataset.train, checkpoint, backbone)
    with atomic(out / WEIGHTS) as partial:
        save_file({key: value.contiguous() for key, value in model.backbone.state_dict().items()}, partial)
    checkpoint.remove()
    metrics["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return history, metrics, devices.describe(device)
