"""The networks' structure at small widths: output strides, ASPP, training mode. The decoder is in test_decoder.py. Parity is elsewhere."""
import pytest
import torch
from torch import nn

from pipeline.models import deeplab
from pipeline.models.aspp import ASPP, rates_at
from pipeline.models.dpc import DPC
from pipeline.schema import BackboneSize
from pipeline.study import StudyError
from tests.models.small_networks import SIZES, network, stir


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


@pytest.mark.parametrize("separable", [False, True])
@torch.no_grad()
def test_denser_logits_hold_the_coarser_ones_without_image_pooling(separable):
    # The pooled mean is over other positions, so with it the logits do differ.
    def logits(output_stride, image_level):
        model = stir(network("resnet", output_stride, decoder="none", separable=separable, image_level=image_level))
        return model(torch.randn(1, 3, 129, 97, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(logits(8, False)[..., ::2, ::2], logits(16, False), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(8, True)[..., ::2, ::2], logits(16, True), rtol=1e-4, atol=1e-4)


def test_aspp_rates_follow_the_output_stride():
    assert [rates_at((6, 12, 18), stride) for stride in (32, 16, 8)] == [(3, 6, 9), (6, 12, 18), (12, 24, 36)]
    assert rates_at((1, 2, 4), 32) == (1, 1, 2)
    model = network("resnet", 8, rates=(6, 12, 18), separable=True)
    assert [branch.depthwise.conv.dilation[0] for branch in model.aspp.atrous] == [12, 24, 36]


@torch.no_grad()
@pytest.mark.parametrize("size", [(97, 97), (65, 129), (50, 63), (33, 33)])
@pytest.mark.parametrize("decoder", ["none", "[3x3,256]"])
def test_any_input_size(size, decoder):
    logits = network("resnet", decoder=decoder).eval()(torch.randn(1, 3, *size))
    stride = 16 if decoder == "none" else 4
    assert logits.shape == (1, 5, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("changes", [{"separable": True}, {"separable": False}, {"dense_prediction_cell": True}])
@pytest.mark.parametrize("size", SIZES)
def test_channels_last_stays_channels_last(size, changes):
    """Joined with one map of another layout, the branches of ASPP would all be copied, and so would their gradients."""
    model, copied = network(size, **changes).to(memory_format=torch.channels_last), []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda _, inputs, name=name: copied.append(name) if not inputs[0].is_contiguous(
                memory_format=torch.channels_last) else None)
    model.train()(torch.randn(2, 3, 97, 97).contiguous(memory_format=torch.channels_last))
    assert copied == []


@pytest.mark.parametrize("family", ["resnet", "xception"])
def test_classifier_shares_the_backbone(family):
    classifier = deeplab.build_classifier(family, SIZES[family], 10)
    assert classifier(torch.randn(2, 3, 33, 33)).shape == (2, 10)
    network(family).backbone.load_state_dict(classifier.backbone.state_dict())


@pytest.mark.parametrize("family", ["resnet", "xception"])
def test_a_classifier_has_output_stride_32_and_no_multi_grid(family):
    classifier = deeplab.build_classifier(family, SIZES[family], 10)
    assert {layer.dilation for layer in classifier.modules() if isinstance(layer, nn.Conv2d)} == {(1, 1)}
    assert classifier.backbone(torch.randn(2, 3, 65, 65))["out"].shape[-2:] == (3, 3)


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


def test_mobilenets_weights_begin_as_the_authors():
    torch.manual_seed(0)
    unit = deeplab.build_backbone("mobilenet", BackboneSize(), 16).blocks[5][1]
    for layer in (unit.conv_pw, unit.conv_pwl):
        assert layer.weight.abs().max() <= 2 * 0.09 and 0.8 * 0.09 < layer.weight.std() < 0.95 * 0.09


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
@pytest.mark.parametrize("separable", [False, True])
def test_aspp_is_wired_as_published(separable):
    """The order of what is joined tells published weights where they belong."""
    aspp, x = stir(ASPP(8, (1, 2, 3), width=0.0625, separable=separable)), torch.randn(1, 8, 5, 6)
    image = aspp.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, 5, 6)
    torch.testing.assert_close(aspp(x), aspp.project(torch.cat([image, aspp.point(x), *(branch(x) for branch in aspp.atrous)], 1)))


@pytest.mark.parametrize("size, epsilon", [("resnet", 1e-5), ("xception", 1e-3)])
def test_batch_norms_epsilon_is_the_authors(size, epsilon):
    found = {name: layer.eps for name, layer in network(size).named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert found == {name: epsilon if name.startswith("backbone.") else 1e-5 for name in found}


@torch.no_grad()
def test_image_pooling_sees_the_whole_map_and_nothing_of_where():
    aspp = stir(ASPP(8, (1, 2, 3), width=0.0625))
    aspp.project.conv.weight[:, 16:].zero_()  # only the first branch is left
    x = torch.randn(1, 8, 5, 6)
    torch.testing.assert_close(aspp(x), aspp(x)[..., :1, :1].expand(1, 16, 5, 6))
    torch.testing.assert_close(aspp(x), aspp(x.flip(2, 3)))
    x[0, :, 4, 5] += 100
    assert (aspp(x)[..., 0, 0] != aspp(x - x)[..., 0, 0]).any()


@torch.no_grad()
def test_a_tenth_of_aspps_output_is_dropped_in_training():
    torch.manual_seed(0)
    aspp = ASPP(8, (1, 2, 3), width=0.0625).train()
    nn.init.constant_(aspp.project.bn.bias, 10)  # no zero comes from ReLU
    assert 0.09 < (aspp(torch.randn(64, 8, 9, 9)) == 0).float().mean() < 0.11
    assert not (aspp.eval()(torch.randn(4, 8, 9, 9)) == 0).any()


@torch.no_grad()
def test_the_dense_prediction_cell_drops_before_its_projection():
    cell = DPC(8, 16, width=0.0625).train()
    nn.init.constant_(cell.project.bn.bias, 10)  # no zero comes from ReLU
    x = torch.randn(16, 8, 9, 9)
    assert not (cell(x) == 0).any() and not torch.equal(cell(x), cell(x))


@pytest.mark.parametrize("cell", [False, True])
def test_every_part_is_as_wide_as_the_scale_says(cell):
    model = network("xception", width=0.125, dense_prediction_cell=cell)
    assert (model.aspp.outputs, model.decoder.outputs, model.decoder.project["conv2"].conv.out_channels) == (32, 32, 6)


def test_plain_convolutions_of_the_head_begin_by_xavier():
    model = network("resnet", width=1.0)
    for layer in (model.aspp.project.conv, model.decoder.refine["conv2"][0].conv):
        bound = (6 / ((layer.in_channels + layer.out_channels) * layer.kernel_size[0] ** 2)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
