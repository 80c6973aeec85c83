"""The layers that every network is made of, against what they are defined as."""
import pytest
import torch
from hypothesis import example, given, settings, strategies as some
from torch.nn import functional as F

from pipeline.models.layers import ConvBN, channels, normalise, resize
from pipeline.models.resnet import max_pool


@given(some.integers(1, 40), some.integers(1, 40))
@settings(max_examples=30)
def test_max_pool_pads_as_tensorflow(height, width):
    # TensorFlow's SAME: output ceil(n / 2), padding split with the odd position at the far side.
    x = torch.rand(1, 2, height, width)
    result = max_pool(x)
    assert result.shape[-2:] == (-(-height // 2), -(-width // 2))
    for axis, n in ((2, height), (3, width)):
        total = max((-(-n // 2) - 1) * 2 + 3 - n, 0)
        near = total // 2
        line, pooled = x.amax(5 - axis)[0, 0], result.amax(5 - axis)[0, 0]
        for i, value in enumerate(pooled):
            assert value == line[max(0, 2 * i - near):2 * i - near + 3].max()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 2), (2, 2), (8, 8), (9, 9), (9, 8), (8, 9), (33, 17)])
def test_max_pool_is_that_of_a_copy_padded_with_zeros(height, width, layout):
    """After a ReLU, in value and gradient, to the bit; with many zeros and equal values among which one is chosen."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width).round().contiguous(memory_format=layout).requires_grad_()
    pooled, padded = max_pool(F.relu(x)), F.pad(F.relu(x), (width % 2, 1, height % 2, 1))
    expected = F.max_pool2d(padded, 3, 2)
    assert torch.equal(pooled, expected) and pooled.stride() == expected.stride()
    toward = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(y, x, toward)[0] for y in (pooled, expected))
    assert torch.equal(ours, theirs)


def test_resize_aligns_corners():
    x = torch.arange(6.).reshape(1, 1, 2, 3)
    y = resize(x, (3, 5))
    assert y[0, 0].tolist() == [[0, .5, 1, 1.5, 2], [1.5, 2, 2.5, 3, 3.5], [3, 3.5, 4, 4.5, 5]]
    assert resize(x, (2, 3)) is x


@pytest.mark.parametrize("height", [3, 4])  # at height 3 the layout cannot be guessed from the shape
def test_normalise_maps_grey_levels_to_minus_one_one(height):
    images = torch.zeros((2, height, 5, 3), dtype=torch.uint8)
    images[..., 1].fill_(255)
    result = normalise(images)
    assert result.shape == (2, 3, height, 5) and result.dtype == torch.float32
    assert (result[:, 1] == 1).all() and (result[:, [0, 2]] == -1).all()


def test_channels():
    assert [channels(n, 1.0) for n in (3, 728)] == [3, 728]
    assert [channels(n, 0.25) for n in (64, 728, 256)] == [16, 184, 64]  # 182 is no multiple of 4
    assert channels(32, 0.03125) == 4


@given(some.integers(1, 30), some.integers(1, 30), some.tuples(some.integers(1, 24), some.integers(1, 24)),
       some.sampled_from([torch.channels_last, torch.contiguous_format]), some.sampled_from([1, 3]))
@example(6, 5, (5, 5), torch.contiguous_format, 1)  # the largest rate at which all taps meet something, the least at which some do not
@settings(max_examples=40)
def test_a_convolution_is_the_sum_of_shifted_images_at_any_rate(height, width, rate, layout, groups):
    """Below the map's size and from there on, where taps are left out: the value and all gradients are those of the definition."""
    torch.manual_seed(0)
    layer = ConvBN(3, 3, 3, rate=rate, groups=groups, relu=False).to(torch.float64, memory_format=layout).eval()
    x = torch.randn(2, 3, height, width, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = layer.conv.weight
    down, right = rate
    padded = F.pad(x, (right, right, down, down))
    shifts = [(i, j, padded[:, :, i * down:i * down + height, j * right:j * right + width]) for i in range(3) for j in range(3)]
    full = weight if groups == 1 else torch.diag_embed(weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
    expected = layer.bn(sum(torch.einsum("oc,nchw->nohw", full[:, :, i, j], shifted) for i, j, shifted in shifts))
    found = layer(x)
    assert found.shape == x.shape and found.is_contiguous(memory_format=layout)
    torch.testing.assert_close(found, expected)
    toward = torch.randn(found.shape, dtype=torch.float64)
    for ours, theirs in zip(*(torch.autograd.grad(y, (x, weight), toward) for y in (found, expected))):
        torch.testing.assert_close(ours, theirs)
