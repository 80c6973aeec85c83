"""Checkpointed activations change nothing but memory; a compiler that fails is done without; frozen batch norm stays frozen;
bfloat16 on a CPU."""
import contextlib
import functools

import pytest
import torch
from torch import nn

from pipeline.models import deeplab
from pipeline.schema import BackboneSize, Network, Run, Training
from pipeline.training import acceleration, schedule, segmentation
from pipeline.training.loop import gradients

SIZES = {"resnet101": BackboneSize(units=(2, 2, 2, 1), width=0.0625), "xception65": BackboneSize(middle=1, width=0.03125)}
NETWORK = Network(width=0.0625, atrous_rates=(1, 2, 3), backbones=SIZES | {"mobilenetv2_100": BackboneSize(width=0.25)})


def network(backbone, output_stride=16):
    torch.manual_seed(0)
    run = Run(dataset="voc", backbone=backbone, start="runs/other", output_stride=output_stride, decoder="[3x3,256]x2",
              low_level=["conv2"], low_level_channels=48, separable=False, image_level=True)
    return deeplab.build(run, {"r": "resnet", "x": "xception", "m": "mobilenet"}[backbone[0]], NETWORK, 4).to(memory_format=torch.channels_last)


def step(model):
    torch.manual_seed(7)
    pixels, labels = torch.rand(3, 3, 49, 49) * 255, torch.randint(4, (3, 49, 49))
    loss = segmentation.loss_of(model, pixels.contiguous(memory_format=torch.channels_last), labels)
    loss.backward()
    return loss, [parameter.grad for parameter in model.parameters()], list(model.state_dict().values())


