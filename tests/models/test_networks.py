"""The networks' structure at small widths: output strides, features, rates, decoders, training mode. Parity is elsewhere."""
import pytest
import torch

from pipeline.models import deeplab
from pipeline.models.aspp import ASPP, rates_at
from pipeline.models.decoder import Decoder, convolutions
from pipeline.models.dpc import DPC
from pipeline.models.layers import resize
from pipeline.models.resnet import ResNet
from pipeline.models.xception import Xception
from pipeline.schema import BackboneSize, Network, Run
from pipeline.study import StudyError

SIZES = {"resnet": BackboneSize(units=(2, 3, 4, 3), width=0.0625), "xception": BackboneSize(middle=2, width=0.03125),
         "xception-71": BackboneSize(middle=1, entry=5, width=0.03125)}
BASE = Run(dataset="voc", backbone="it", start="weights/it", output_stride=16, decoder="[3x3,256]x2", low_level=("conv2",),
           low_level_channels=48, separable=False, image_level=True)


def network(size="resnet", output_stride=None, classes=5, rates=(2, 4, 6), width=0.0625, **changes):
    settings = Network(width=width, atrous_rates=rates, backbones={"it": SIZES[size]})
    return deeplab.build(BASE.model_copy(update=changes), size.partition("-")[0], settings, classes, output_stride)


