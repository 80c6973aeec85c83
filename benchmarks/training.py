"""How fast a training step is, as ratios of variants that take turns in one run.

    python benchmarks/training.py [SETTING ...]

Ours, against the same step on a fixed batch that lies on the device already; against the common loop (a DataLoader that decodes
JPEGs, torchvision's v2 transforms on the CPU, contiguous layout); and against segmentation_models_pytorch's DeepLabV3Plus with
the encoder of that name, where it is installed. Pictures are made up and weights random: neither matters to the time.

On a GPU: wall time, the loader on all cores. On a CPU: CPU time of one thread, loader included, because loader and training share
the cores; so other programs disturb it little. The quickest round counts.
"""
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.models import deeplab, device as devices
from pipeline.study import BackboneSize, Network, Run
from pipeline.training import schedule
from pipeline.training.augmentation import SCALES, VOID, Crops
from pipeline.training.data import place
from pipeline.training.loop import gradients
from pipeline.training.segmentation import loss_of

CLASSES, IMAGES, ROUNDS, WARM = 21, 48, 3, 2


@dataclass(frozen=True)
class Setting:
    device: str
    backbone: str
    family: str
    size: BackboneSize
    crop: int
    batch: int
    steps: int                    # timed, in each round
    width: float = 1.0            # of ASPP and decoder
    encoder: str | None = None    # smp's name for the backbone


R101, X65, MOBILE = BackboneSize(units=(3, 4, 23, 3)), BackboneSize(middle=16), BackboneSize()
SETTINGS = {
    "cpu-miniature": Setting("cpu", "resnet101", "resnet", BackboneSize(units=(2, 2, 3, 1), width=0.25), 97, 8, 15, width=0.25),
    "cpu-mobilenet": Setting("cpu", "mobilenetv2_100", "mobilenet", MOBILE, 257, 4, 3, encoder="mobilenet_v2"),
    "cpu-resnet101": Setting("cpu", "resnet101", "resnet", R101, 193, 2, 2, encoder="resnet101"),
    "gpu-resnet101": Setting("cuda", "resnet101", "resnet", R101, 513, 16, 30, encoder="resnet101"),
    "gpu-xception65": Setting("cuda", "xception65", "xception", X65, 513, 16, 30),
    "gpu-mobilenet": Setting("cuda", "mobilenetv2_100", "mobilenet", MOBILE, 513, 16, 30, encoder="mobilenet_v2"),
}


def network(setting: Setting, separable: bool, decoder: str) -> nn.Module:
    torch.manual_seed(0)
    run = Run(dataset="voc", backbone=setting.backbone, start=f"weights/{setting.backbone}", output_stride=16, decoder=decoder,
              low_level=["conv2"], low_level_channels=48, separable=separable, image_level=True)
    sizes = Network(width=setting.width, atrous_rates=(6, 12, 18), backbones={setting.backbone: setting.size})
    return deeplab.build(run, setting.family, sizes, CLASSES).to(setting.device)


