"""On a real GPU (`python -m pytest -m gpu`): networks compute there what they compute on a CPU, steps wait for nothing, and a training
goes on to the bit. Gradients are compared in float32 and without dropout: in networks that have not learnt, bfloat16's rounding turns
them by more than a mistake might, and each device draws dropout in its own way."""
import warnings

import numpy as np
import pytest
import torch

from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.evaluation import strategies
from pipeline.models import device as devices
from pipeline.schema import Training
from pipeline.study import StudyError
from pipeline.training import acceleration, batch_norm, schedule, segmentation
from pipeline.training.augmentation import Crops
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.data import Resident, Streamed
from pipeline.training.loop import fit, gradients
from tests.training.networks import network

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a GPU: pytest -m gpu", allow_module_level=True)
FAMILIES = "resnet101", "xception65", "mobilenetv2_100"
TRAINING = Training(split="train", crop=65, batch=4, steps=8, learning_rate=0.001, power=0.9, validate_every=4)
CLASSES = 4


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path, random = tmp_path_factory.mktemp("shards") / "train.arrow", np.random.default_rng(0)
    with Writer(path, "voc", [str(number) for number in range(CLASSES)]) as writer:
        for number in range(9):
            label = random.integers(0, CLASSES, (7, 9)).astype(np.uint8).repeat(9, 0).repeat(9, 1)
            label[:3] = 255
            image = (50 * label[..., None] + random.integers(0, 50, (*label.shape, 3))).astype(np.uint8)
            writer.add(Example(f"image-{number}", image, label))
    return Shard(path)


@pytest.fixture(autouse=True)
def switches():
    """Those of torch that a test may have set."""
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


