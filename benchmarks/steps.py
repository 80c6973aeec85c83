"""Training steps to time: ours, the same on a fixed batch, the common loop's, and segmentation_models_pytorch's.

Pictures are made up and weights random: neither matters to the time.
"""
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pipeline import memory, records
from pipeline.datasets.shards import VOID, Example, Shard, Writer
from pipeline.models import deeplab, device as devices
from pipeline.schema import BackboneSize, Network, Run
from pipeline.training import schedule
from pipeline.training.acceleration import compiled, float32_depthwise
from pipeline.training.augmentation import SCALES, Crops
from pipeline.training.data import place
from pipeline.training.loop import gradients
from pipeline.training.segmentation import loss_of

CLASSES, IMAGES = 21, 48


@dataclass(frozen=True)
class Setting:
    device: str
    backbone: str
    family: str
    size: BackboneSize
    crop: int
    batch: int
    width: float = 1.0            # of ASPP and decoder
    rates: tuple[int, int, int] = (6, 12, 18)
    encoder: str | None = None    # smp's name for the backbone


R101, X65, MOBILE = BackboneSize(units=(3, 4, 23, 3)), BackboneSize(middle=16), BackboneSize()
SETTINGS = {
    "cpu-miniature": Setting("cpu", "resnet101", "resnet", BackboneSize(units=(2, 2, 3, 1), width=0.25), 97, 8, width=0.25,
                             rates=(2, 4, 6)),
    "cpu-mobilenet": Setting("cpu", "mobilenetv2_100", "mobilenet", MOBILE, 257, 4, encoder="mobilenet_v2"),
    "cpu-resnet101": Setting("cpu", "resnet101", "resnet", R101, 193, 2, encoder="resnet101"),
    "gpu-resnet101": Setting("cuda", "resnet101", "resnet", R101, 513, 16, encoder="resnet101"),
    "gpu-xception65": Setting("cuda", "xception65", "xception", X65, 513, 16),
    "gpu-mobilenet": Setting("cuda", "mobilenetv2_100", "mobilenet", MOBILE, 513, 16, encoder="mobilenet_v2"),
}


def network(setting: Setting, separable: bool = False, decoder: str = "[3x3,256]x2") -> nn.Module:
    torch.manual_seed(0)
    run = Run(dataset="voc", backbone=setting.backbone, start=f"weights/{setting.backbone}", output_stride=16, decoder=decoder,
              low_level=["conv2"], low_level_channels=48, separable=separable, image_level=True)
    sizes = Network(width=setting.width, atrous_rates=setting.rates, backbones={setting.backbone: setting.size})
    return deeplab.build(run, setting.family, sizes, CLASSES)


def pictures(folder: Path, side: int) -> Shard:
    """Photo-like pictures of VOC's shape, once as a shard and once as JPEG and PNG files."""
    random = np.random.default_rng(0)
    with Writer(folder / "train.arrow", "voc", [str(number) for number in range(CLASSES)]) as writer:
        for number in range(IMAGES):
            shape = (side * 3 // 4, side) if number % 3 else (side, side * 3 // 4)
            coarse = random.integers(0, 256, (12, 16, 3), np.uint8)
            patches = random.integers(0, CLASSES, (6, 8), np.uint8)
            image = np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))
            label = np.asarray(Image.fromarray(patches).resize(shape[::-1], Image.Resampling.NEAREST))
            writer.add(Example(f"{number}", image, label))
            Image.fromarray(image).save(folder / f"{number}.jpg", quality=90)
            Image.fromarray(label).save(folder / f"{number}.png")
    return Shard(folder / "train.arrow")


