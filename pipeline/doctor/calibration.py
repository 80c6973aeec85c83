"""How fast this machine trains: real training steps of the scale's own networks on random pictures, for some seconds."""
import dataclasses
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch
from torch import nn

from pipeline.datasets.shards import VOID, Example
from pipeline.models import cost, deeplab, device as devices
from pipeline.schema import Run, Training
from pipeline.study import Study
from pipeline.training import classification, schedule, segmentation
from pipeline.training.acceleration import adapt, memory_advice
from pipeline.training.augmentation import Crops
from pipeline.training.data import place
from pipeline.training.loop import gradients

ON_CPU = 20e9    # multiply-adds of a step's forward passes: where a CPU has more to do, a smaller step is measured
SMALL_BATCH, SMALL_CROP = 2, 129
PUBLISHED = Training(split="", crop=257, batch=4, steps=1, learning_rate=1, power=1, validate_every=1)  # where nothing is trained
CLASSES = 10     # of the generated classification set; published weights are not trained here


@dataclasses.dataclass(frozen=True)
class Rate:
    """Multiply-adds of forward passes a second, with backward passes and without; bytes of memory that a training takes. For
    published networks, which nobody trains, `training` is infinite, and the memory is this process's."""
    training: float
    inference: float
    memory: float


def pretrained(study: Study) -> list[str]:
    """The backbones that are pretrained here."""
    data = study.settings.imagenet
    if data is None or data.source is None or data.train is None:
        return []
    return [name for name, size in study.settings.network.backbones.items() if size.weights is None]


def kind_of(run: Run) -> str:
    """The networks that compute at one rate: those of a backbone, with and without separable convolutions in ASPP and decoder."""
    return run.backbone + (", separable" if run.separable else "")


def classifier(study: Study, backbone: str) -> deeplab.Classifier:
    """The network that `backbone` is pretrained as, at the size that the scale gives it."""
    return deeplab.build_classifier(study.backbones[backbone].family, study.settings.network.backbones[backbone], CLASSES)


class Noise(list):
    """Random pictures, their labels and classes, as a Shard gives them."""

    def __init__(self, side: int, classes: int):
        rng = np.random.default_rng(0)
        for number in range(16):
            image = rng.integers(0, 256, (side, side, 3), np.uint8)
            label = rng.integers(0, classes, (side, side), np.uint8)
            self.append(Example(str(number), image, label, target=number % classes))
        self.ids = [example.id for example in self]


def measure(study: Study, seconds: float) -> dict[str, Rate]:
    """The rate of each kind of network, in about `seconds` altogether. Raises StudyError where memory does not suffice."""
    runs = sorted(study.included, key=lambda name: (getattr(study.training(name), "crop", 0), study.runs[name].decoder != "none"))
    largest = {kind_of(study.runs[name]): name for name in runs}  # roughly
    kinds = {f"{name}, pretraining": (name, None) for name in pretrained(study)}
    kinds |= {kind: (study.runs[name].backbone, name) for kind, name in largest.items()}
    return {kind: rate(study, backbone, name, seconds / len(kinds)) for kind, (backbone, name) in kinds.items()}


def rate(study: Study, backbone: str, name: str | None, seconds: float) -> Rate:
    """Train and infer for about `seconds`: the run `name`, or the classifier that `backbone` is pretrained as.

    Inference is timed in float32, in which networks are evaluated; validation in a training, in bfloat16 on a GPU, takes less.
    """
    run = study.runs[name] if name else None
    trained = study.training(name) if run else study.settings.imagenet.train
    wanted = trained or PUBLISHED
    classes = cost.Costs(study, study.scale).classes(run) if run else CLASSES
    device = devices.pick(wanted.deterministic)

    def build() -> nn.Module:
        return (deeplab.build(run, study.backbones[backbone].family, study.settings.network, classes) if run
                else classifier(study, backbone))

    training = wanted
    if device.type == "cpu" and _madds(build, wanted) > ON_CPU:
        training = wanted.model_copy(update={"batch": SMALL_BATCH, "crop": min(wanted.crop, SMALL_CROP), "accumulate": 1})
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work, before = _madds(build, training), _memory(device)
    model = build().to(device, memory_format=torch.channels_last)
    adapt(model, training)
    optimiser = schedule.optimiser(model, study.backbones[backbone].weight_decay, 1e-6, kind=training.optimiser)
    batches, loss_of = _stream(run, training, classes, device)

    def step():
        inputs, labels, _ = batches()
        optimiser.zero_grad(set_to_none=True)
        gradients(model, model, inputs, labels, loss_of, VOID, training.accumulate, training.cpu_bfloat16)
        optimiser.step()

    def infer():
        with torch.inference_mode():
            model(inputs)

    with devices.memory_explained(memory_advice(training)):
        one_step = _seconds(step, 0.75 * seconds, device) if trained else 0.0
        grown = max(_memory(device) - before, 0) if trained else 0
        inputs = batches()[0]
        model.eval()
        one_pass = _seconds(infer, 0.25 * seconds, device)
    larger = (wanted.batch * wanted.crop ** 2) / (training.batch * training.crop ** 2)
    return Rate(work / one_step if trained else math.inf, work / one_pass, before + grown * larger)


def _madds(build: Callable[[], nn.Module], training: Training) -> int:
    """Multiply-adds of a step's forward passes."""
    return training.batch * cost.cost(cost.on_meta(build), (training.crop, training.crop)).madds_executed


def _stream(run: Run | None, training: Training, classes: int, device: torch.device) -> tuple[Callable, Callable]:
    """Batches of random pictures and their loss, as `loop.fit` takes them: of a run, or of a pretraining."""
    noise = Noise(training.crop, classes)
    if run:
        return Crops(place(noise, device), training.crop, training.batch, 0), segmentation.loss_of
    pictures = classification.Pictures(*classification.tensors(noise, device), noise.ids, training.batch, 0)
    return pictures, classification.loss_of


def _memory(device: torch.device) -> int:
    """Bytes that tensors took at most on a GPU; that this process takes on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _seconds(work: Callable[[], None], budget: float, device: torch.device) -> float:
    """The median time of `work` over about `budget` seconds, twice at least, the first time not counted."""
    began, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - began < budget:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
