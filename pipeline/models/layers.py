"""What every box of the network is made of: convolution + batch norm, its separable form, resizing, input normalisation.

Shapes are (N, C, H, W) float32 throughout. Padding is symmetric, `rate * (kernel // 2)`, so sizes of the form 16k+1 stay aligned.
"""
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_EPSILON = 1e-5  # batch norm of ASPP and decoder, whatever the backbone's (released code, model.py)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners aligned, as every resize of the authors' code. x: (N, C, h, w) float -> (N, C, *size)."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def scaled(canvas: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width of `canvas` at an input scale: (d - 1) * scale + 1 each, which keeps corners aligned."""
    return tuple(int((side - 1) * scale) + 1 for side in canvas)


def normalise(images: Tensor) -> Tensor:
    """Grey levels 0..255, uint8 or float, (N, H, W, 3) as pictures are -> float32 (N, 3, H, W) in [-1, 1]: x / 127.5 - 1."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def channels(count: int, width: float) -> int:
    """`count` channels times `width`, to the nearest multiple of 4, at least 4; `count` itself at width 1."""
    return count if width == 1 else max(4, 4 * round(count * width / 4))


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, and (unless told otherwise) ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, rate: int | tuple[int, int] = 1,
                 groups: int = 1, relu: bool = True, epsilon: float = HEAD_EPSILON):
        super().__init__()
        rates = (rate, rate) if isinstance(rate, int) else rate  # vertical and horizontal
        padding = tuple(each * (kernel // 2) for each in rates)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, rates, groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=epsilon)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(convolve(self.conv, x))
        return F.relu_(x) if self.relu else x


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv(x)`, without the taps that meet nothing but padding: those of an atrous rate as large as the map.

    There a 3x3 filter "degenerates to a simple 1x1 filter since only the center filter weight is effective" (DeepLabv3, section
    3.3), for a ninth of the work. Compiled and exported networks, whose maps may have any size, keep all taps.
    """
    beyond = [rate >= side for rate, side in zip(conv.dilation, x.shape[-2:])]
    if torch.compiler.is_compiling() or not any(beyond):
        return conv(x)
    taps = (slice(size // 2, size // 2 + 1) if lost else slice(None) for lost, size in zip(beyond, conv.kernel_size))
    padding = [0 if lost else each for lost, each in zip(beyond, conv.padding)]
    return F.conv2d(x, conv.weight[:, :, *taps], conv.bias, conv.stride, padding, conv.dilation, conv.groups)


class SeparableConvBN(nn.Module):
    """Atrous separable convolution of ASPP and decoder (Figure 3): depthwise 3x3, BN, ReLU, then pointwise 1x1, BN, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, rate: int | tuple[int, int] = 1):
        super().__init__()
        self.depthwise = ConvBN(inputs, inputs, kernel, rate=rate, groups=inputs)
        self.pointwise = ConvBN(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def truncated_normal(weight: Tensor, deviation: float) -> None:
    """TensorFlow's truncated_normal_initializer: values beyond two deviations are drawn again."""
    nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation)


def initialise_backbone(module: nn.Module, deviation: float | None = None) -> None:
    """Convolutions from a truncated normal of this `deviation`, or slim's variance scaling (sqrt(2.6 / fan in)) without one."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            truncated_normal(layer.weight, deviation or math.sqrt(2.6 / layer.weight[0].numel()))


def initialise_head(module: nn.Module) -> None:
    """ASPP and decoder as in the authors' model.py: separable convolutions 0.33 and 0.06, others slim's Xavier uniform."""
    separable = set()
    for layer in module.modules():
        if isinstance(layer, SeparableConvBN):
            truncated_normal(layer.depthwise.conv.weight, 0.33)
            truncated_normal(layer.pointwise.conv.weight, 0.06)
            separable |= {layer.depthwise.conv, layer.pointwise.conv}
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer not in separable:
            nn.init.xavier_uniform_(layer.weight)


def dilate(strides: list[int], stride: int, output_stride: int) -> list[tuple[int, int]]:
    """(stride, atrous rate) of each unit, for a stack that begins at `stride` and must end at `output_stride`.

    Once the output stride is reached a later stride becomes 1, and the rate is multiplied by it from the next unit on.
    """
    rate, result = 1, []
    for step in strides:
        if stride * step <= output_stride:
            result.append((step, rate))
            stride *= step
        else:
            result.append((1, rate))
            rate *= step
    return result