def stir(module, seed=0):
    """Batch norm statistics away from 0 and 1, so that a test sees them; weights that let signals through."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.copy_(0.1 * torch.randn(layer.num_features, generator=generator))
            layer.running_var.copy_(0.5 + torch.rand(layer.num_features, generator=generator))
        if isinstance(layer, torch.nn.Conv2d):
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (1.6 / layer.weight[0].numel()) ** 0.5)
    return module.eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decoder", ["none", "[3x3,256]x2"])
def test_one_state_dict_for_every_output_stride(size, decoder):
    trained = network(size, 16, decoder=decoder)
    keys = {name: value.shape for name, value in trained.state_dict().items()}
    for output_stride in (8, 32):
        other = network(size, output_stride, decoder=decoder)
        assert {name: value.shape for name, value in other.state_dict().items()} == keys
        other.load_state_dict(trained.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), trained.state_dict().values()))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("finer, coarser", [(8, 16), (16, 32)])
@torch.no_grad()
def test_denser_features_hold_the_coarser_ones(size, finer, coarser):
    # Every position of the coarser map sees the same inputs through the same weights: stride 2 became rate 2 from there on.
    coarse = stir(network(size, coarser)).backbone
    fine = stir(network(size, finer)).backbone
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 129, 97, generator=torch.Generator().manual_seed(1))
    a, b = coarse.features(x)["out"], fine.features(x)["out"]
    assert a.shape[-2:] == (128 // coarser + 1, 96 // coarser + 1) and b.shape[-2:] == (128 // finer + 1, 96 // finer + 1)
    assert a.abs().mean() > 1e-3
    torch.testing.assert_close(b[..., ::2, ::2], a, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(resize(a, b.shape[-2:]), b, rtol=1e-2)  # and it is not just an upsampled copy


@pytest.mark.parametrize("separable", [False, True])
@torch.no_grad()
def test_denser_logits_hold_the_coarser_ones_without_image_pooling(separable):
    # The pooled mean is over other positions, so with it the logits do differ.
    def logits(output_stride, image_level):
        model = stir(network("resnet", output_stride, decoder="none", separable=separable, image_level=image_level))
        return model(torch.randn(1, 3, 129, 97, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(logits(8, False)[..., ::2, ::2], logits(16, False), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(8, True)[..., ::2, ::2], logits(16, True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_features_have_the_strides_and_channels_they_say(size, output_stride):
    backbone = network(size, output_stride).backbone.eval()
    features = backbone.features(torch.randn(1, 3, 65, 129))
    for name, stride in (("conv2", 4), ("conv3", 8), ("out", output_stride)):
        assert features[name].shape == (1, backbone.out_channels[name], 64 // stride + 1, 128 // stride + 1)


@pytest.mark.parametrize("size", SIZES)
def test_low_level_features_are_taken_before_relu(size):
    features = stir(network(size)).backbone.features(torch.randn(1, 3, 65, 65))
    assert features["conv2"].min() < 0 and features["conv3"].min() < 0  # an in-place ReLU downstream would have cut them
    assert features["out"].min() >= 0


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


def test_aspp_rates_follow_the_output_stride():
    assert [rates_at((6, 12, 18), stride) for stride in (32, 16, 8)] == [(3, 6, 9), (6, 12, 18), (12, 24, 36)]
    assert rates_at((1, 2, 4), 32) == (1, 1, 2)
    model = network("resnet", 8, rates=(6, 12, 18), separable=True)
    assert [branch.depthwise.conv.dilation[0] for branch in model.aspp.atrous] == [12, 24, 36]


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
    decoder = Decoder(16, {"conv2": 8, "conv3": 12}, "[3x3,256]", 48, width=0.0625).eval()
    assert list(decoder.refine) == ["conv3", "conv2"]
    assert decoder.project["conv3"].conv.in_channels == 12
    features = {"conv2": torch.randn(1, 8, 33, 25), "conv3": torch.randn(1, 12, 17, 13)}
    assert decoder(torch.randn(1, 16, 9, 7), features).shape == (1, 16, 33, 25)


@torch.no_grad()
@pytest.mark.parametrize("size", [(97, 97), (65, 129), (50, 63), (33, 33)])
@pytest.mark.parametrize("decoder", ["none", "[3x3,256]"])
def test_any_input_size(size, decoder):
    logits = network("resnet", decoder=decoder).eval()(torch.randn(1, 3, *size))
    stride = 16 if decoder == "none" else 4
    assert logits.shape == (1, 5, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("size", SIZES)
def test_training_needs_two_images_and_no_more(size):
    model = network(size, separable=True).train()
    model(torch.randn(2, 3, 33, 33)).square().mean().backward()  # image pooling's batch norm sees one position of each image
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing


@pytest.mark.parametrize("family", ["resnet", "xception"])
def test_classifier_shares_the_backbone(family):
    classifier = deeplab.build_classifier(family, SIZES[family], 10)
    assert classifier(torch.randn(2, 3, 33, 33)).shape == (2, 10)
    network(family).backbone.load_state_dict(classifier.backbone.state_dict())


def test_initialisation_is_the_authors():
    torch.manual_seed(0)
    model = network("xception", width=1.0, separable=True)
    for layer, deviation in ((model.backbone.blocks[-1].stack.conv3.conv_pw, 0.09), (model.aspp.atrous[0].depthwise.conv, 0.33),
                             (model.decoder.refine["conv2"][1].pointwise.conv, 0.06), (model.logits, 0.01)):
        assert layer.weight.abs().max() <= 2 * deviation
        assert 0.8 * deviation < layer.weight.std() < 0.95 * deviation  # 0.88 of it is left when the tails are cut
    assert not model.logits.bias.any()
    unit = network("resnet", width=1.0).backbone.block4[0]
    assert 0.85 < unit.conv2.conv.weight.square().sum((1, 2, 3)).mean() / 2 < 1.15  # fan in times variance is 2


@pytest.mark.parametrize("family, size, word", [("resnet", BackboneSize(), "units"), ("xception", BackboneSize(), "middle"),
                                                ("resnet", BackboneSize(units=(1, 2, 2, 1)), "two units")])
def test_sizes_that_make_no_network(family, size, word):
    with pytest.raises(StudyError, match=word):
        deeplab.build_backbone(family, size, 16)


def test_a_backbone_the_scale_lacks_is_named():
    with pytest.raises(StudyError, match="no other; it has it"):
        network("resnet", backbone="other")


@pytest.mark.parametrize("output_stride, times", [(16, 1), (8, 2)])
def test_the_dense_prediction_cell_is_wired_as_published(output_stride, times):
    cell = stir(DPC(8, output_stride, width=0.0625))
    rates = [branch.depthwise.conv.dilation for branch in cell.branches]
    assert rates == [(times * a, times * b) for a, b in ((1, 6), (18, 15), (6, 3), (1, 1), (6, 21))]
    x, b = torch.randn(1, 8, 9, 11), cell.branches
    with torch.no_grad():
        first = b[0](x)
        second = b[1](first)
        expected = cell.project(torch.cat([first, second, b[2](second), b[3](first), b[4](first)], 1))
        torch.testing.assert_close(cell(x), expected)
        assert cell(x).shape == (1, cell.outputs, 9, 11)


@torch.no_grad()
def test_image_pooling_sees_the_whole_map_and_nothing_of_where():
    aspp = stir(ASPP(8, (1, 2, 3), width=0.0625))
    aspp.project.conv.weight[:, 16:].zero_()  # only the first branch is left
    x = torch.randn(1, 8, 5, 6)
    torch.testing.assert_close(aspp(x), aspp(x)[..., :1, :1].expand(1, 16, 5, 6))
    torch.testing.assert_close(aspp(x), aspp(x.flip(2, 3)))
    x[0, :, 4, 5] += 100
    assert (aspp(x)[..., 0, 0] != aspp(x - x)[..., 0, 0]).any()
