"""No tensor of a training step or a prediction is left on the CPU: told without a GPU, by torch's fake tensors.

They have a shape, a type and a device but no values, and operations on two devices fail as on a real GPU. Gradients and whatever
looks at values cannot be pretended (test_stand_in_gpu.py has whole steps).
"""
import contextlib

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.datasets.trimap import void_distance
from pipeline.doctor import calibration
from pipeline.evaluation import facts, inference, strategies
from pipeline.models import cost, deeplab, device as devices
from pipeline.study import StudyError
from pipeline.training import acceleration, classification, schedule, segmentation
from pipeline.training.augmentation import Crops
from pipeline.training.data import Resident, place
from tests import changed

CLASSES, GPU = 5, torch.device("cuda", 0)
DRAWN = [[.2 * number, .3, .6, .2 * number] for number in range(4)]  # what Crops draws, which fake tensors cannot
TINY = changed.at("tiny")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *options: True)  # by emulation, too
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()) as mode:
        yield mode


@pytest.fixture
def shard(tmp_path):
    rng = np.random.default_rng(0)
    with Writer(tmp_path / "val.arrow", "voc", [str(number) for number in range(CLASSES)]) as writer:
        for number in range(4):
            label = rng.integers(0, CLASSES, (40, 49)).astype(np.uint8)
            label[3] = 255
            writer.add(Example(str(number), rng.integers(0, 256, (40, 49, 3)).astype(np.uint8), label, void_distance(label)))
    return Shard(tmp_path / "val.arrow")


def network(name):
    """The run's network on the GPU; `to` does not move fake tensors."""
    run = TINY.runs[name]
    model = cost.on_meta(lambda: deeplab.build(run, TINY.backbones[run.backbone].family, TINY.settings.network, CLASSES))
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for key, value in own.items():
                if value is not None:
                    moved = torch.empty(value.shape, dtype=value.dtype, device=GPU)
                    own[key] = torch.nn.Parameter(moved) if own is module._parameters else moved
    return model


@pytest.mark.parametrize("name", ["t2-conv3", "t3-os16-nodec", "t5-sc", "t7-x71"])
def test_a_step_and_a_prediction(name, shard, pretended, monkeypatch):
    model = network(name)
    monkeypatch.setattr(Crops, "_draw", lambda crops: (None, [0, 1, 2, 3], DRAWN))
    inputs, labels, _ = Crops(Resident(shard, GPU), 33, 4, seed=0)()
    assert inputs.device == labels.device == GPU and inputs.is_contiguous(memory_format=torch.channels_last)
    model.train()
    with devices.autocast(GPU):
        loss = segmentation.loss_of(model, inputs, labels)
    assert loss.device == GPU and loss.dtype == torch.float32
    assert all(schedule.optimiser(model, 1e-4, .007, kind=kind).defaults["fused"] for kind in ("sgd", "adamw"))
    model.eval()
    some = {each: TINY.strategies[each] for each in ("os16", "os16-ms-flip")}
    with torch.inference_mode():
        found = strategies.predict({16: model}, torch.empty(4, 3, 49, 49, device=GPU), some, bf16=True)
    assert {(each.device, each.dtype) for each in found.values()} == {(GPU, torch.uint8)}


@pytest.mark.parametrize("capability, dtype", [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_a_gpu_computes_in_bfloat16_where_cudnn_can(shard, pretended, monkeypatch, capability, dtype):
    """Not on a T4, though torch emulates it there: autocast's training, its validation, and what the user is told."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    model, has, given = network("t3-os16-nodec"), dtype is torch.bfloat16, []
    with devices.autocast(GPU):
        assert model(torch.empty(1, 3, 33, 33, device=GPU)).dtype == dtype
    with contextlib.nullcontext() if has else pytest.warns(UserWarning, match="this GPU does not compute in bfloat16; going on in float32"):
        acceleration.adapt(model, TINY.training("t3-os16-nodec"))
    monkeypatch.setattr(inference, "predictions", lambda *options: given.append(options[-1]))
    with pytest.raises(TypeError):  # there is nothing to go through
        inference.progress_miou(model, 16, shard, (49, 49), 4, 4, [0])
    assert given == [has]


def test_bfloat16_is_refused_where_a_gpu_lacks_it(pretended, monkeypatch, shard):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
    with pytest.raises(StudyError, match="this GPU does not compute in bfloat16: leave --bf16 out"):
        next(inference.predictions({16: network("t3-os16-nodec")}, shard, {}, (49, 49), 4, [0], bf16=True))


def test_what_the_doctor_trains_on_goes_where_the_network_is(pretended, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 36, 1 << 36))
    monkeypatch.setattr(Crops, "_draw", lambda crops: (None, [0, 1, 2, 3], DRAWN))
    noise = calibration.Noise(33, CLASSES)
    inputs, labels, _ = Crops(place(noise, GPU), 33, 4, seed=0)()
    assert inputs.shape == (4, 3, 33, 33) and labels.shape == (4, 33, 33) and inputs.device == labels.device == GPU
    pictures, targets = classification.tensors(noise, GPU)
    assert pictures.shape == (16, 3, 33, 33) and targets.shape == (16,) and pictures.device == targets.device == GPU


def test_counts_are_kept_where_the_label_maps_are(pretended):
    facts._cells.cache_clear()
    try:
        maps = torch.empty(2, 9, 7, dtype=torch.uint8, device=GPU)
        with pytest.raises(RuntimeError, match="numpy"):  # the last step, which needs values
            facts.count([maps, maps], maps, maps, CLASSES)
    finally:
        facts._cells.cache_clear()


def test_what_a_gpu_draws_goes_on_too(monkeypatch):
    seen, state = [], torch.arange(16).byte()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", seen.append)
    devices.set_random_state(devices.random_state())
    assert len(seen) == 1 and torch.equal(seen[0], state)


def test_a_tensor_left_behind_is_noticed(pretended):
    with pytest.raises(RuntimeError, match="same device"):
        torch.empty(3, device=GPU) + torch.empty(3)
