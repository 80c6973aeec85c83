"""The decoder's structures, projections and order of merging, at small widths."""
import pytest
import torch

from pipeline import study as studies
from pipeline.models import deeplab
from pipeline.models.decoder import Decoder, convolutions
from pipeline.models.layers import SeparableConvBN, channels, resize
from tests.models.small_networks import stir


@pytest.mark.parametrize("name, expected", [("[3x3,256]", (3, 256, 1)), ("[3x3,256]x3", (3, 256, 3)), ("[1x1,256]", (1, 256, 1)),
                                            ("[3x3,128]", (3, 128, 1))])
def test_decoder_structures(name, expected):
    assert convolutions(name) == expected
    decoder = Decoder(256, {"conv2": 256}, name, 48)
    layers = [layer.conv for layer in decoder.refine["conv2"]]
    kernel, filters, count = expected
    assert [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in layers] == [
        (304 if i == 0 else filters, filters, kernel) for i in range(count)]


@torch.no_grad()
def test_decoder_merges_conv3_then_conv2():
    """What was upsampled first, then the projected feature: published weights are so."""
    decoder = stir(Decoder(16, {"conv2": 8, "conv3": 12}, "[3x3,256]", 48, width=0.0625))
    assert list(decoder.refine) == ["conv3", "conv2"]
    assert decoder.project["conv3"].conv.in_channels == 12
    features, x = {"conv2": torch.randn(1, 8, 33, 25), "conv3": torch.randn(1, 12, 17, 13)}, torch.randn(1, 16, 9, 7)
    found = decoder(x, features)
    for name in ("conv3", "conv2"):
        low = decoder.project[name](features[name])
        x = decoder.refine[name](torch.cat([resize(x, low.shape[-2:]), low], 1))
    assert x.shape == (1, 16, 33, 25)
    torch.testing.assert_close(found, x)


def test_conv3_alone_gives_its_own_stride():
    run = studies.load().runs["t2-x2"].model_copy(update={"low_level": ("conv3",), "decoder": "[3x3,512]"})
    network = deeplab.build(run, "resnet", studies.load().scales["tiny"].network, 3).eval()
    assert list(network.decoder.refine) == ["conv3"] and network.decoder.outputs == channels(512, studies.load().scales["tiny"].network.width)
    assert network(torch.randn(1, 3, 65, 49)).shape == (1, 3, 9, 7)


@pytest.mark.parametrize("channels, expected", [(48, 3), (24, 2), (12, 1), (4, 1)])
def test_reduced_channels_are_rounded_and_at_least_one(channels, expected):
    assert Decoder(16, {"conv2": 8}, "[3x3,256]", channels, width=0.0625).project["conv2"].conv.out_channels == expected


def test_separable_decoders_part_3x3_convolutions_only():
    parted = {name: isinstance(Decoder(16, {"conv2": 8}, name, 48, separable=True).refine["conv2"][0], SeparableConvBN)
              for name in ("[1x1,256]", "[3x3,256]")}
    assert parted == {"[1x1,256]": False, "[3x3,256]": True}
