"""Checkpointed activations change nothing but memory; a compiler that fails is done without; bfloat16 on a CPU."""
import contextlib
import functools

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch import config as lowering

from pipeline.schema import Training
from pipeline.training import acceleration, batch_norm, segmentation
from pipeline.training.loop import gradients
from tests.training.networks import SIZES, kept_bytes, network, step


@pytest.mark.parametrize("backbone", SIZES)
def test_checkpointed_activations_give_the_same_bits(backbone):
    plain, saving = network(backbone), network(backbone)
    acceleration.checkpoint_activations(saving.backbone)
    units = sum("forward" in vars(module) for module in saving.backbone.modules())
    assert units == {"resnet101": 7, "xception65": 6}[backbone]
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


def test_all_of_mobilenets_units_are_checkpointed():
    """The first, without expansion, has two convolutions."""
    model = network("mobilenetv2_100")
    acceleration.checkpoint_activations(model.backbone)
    assert sum("forward" in vars(module) for module in model.backbone.modules()) == 17


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


def test_a_backward_pass_that_cannot_be_compiled_is_done_without_too(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no kernel")
    backend = aot_autograd(fw_compiler=lambda graph, inputs: make_boxed_func(graph), bw_compiler=broken)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    monkeypatch.setattr(lowering, "force_non_lazy_backward_lowering", False)
    model, x = nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4)
    forward = acceleration.compiled(model)
    with pytest.warns(UserWarning, match="torch.compile failed .*; going on without it") as seen:
        for _ in range(2):
            forward(x).sum().backward()
    assert len(seen) == 1 and model.weight.grad is not None


def test_lack_of_memory_is_no_failure_of_the_compiler(monkeypatch):
    def full(x):
        raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(torch, "compile", lambda model: full)
    with pytest.raises(torch.OutOfMemoryError):
        acceleration.compiled(nn.Identity())(torch.zeros(1))


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
        batch_norm.freeze(model)  # that of a few small random maps makes much of little
        model.train()
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