class Files(torch.utils.data.Dataset):
    """The common data set: files decoded by PIL, torchvision's v2 transforms, in the workers of a DataLoader."""

    def __init__(self, folder: Path, crop: int):
        self.folder, self.crop = folder, crop

    def __len__(self):
        return 1_000_000

    def __getitem__(self, index):
        from torchvision import tv_tensors
        from torchvision.transforms import v2
        index %= IMAGES
        pixels, classes = tv_tensors.Image, tv_tensors.Mask
        image = pixels(Image.open(self.folder / f"{index}.jpg").convert("RGB"))
        label = classes(Image.open(self.folder / f"{index}.png"))
        scale = SCALES[int(torch.randint(len(SCALES), ()))]
        transform = v2.Compose([
            v2.Resize([int(side * scale) for side in image.shape[-2:]]),
            v2.RandomCrop(self.crop, pad_if_needed=True, fill={pixels: 127, classes: VOID}), v2.RandomHorizontalFlip(),
            v2.ToDtype({pixels: torch.float32, "others": None}, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
        image, label = transform(image, label)
        return image.as_subclass(torch.Tensor), label.as_subclass(torch.Tensor).squeeze(0).long()


def plain_loss(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of models that take normalised pixels, whatever the size of their logits."""
    logits = F.interpolate(model(pixels).float(), labels.shape[-2:], mode="bilinear")
    return F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")


def step_of(model: nn.Module, batches: Callable, loss: Callable, accumulate: int = 1,
            forward: Callable | None = None, cpu_bfloat16: bool = False) -> Callable[[], None]:
    """One training step of `model`, as the loop does it; `forward`: what computes it, where that is not `model` itself."""
    optimiser = schedule.optimiser(model, 1e-4, 1e-4)
    model.train()

    def step():
        inputs, labels = batches()[:2]
        optimiser.zero_grad(set_to_none=True)
        gradients(model, forward or model, inputs, labels, loss, VOID, accumulate, cpu_bfloat16)
        optimiser.step()
    return step


def loaders(device: torch.device) -> int:
    """Workers of the common loop's DataLoader: on a CPU they would share the cores of the step."""
    return records.cores() if device.type == "cuda" else 0


def ahead(device: torch.device) -> int:
    """Batches that such a DataLoader has ready when it is first asked: these come for nothing."""
    return 2 * loaders(device)


def variants(setting: Setting) -> list[str]:
    """What can be timed in this setting. "as smp's": one separable 3x3 in the decoder, and a side that is a multiple of 16."""
    device = torch.device(setting.device)
    fast = ["ours, compiled"] if device.type == "cuda" else ["ours, bfloat16"] if devices.has_bfloat16(device) else []
    smp = ["ours, as smp's", "smp", "smp, memory kept"] if setting.encoder else []
    return ["ours", "fixed batch", "common loop", *fast, *smp]


def make(setting: Setting, variant: str, folder: Path, device: torch.device) -> Callable[[], None]:
    """The step of one of `variants`, on the pictures in `folder`. For a process of its own: ours keep freed memory."""
    shard = Shard(folder / "train.arrow")
    as_smp = variant == "ours, as smp's"
    if variant == "common loop":
        workers, files = loaders(device), Files(folder, setting.crop)
        stream = iter(torch.utils.data.DataLoader(files, setting.batch, num_workers=workers, pin_memory=workers > 0))
        batches = lambda: tuple(part.to(device, non_blocking=True) for part in next(stream))
        return step_of(network(setting).to(device), batches, plain_loss)
    if variant != "smp" and device.type == "cpu":
        memory.keep()
    if variant.startswith("smp"):
        from segmentation_models_pytorch import DeepLabV3Plus
        torch.manual_seed(0)
        model = DeepLabV3Plus(setting.encoder, encoder_weights=None, classes=CLASSES).to(device)
        pixels, labels, _ = Crops(place(shard, device), setting.crop - 1, setting.batch, 0)()
        inputs = (pixels / 127.5 - 1).contiguous()
        return step_of(model, lambda: (inputs, labels), plain_loss)
    crops = Crops(place(shard, device), setting.crop - as_smp, setting.batch, 0)
    model = network(setting, as_smp, "[3x3,256]" if as_smp else "[3x3,256]x2").to(device, memory_format=torch.channels_last)
    first, bfloat16 = crops(), variant == "ours, bfloat16"
    if bfloat16:
        float32_depthwise(model)
    warnings.filterwarnings("error", "torch.compile failed")  # it would be ours without it that is timed
    forward = compiled(model) if variant == "ours, compiled" else None
    return step_of(model, (lambda: first) if variant in ("fixed batch", "ours, as smp's") else crops, loss_of, forward=forward,
                   cpu_bfloat16=bfloat16)
