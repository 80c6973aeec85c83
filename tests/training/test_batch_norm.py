"""How far back the statistics of batch norm reach; frozen, it stays as it is and keeps no inputs."""
import pytest
import torch
from torch import nn

from pipeline.training import batch_norm, schedule, segmentation
from tests.training.networks import kept_bytes, network, step


def test_batch_norm_decay_is_the_papers_at_the_papers_length_and_shorter_below():
    assert batch_norm.decay(0.9997, 30000) == pytest.approx(0.9997)
    assert batch_norm.decay(0.9997, 90000) == 0.9997
    assert batch_norm.decay(0.9997, 300) == pytest.approx(0.97)
    assert batch_norm.decay(0.95, 30000) == 0.95


def test_backbone_and_head_have_their_own_batch_norm_decay():
    model = nn.ModuleDict({"backbone": nn.BatchNorm2d(2), "aspp": nn.BatchNorm2d(2)})
    model["backbone"] = nn.Sequential(model["backbone"])
    batch_norm.set_decay(model, 0.95, 0.9997, 30000)
    assert (model["backbone"][0].momentum, model["aspp"].momentum) == pytest.approx((0.05, 0.0003))


def test_frozen_batch_norm_keeps_statistics_scale_and_shift_while_the_rest_learns():
    model = network("resnet101", output_stride=8)
    batch_norm.freeze(model)
    optimiser = schedule.optimiser(model, 1e-4, 0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):  # training, validating, training again: as the loop does it
        model.train()
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
        model.train()
    for norm in (module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.eval().requires_grad_(False)
    batch_norm.freeze(saving)
    one, other = step(plain), step(saving)
    torch.testing.assert_close(one[0], other[0])
    for expected, found in zip(one[1], other[1], strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
    assert all(torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True)), "nothing that is frozen has moved"
    assert kept_bytes(saving) < less * kept_bytes(plain)
