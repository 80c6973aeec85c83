"""Xception and MobileNetV2 against timm's own forward passes, with timm's state dicts: an independent reference."""
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.models.mobilenet import MobileNet
from pipeline.models.published.checkpoints import load_backbone_weights
from pipeline.models.xception import Xception
from tests.models.small_networks import stir

timm = pytest.importorskip("timm")
MOBILENET = Path(__file__).parents[3] / "shared" / "data" / "mobilenetv2_100_imagenet.safetensors"
SIZES = {"xception41": (8, 3), "xception65": (16, 3), "xception71": (16, 5)}


@pytest.mark.parametrize("name", SIZES)
def test_xception_has_timms_names_shapes_and_epsilon(name):
    middle, entry = SIZES[name]
    with torch.device("meta"):
        ours, theirs = Xception(middle, entry), timm.create_model(name)
    expected = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("head.")}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    epsilons = {layer.eps for model in (ours, theirs) for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)}
    assert epsilons == {1e-3}


# timm drops Xception-71's last entry shortcut where its stride becomes 1 (output stride 8): there the authors' code keeps it.
@pytest.mark.parametrize("name, output_stride", [("xception41", 8), ("xception41", 16), ("xception41", 32), ("xception71", 16)])
@torch.no_grad()
def test_xception_computes_what_timm_does(name, output_stride):
    middle, entry = SIZES[name]
    theirs = stir(timm.create_model(name, output_stride=output_stride, num_classes=0))
    ours = Xception(middle, entry, output_stride=output_stride).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    expected = theirs.forward_features(x)
    assert expected.abs().mean() > 1e-3
    torch.testing.assert_close(ours(x)["out"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_mobilenet_computes_what_timm_does(output_stride):
    theirs = stir(timm.create_model("mobilenetv2_100", output_stride=output_stride))
    ours = MobileNet(output_stride).eval()
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if name in ours.state_dict()})
    taken = {}
    theirs.blocks[6].register_forward_hook(lambda module, inputs, output: taken.update(out=output))
    theirs.blocks[1][1].conv_pwl.register_forward_hook(lambda module, inputs, output: taken.update(conv2=inputs[0]))
    theirs.blocks[2][2].conv_pwl.register_forward_hook(lambda module, inputs, output: taken.update(conv3=inputs[0]))
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    theirs.forward_features(x)
    features = ours(x)
    for name, stride in (("conv2", 4), ("conv3", 8), ("out", output_stride)):
        assert features[name].shape == (1, ours.out_channels[name], 64 // stride + 1, 96 // stride + 1)
        torch.testing.assert_close(features[name], taken[name], rtol=1e-4, atol=1e-5)


def test_mobilenets_published_weights_load():
    if not MOBILENET.exists():
        pytest.skip(f"{MOBILENET} is not here")
    ours, theirs = MobileNet().eval(), timm.create_model("mobilenetv2_100", num_classes=0).eval()
    load_backbone_weights(MOBILENET, ours)
    theirs.load_state_dict(load_file(MOBILENET))
    x = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = theirs.bn2(theirs.conv_head(ours(x)["out"]))
        torch.testing.assert_close(features, theirs.forward_features(x), rtol=1e-4, atol=1e-5)