def pictures(folder: Path, side: int) -> Shard:
    """Photo-like pictures of VOC's shape, once as a shard and once as JPEG and PNG files."""
    random = np.random.default_rng(0)
    with Writer(folder / "train.arrow", "voc", [str(number) for number in range(CLASSES)]) as writer:
        for number in range(IMAGES):
            shape = (side * 3 // 4, side) if number % 3 else (side, side * 3 // 4)
            coarse, patches = random.integers(0, 256, (12, 16, 3), np.uint8), random.integers(0, CLASSES, (6, 8), np.uint8)
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


def step_of(model: nn.Module, batches: Callable, loss: Callable) -> Callable[[], None]:
    """One training step of `model`, as the loop does it."""
    optimiser = schedule.optimiser(model, 1e-4, 1e-4)
    schedule.training_mode(model)

    def step():
        inputs, labels = batches()[:2]
        optimiser.zero_grad(set_to_none=True)
        gradients(model, model, inputs, labels, loss, VOID, 1)
        optimiser.step()
    return step


def variants(setting: Setting, folder: Path, shard: Shard, device: torch.device) -> dict[str, Callable[[], Callable[[], None]]]:
    """By name, what makes each variant's step; made anew for each round, so that no loader works ahead while another is timed."""
    def ours(separable=False, decoder="[3x3,256]x2", fixed=False, crop=setting.crop):
        crops = Crops(place(shard, device), crop, setting.batch, 0)
        first = crops()
        model = network(setting, separable, decoder).to(memory_format=torch.channels_last)
        return step_of(model, (lambda: first) if fixed else crops, loss_of)

    def common():
        workers = len(os.sched_getaffinity(0)) if device.type == "cuda" else 0
        files = Files(folder, setting.crop)
        stream = iter(torch.utils.data.DataLoader(files, setting.batch, num_workers=workers, pin_memory=workers > 0))
        batches = lambda: tuple(part.to(device, non_blocking=True) for part in next(stream))
        return step_of(network(setting, False, "[3x3,256]x2"), batches, plain_loss)

    def theirs():
        from segmentation_models_pytorch import DeepLabV3Plus
        torch.manual_seed(0)
        model = DeepLabV3Plus(setting.encoder, encoder_weights=None, classes=CLASSES).to(device)
        pixels, labels, _ = Crops(place(shard, device), setting.crop - 1, setting.batch, 0)()
        return step_of(model, lambda: ((pixels / 127.5 - 1).contiguous(), labels), plain_loss)

    found = {"ours": ours, "fixed batch": lambda: ours(fixed=True), "common loop": common}
    if setting.encoder:
        # its decoder is separable, with one 3x3 convolution, and its sides are multiples of 16: so are ours here
        found |= {"ours, as smp's": lambda: ours(True, "[3x3,256]", True, setting.crop - 1), "smp": theirs}
    return found


def seconds(make: Callable, steps: int, device: torch.device) -> float:
    step = make()
    for _ in range(WARM):
        step()
    wait, clock = (torch.cuda.synchronize, time.perf_counter) if device.type == "cuda" else (lambda: None, time.process_time)
    wait()
    began = clock()
    for _ in range(steps):
        step()
    wait()
    return (clock() - began) / steps


def madds(step: Callable) -> float:
    """Multiply-adds of a step's convolutions: three times the forward pass's, as torch's counter errs on depthwise gradients."""
    with FlopCounterMode(display=False) as counter:
        step()
    return 3 * counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 2


def matrix_rate() -> float:
    """Multiply-adds a second of this GPU's bf16 matrix product, measured at 8192."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 8192 ** 3 / min(seconds(lambda: lambda: a @ a, 20, a.device) for _ in range(3))


def measure(name: str, setting: Setting) -> None:
    """Print one setting's table."""
    if setting.device == "cuda" and not torch.cuda.is_available():
        print(f"{name}: not measured: no GPU")
        return
    device = devices.pick() if setting.device == "cuda" else torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        shard = pictures(Path(folder), round(setting.crop * 0.97))
        makers = variants(setting, Path(folder), shard, device)
        if "smp" in makers and not importlib.util.find_spec("segmentation_models_pytorch"):
            print(f"{name}: not measured against smp: segmentation_models_pytorch is not installed")
            del makers["smp"], makers["ours, as smp's"]
        times = {variant: [] for variant in makers}
        for _ in range(ROUNDS):
            for variant, make in makers.items():
                times[variant].append(seconds(make, setting.steps, device))
        work = {variant: madds(make()) for variant, make in makers.items() if variant in ("ours", "ours, as smp's", "smp")}
    best = {variant: min(values) for variant, values in times.items()}
    gpu = device.type == "cuda"
    hardware = devices.describe(device) + ("" if gpu else f", {torch.get_num_threads()} threads")
    print(f"{name}: crop {setting.crop}, batch {setting.batch}, {hardware}")
    for variant, values in times.items():
        rounds = ", ".join(f"{1000 * value:.1f}" for value in values)
        print(f"  {variant:15}{1000 * best[variant]:9.1f} ms a step; rounds {rounds}")
        if variant in work:
            rate = work[variant] / best[variant]
            share = f", {rate / matrix_rate():.0%} of the matrix rate" if gpu else ""
            print(f"{'':17}{work[variant] / 1e9:9.1f} G multiply-adds, {rate / 1e9:.1f} G a second{share}")
    pairs = {"fixed batch": ("ours", "of a fixed batch's pace"), "common loop": ("ours", "times the common loop's pace"),
             "smp": ("ours, as smp's", "times smp's pace")}
    for over, (under, meaning) in pairs.items():
        if over in best:
            print(f"  {best[over] / best[under]:.2f} {meaning}", flush=True)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or SETTINGS:
        measure(wanted, SETTINGS[wanted])