def kept_bytes(model):
    """What the forward pass keeps for the backward pass."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.setdefault(each.data_ptr(), each), lambda each: each):
        model(torch.rand(2, 3, 65, 65))
    return sum(each.numel() * each.element_size() for each in kept.values())


@pytest.mark.parametrize("backbone", SIZES)
def test_checkpointed_activations_give_the_same_bits(backbone):
    plain, saving = network(backbone), network(backbone)
    assert acceleration.checkpoint_activations(saving.backbone) == {"resnet101": 7, "xception65": 6}[backbone]
    one, other = step(plain), step(saving)
    assert torch.equal(one[0], other[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True)), "gradients"
    assert all(torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True)), "batch norm's statistics are recorded once"
    assert list(plain.state_dict()) == list(saving.state_dict())
    assert kept_bytes(saving) < 0.7 * kept_bytes(plain)


@pytest.mark.parametrize("backbone", SIZES)
def test_checkpointed_activations_can_be_compiled(backbone):
    """As one graph, and statistics are recorded once then, too."""
    plain, saving = network(backbone), network(backbone)
    for model in (plain, saving):
        model.aspp.dropout.p = 0.0  # drawn otherwise by compiled code
    acceleration.checkpoint_activations(saving.backbone)
    torch._dynamo.reset()
    quick = torch.compile(saving, backend="aot_eager", fullgraph=True)
    torch.manual_seed(7)
    x = torch.rand(3, 3, 49, 49) * 2 - 1
    for forward in (plain, quick):
        forward(x).square().mean().backward()
    for (name, value), other in zip(plain.state_dict().items(), saving.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, msg=name)
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("wanted", [False, True])
def test_activations_are_checkpointed_where_asked_for(wanted):
    model = network("resnet101")
    acceleration.adapt(model, BF16.model_copy(update={"checkpoint_activations": wanted, "cpu_bfloat16": False}))
    assert ("forward" in vars(model.backbone.block1[0])) == wanted


def test_synchronised_batch_norm_is_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model: pytest.fail("compiled"))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(network("resnet101"))
    with pytest.warns(UserWarning, match="synchronised between GPUs is not compiled"):
        assert acceleration.compiled(model) is model


def test_a_compiler_that_fails_is_done_without_after_one_warning(monkeypatch):
    def broken(model):
        def fail(x):
            raise RuntimeError("no C compiler\nand a long trace")
        return fail
    monkeypatch.setattr(torch, "compile", broken)
    model = nn.Conv2d(3, 2, 1)
    forward, x = acceleration.compiled(model), torch.rand(1, 3, 4, 4)
    with pytest.warns(UserWarning, match=r"torch.compile failed \(no C compiler\); going on without it") as seen:
        assert torch.equal(forward(x), model(x)) and torch.equal(forward(x), model(x))
    assert len(seen) == 1


def test_lack_of_memory_is_no_failure_of_the_compiler(monkeypatch):
    def full(x):
        raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(torch, "compile", lambda model: full)
    with pytest.raises(torch.OutOfMemoryError):
        acceleration.compiled(nn.Identity())(torch.zeros(1))


def test_frozen_batch_norm_keeps_statistics_scale_and_shift_while_the_rest_learns():
    model = network("resnet101", output_stride=8)
    schedule.freeze_batch_norm(model)
    optimiser = schedule.optimiser(model, 1e-4, 0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):  # training, validating, training again: as the loop does it
        schedule.training_mode(model)
        segmentation.loss_of(model, torch.rand(2, 3, 33, 33) * 255, torch.randint(4, (2, 33, 33))).div(2000).backward()
        optimiser.step()
        model.eval()
    frozen = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name.rpartition(".")[0] in frozen), name
    assert len(frozen) > 20 and model.aspp.dropout.training is False


@pytest.mark.parametrize("backbone, less", [("resnet101", .75), ("xception65", .7), ("mobilenetv2_100", .8)])
def test_frozen_batch_norm_learns_as_torchs_and_keeps_no_inputs(backbone, less):
    plain, saving = network(backbone), network(backbone)
    for model in (plain, saving):
        generator = torch.Generator().manual_seed(1)
        for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
            for tensor, (low, high) in ((norm.running_mean, (-.1, .1)), (norm.running_var, (.5, 2)), (norm.weight, (.5, 2)), (norm.bias, (-1, 1))):
                tensor.data.uniform_(low, high, generator=generator)
        schedule.freeze_batch_norm(model)
        schedule.training_mode(model)
    acceleration.adapt(saving, BF16.model_copy(update={"cpu_bfloat16": False}))
    one, other = step(plain), step(saving)
    torch.testing.assert_close(one[0], other[0])
    for expected, found in zip(one[1], other[1], strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
    assert all(torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True)), "nothing that is frozen has moved"
    assert kept_bytes(saving) < less * kept_bytes(plain)


def test_without_freezing_training_mode_is_train():
    model = network("resnet101").eval()
    schedule.training_mode(model)
    assert all(module.training for module in model.modules())


BF16 = Training(split="train", crop=65, batch=2, steps=1, learning_rate=0.1, power=0.9, validate_every=1, cpu_bfloat16=True)


@pytest.mark.parametrize("has, outputs", [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_bfloat16_where_asked_for_and_able(monkeypatch, has, outputs):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has, "avx2": True})
    model, seen = network("xception65"), []
    with contextlib.nullcontext() if has else pytest.warns(UserWarning, match="this processor does not compute in bfloat16"):
        acceleration.adapt(model, BF16)
    model.logits.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    pixels, labels = torch.rand(2, 3, 65, 65) * 255, torch.randint(4, (2, 65, 65))
    gradients(model, model, pixels, labels, segmentation.loss_of, 255, 1, cpu_bfloat16=True)
    gradients(model, model, pixels, labels, segmentation.loss_of, 255, 1)
    assert seen == [outputs, torch.float32]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32} == {each.grad.dtype for each in model.parameters()}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_bfloat16_learns_what_float32_does(monkeypatch, checkpointed):
    """Gradients point the same way; where activations are checkpointed, the second pass computes as the first did."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})  # others compute it too, slowly
    plain, quick = network("mobilenetv2_100"), network("mobilenetv2_100")
    training = BF16.model_copy(update={"checkpoint_activations": checkpointed})
    for model in (plain, quick):
        schedule.freeze_batch_norm(model)  # that of a few small random maps makes much of little
        schedule.training_mode(model)
    acceleration.adapt(quick, training)
    torch.manual_seed(7)
    pixels, labels = torch.rand(3, 3, 49, 49) * 255, torch.randint(4, (3, 49, 49))
    for model, precision in ((plain, False), (quick, True)):
        torch.manual_seed(3)  # of dropout
        gradients(model, model, pixels, labels, segmentation.loss_of, 255, 1, precision)
    one, other = (torch.cat([each.grad.flatten() for each in model.parameters() if each.requires_grad]) for model in (plain, quick))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99
    assert not torch.equal(one, other)


def _keep(kept, tensor):
    kept.append(tensor.dtype)
    return tensor


def test_strided_and_atrous_depthwise_convolutions_stay_in_float32():
    kinds = {"strided": {"stride": 2}, "atrous": {"dilation": 2}, "plain": {}}
    model = nn.ModuleDict({name: nn.Conv2d(4, 4, 3, groups=4, **kind) for name, kind in kinds.items()}
                          | {"dense": nn.Conv2d(4, 4, 3, stride=2)})
    before, x = {name: layer(torch.ones(1, 4, 9, 9)) for name, layer in model.items()}, torch.ones(1, 4, 9, 9)
    acceleration.float32_depthwise(model)
    in_float32 = set()
    with torch.autocast("cpu", torch.bfloat16):
        for name, layer in model.items():
            kept = []
            with torch.autograd.graph.saved_tensors_hooks(functools.partial(_keep, kept), lambda each: each):
                assert layer(x.bfloat16()).dtype == torch.bfloat16
            if torch.bfloat16 not in kept:
                in_float32.add(name)
    assert in_float32 == {"strided", "atrous"}
    assert all(torch.equal(layer(x), before[name]) for name, layer in model.items()), "without autocast nothing changes"
