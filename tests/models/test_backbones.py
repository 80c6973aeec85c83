"""The backbones at small widths: output strides, rates, features and sizes. Parity is elsewhere."""
import re

import pytest
import torch
import yaml

from pipeline import study as studies
from pipeline.models import deeplab, mobilenet
from pipeline.models.layers import resize
from pipeline.models.resnet import ResNet
from pipeline.models.xception import Xception
from pipeline.schema import BackboneSize
from pipeline.study import ROOT, StudyError
from tests.models.small_networks import SIZES, network, stir
from tests.models.variants import VARIANTS


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("finer, coarser", [(8, 16), (16, 32)])
@torch.no_grad()
def test_denser_features_hold_the_coarser_ones(size, finer, coarser):
    # Every position of the coarser map sees the same inputs through the same weights: stride 2 became rate 2 from there on.
    coarse = stir(network(size, coarser)).backbone
    fine = stir(network(size, finer)).backbone
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 129, 97, generator=torch.Generator().manual_seed(1))
    a, b = coarse(x)["out"], fine(x)["out"]
    assert a.shape[-2:] == (128 // coarser + 1, 96 // coarser + 1) and b.shape[-2:] == (128 // finer + 1, 96 // finer + 1)
    assert a.abs().mean() > 1e-3
    torch.testing.assert_close(b[..., ::2, ::2], a, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(resize(a, b.shape[-2:]), b, rtol=1e-2)  # and it is not just an upsampled copy


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_features_have_the_strides_and_channels_they_say(size, output_stride):
    backbone = network(size, output_stride).backbone.eval()
    features = backbone(torch.randn(1, 3, 65, 129))
    for name, stride in (("conv2", 4), ("conv3", 8), ("out", output_stride)):
        assert features[name].shape == (1, backbone.out_channels[name], 64 // stride + 1, 128 // stride + 1)


@pytest.mark.parametrize("size", SIZES)
def test_low_level_features_are_taken_before_relu(size):
    features = stir(network(size)).backbone(torch.randn(1, 3, 65, 65))
    assert features["conv2"].min() < 0 and features["conv3"].min() < 0  # an in-place ReLU downstream would have cut them
    assert features["out"].min() >= 0


@pytest.mark.parametrize("variant, conv2, conv3", [  # protocol, sections 2 and 3; Xception's conv3 is ours, by analogy
    ("resnet_v1_50_beta", "block1.1.conv3", "block2.2.conv3"), ("resnet_v1_101_beta", "block1.1.conv3", "block2.2.conv3"),
    ("xception_41", "blocks.1.stack.conv2", "blocks.2.stack.conv2"), ("xception_65", "blocks.1.stack.conv2", "blocks.2.stack.conv2"),
    ("xception_71", "blocks.2.stack.conv2", "blocks.4.stack.conv2")])
def test_low_level_features_are_these_modules_outputs(variant, conv2, conv3):  # MobileNet's: test_timm.py
    with torch.device("meta"):
        backbone, made = deeplab.build_backbone(*VARIANTS[variant], 16).eval(), {}
        for name in (conv2, conv3):
            backbone.get_submodule(name).register_forward_hook(lambda module, inputs, output, name=name: made.update({name: output}))
        features = backbone(torch.empty(1, 3, 65, 65))
    assert features["conv2"] is made[conv2] and features["conv3"] is made[conv3]


@pytest.mark.parametrize("output_stride, strides, rates", [  # protocol, section 2
    (32, [2, 2, 2, 1], {3: [1] * 23, 4: [1, 2, 4]}),
    (16, [2, 2, 1, 1], {3: [1] * 23, 4: [2, 4, 8]}),
    (8, [2, 1, 1, 1], {2: [1] * 4, 3: [2] * 23, 4: [4, 8, 16]}),
])
def test_resnet101_strides_and_rates(output_stride, strides, rates):
    with torch.device("meta"):
        backbone = ResNet((3, 4, 23, 3), output_stride=output_stride)
    blocks = [backbone.block1, backbone.block2, backbone.block3, backbone.block4]
    for block, stride in zip(blocks, strides):
        assert [unit.stride for unit in block] == [1] * (len(block) - 1) + [stride]
    for number, expected in rates.items():
        assert [unit.conv2.conv.dilation[0] for unit in blocks[number - 1]] == expected
    assert backbone.out_channels == {"conv2": 256, "conv3": 512, "out": 2048}


@pytest.mark.parametrize("output_stride, first, middle, last", [(32, 1, 1, 1), (16, 1, 1, 2), (8, 2, 2, 4)])
@pytest.mark.parametrize("entry", [3, 5])
def test_xception_rates(output_stride, first, middle, last, entry):
    with torch.device("meta"):
        backbone = Xception(16, entry, output_stride=output_stride)
    rates = [[getattr(module.stack, f"conv{i}").conv_dw.dilation[0] for i in (1, 2, 3)] for module in backbone.blocks]
    assert rates == [[1] * 3] * entry + [[middle] * 3] * 16 + [[first] * 3, [last] * 3]
    assert backbone.out_channels == {"conv2": 256, "conv3": 728, "out": 2048}


def test_another_family_is_said_to_have_no_code():
    with pytest.raises(StudyError, match="builds no backbone of the family 'another'"):
        deeplab.build_backbone("another", BackboneSize(), 16)


def test_mobilenets_channels_are_rounded_to_the_nearest():
    assert [mobilenet.rounded(count, 0.35) for count in (16, 24, 32)] == [6, 8, 11]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu6_and_its_gradient_are_torchs_to_the_bit(dtype):
    edges = torch.tensor([-0.0, 0.0, 6.0, torch.inf, -torch.inf, torch.nan, *torch.nextafter(torch.tensor(6.0), torch.tensor([0.0, 9.0]))])
    x = torch.cat([edges, 8 * torch.randn(1000, generator=torch.Generator().manual_seed(0))]).to(dtype)
    weight, found = torch.rand(len(x), generator=torch.Generator().manual_seed(1)).to(dtype), []
    for function in (mobilenet.relu6, torch.nn.functional.relu6):
        own = x.clone().requires_grad_()
        y = function(own * 1)
        (y * weight).sum().backward()
        found.append((y.detach(), own.grad))
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=0, atol=0, equal_nan=True)


def test_relu6_keeps_nothing_but_its_result_for_the_backward_pass(monkeypatch):
    def kept():
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda each: storages.setdefault(each.data_ptr(), each), lambda each: each):
            mobilenet.MobileNet(16, 0.25)(torch.randn(2, 3, 65, 65))
        return sum(each.nbytes for each in storages.values())
    ours = kept()
    monkeypatch.setattr(mobilenet, "relu6", lambda x: torch.nn.functional.relu6(x, inplace=True))
    assert ours < 0.8 * kept()


def test_the_authors_other_backbones_are_as_the_docs_add_them():
    added = yaml.safe_load(re.search(r"The authors' other two.*?```yaml\n(.*?)```", (ROOT / "docs/extend.md").read_text(), re.DOTALL)[1])
    sizes = added["scales"]["paper"]["network"]["backbones"]
    raw = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"scale": "paper"}
    raw["backbones"] |= added["backbones"]
    raw["scales"]["paper"]["network"]["backbones"] |= sizes
    study = studies.Study.model_validate(raw)
    for name, variant in (("resnet50", "resnet_v1_50_beta"), ("xception41", "xception_41")):
        size = study.settings.network.backbones[name]
        assert (study.backbones[name].family, size.model_copy(update={"weights": None})) == VARIANTS[variant]
        assert variant.removesuffix("_beta") in size.weights