@pytest.fixture
def exact(monkeypatch):
    """Neither bfloat16 nor TF32."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: False)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def lively(family: str) -> torch.nn.Module:
    """A network on the CPU whose batch norms know the statistics of noise: with those of the start nothing would reach its end."""
    model = network(family)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model(torch.rand(8, 3, 65, 65) * 2 - 1)
    model.logits.weight.data *= 30
    return model


def learner(family: str, device: torch.device, training: Training, frozen: bool = False) -> torch.nn.Module:
    model = lively(family).to(device, memory_format=torch.channels_last)
    if frozen:
        batch_norm.freeze(model)
    acceleration.adapt(model, training)
    return model.train()


def gradient(model: torch.nn.Module, forward=None) -> tuple[float, torch.Tensor]:
    """Loss and gradient, on the CPU, of a batch that is the same each time."""
    device, random = next(model.parameters()).device, torch.Generator().manual_seed(1)
    pixels = torch.rand(4, 3, 65, 65, generator=random).mul(255).to(device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (4, 65, 65), generator=random).to(device)
    model.aspp.dropout.p = 0.0
    loss = gradients(model, forward or model, pixels, labels, segmentation.loss_of, 255, 1)
    return loss.item(), torch.cat([each.grad.flatten().cpu() for each in model.parameters() if each.requires_grad])


@pytest.mark.parametrize("home", [Resident, Streamed])
@pytest.mark.parametrize("family, more, frozen", [
    *((family, {}, False) for family in FAMILIES), ("resnet101", {}, True), ("xception65", {"accumulate": 2}, False),
    ("mobilenetv2_100", {"checkpoint_activations": True}, False), ("resnet101", {"optimiser": "adamw", "deterministic": True}, False)])
def test_the_host_waits_for_no_step(shard, home, family, more, frozen):
    """It could not start the next one meanwhile: no value is read, nothing is copied from memory that is not pinned."""
    training = TRAINING.model_copy(update=more)
    device = devices.pick(training.deterministic)
    model, crops = learner(family, device, training, frozen), Crops(home(shard, device), 65, 4, seed=0)
    optimiser = schedule.optimiser(model, 1e-4, 0.01, kind=training.optimiser)

    def step():
        inputs, labels, _ = crops()
        optimiser.zero_grad(set_to_none=True)
        gradients(model, model, inputs, labels, segmentation.loss_of, 255, training.accumulate)
        optimiser.step()
    for _ in range(3):
        step()
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(3):
        step()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_a_cpus(exact, family, frozen):
    (loss, here), (same, there) = (gradient(learner(family, device, TRAINING, frozen)) for device in (torch.device("cpu"), devices.pick()))
    assert same == pytest.approx(loss, rel=1e-3) and torch.nn.functional.cosine_similarity(here, there, dim=0) > 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_the_loss_is_near_a_cpus(family):
    (loss, _), (near, _) = (gradient(learner(family, device, TRAINING)) for device in (torch.device("cpu"), devices.pick()))
    assert near == pytest.approx(loss, rel=0.05) and near != pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("scale, flip", [(1, False), (0.5, True), (1.75, False)])
@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_are_a_cpus(exact, family, scale, flip):
    """At half the size some atrous rates are larger than the map. One pixel beside, they differ by 0.1 and more."""
    images, found = torch.rand(2, 3, 65, 49, generator=torch.Generator().manual_seed(1)) * 2 - 1, []
    for device in (torch.device("cpu"), devices.pick()):
        model = lively(family).eval().to(device, memory_format=torch.channels_last)
        with torch.inference_mode():
            found.append(strategies.probabilities(model, images.to(device), scale, flip).cpu())
    assert (found[0] - found[0].roll(1, -1)).abs().max() > 0.1
    torch.testing.assert_close(*found, rtol=0, atol=0.01)


def trained(folder, shard, home=Resident, family="resnet101", stop_in=None, frozen=False, **more):
    """Train through the loop; return weights and curves. stop_in: the step, from 1, in which it is killed."""
    training = TRAINING.model_copy(update=more)
    device, calls = devices.pick(training.deterministic), [0]
    torch.manual_seed(0)
    model = learner(family, device, training, frozen)

    def loss_of(network, pixels, labels):
        calls[0] += 1
        if calls[0] == stop_in:
            raise KeyboardInterrupt
        return segmentation.loss_of(network, pixels, labels)
    crops, checkpoint = Crops(home(shard, device), training.crop, training.batch, seed=0), Checkpoint(folder / "run.pt", "inputs")
    optimiser = schedule.optimiser(model, 1e-4, training.learning_rate, kind=training.optimiser)
    history, _ = fit(model, optimiser, crops, loss_of, dict, training, checkpoint, "run", 255)
    return model.state_dict(), [row[:3] for row in history.rows if row[1] == "loss"]


@pytest.mark.parametrize("home, more", [
    (Resident, {}), (Streamed, {"family": "xception65"}), (Resident, {"family": "mobilenetv2_100", "checkpoint_activations": True}),
    (Resident, {"optimiser": "adamw"}), (Streamed, {"frozen": True})])
def test_a_training_that_was_killed_ends_with_the_bytes_of_one_that_was_not(tmp_path, shard, home, more):
    """With `deterministic`, which is to refuse none of its operations, and to keep its word."""
    more = more | {"deterministic": True}
    weights, losses = trained(tmp_path / "whole", shard, home, **more)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", shard, home, stop_in=7, **more)
    assert (tmp_path / "killed/run.pt").exists()
    again, later = trained(tmp_path / "killed", shard, home, **more)
    assert later == losses and all(torch.equal(weights[name], again[name]) for name in weights)


def test_compiled_it_trains_too(tmp_path, shard):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "torch.compile failed")
        trained(tmp_path, shard, compile=True)


@pytest.mark.parametrize("family, more, frozen", [("resnet101", {}, True), ("resnet101", {"checkpoint_activations": True}, False),
                                                  ("xception65", {}, False), ("mobilenetv2_100", {}, False)])
def test_compiled_gradients_are_the_same(exact, family, more, frozen):
    models = [learner(family, devices.pick(), TRAINING.model_copy(update=more), frozen) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "torch.compile failed")
        (loss, plain), (same, compiled) = gradient(models[0]), gradient(models[1], acceleration.compiled(models[1]))
    assert same == pytest.approx(loss, rel=1e-3) and torch.nn.functional.cosine_similarity(plain, compiled, dim=0) > 0.999


def test_lack_of_memory_is_said(tmp_path, shard):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2 ** 28 / torch.cuda.get_device_properties(0).total_memory)
    with pytest.raises(StudyError, match=r"out of memory.*checkpoint_activations: true.*\(torch: "):
        trained(tmp_path, shard, crop=1025, batch=16)


def test_curves_have_the_gpus_gauges():
    torch.ones(1000, device="cuda")
    found = devices.gauges(devices.pick())
    assert found["gpu_memory_gb"] > 0 and 0 <= found["gpu_utilisation"] <= 100
