"""MobileNetV2 (arXiv 1801.04381, Table 2), the light backbone, up to its last bottleneck: the authors' layer_18.

Parameter names are those of timm's `mobilenetv2_100`, which is the same network at width 1: timm's weights load.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.layers import dilate, initialise_backbone

STEM = 32
STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))  # channels, units, stride
EXPANSION = 6       # of a unit's inner channels; the first unit has none
TAPS = {1: "conv2", 2: "conv3"}  # the stages that leave stride 4 and stride 8
DEVIATION = 0.09    # of the initial weights (released code, slim's mobilenet.py)


def rounded(count: int, width: float) -> int:
    """`count` channels times `width`. The authors' DeepLab rounds to no multiple of 8, unlike slim and timm: 24 at 0.5 is 12."""
    return max(1, int(count * width + 0.5))


class ReLU6(torch.autograd.Function):
    """In place, with the gradient from the result. torch's own keeps a copy of the input for it: a quarter of a step's memory."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        ctx.save_for_backward(F.relu6(x, inplace=True))
        return x

    @staticmethod
    def backward(ctx, gradient):
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, 0.0, 6.0)


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6), in place."""
    learns = torch.is_grad_enabled() and not torch.compiler.is_compiling()  # a compiler keeps what it needs
    return ReLU6.apply(x) if learns else F.relu6(x, inplace=True)


class Unit(nn.Module):
    """Inverted residual: 1x1 to `expansion` times the channels, depthwise 3x3, 1x1 without activation; shortcut where it fits."""

    def __init__(self, inputs: int, outputs: int, stride: int, rate: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        depthwise = nn.Conv2d(inner, inner, 3, stride, rate, rate, groups=inner, bias=False)
        project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.expands = expansion > 1
        if self.expands:
            self.conv_pw, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
            self.conv_dw, self.bn2 = depthwise, nn.BatchNorm2d(inner)
            self.conv_pwl, self.bn3 = project, nn.BatchNorm2d(outputs)
        else:
            self.conv_dw, self.bn1 = depthwise, nn.BatchNorm2d(inner)
            self.conv_pw, self.bn2 = project, nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The unit's output, and its depthwise convolution's (after ReLU6): what the decoder takes."""
        if self.expands:
            y = relu6(self.bn1(self.conv_pw(x)))
            depthwise = relu6(self.bn2(self.conv_dw(y)))
            y = self.bn3(self.conv_pwl(depthwise))
        else:
            depthwise = relu6(self.bn1(self.conv_dw(x)))
            y = self.bn2(self.conv_pw(depthwise))
        return (x + y if self.shortcut else y), depthwise


class MobileNet(nn.Module):
    """Backbone. The classifier's 1x1 convolution to 1280 channels is left out, as in the authors' DeepLab.

    `width` multiplies all channels. `out_channels`: of each feature, conv2 (stride 4), conv3 (stride 8), out (output stride).
    """

    def __init__(self, output_stride: int = 32, width: float = 1.0):
        super().__init__()
        inputs = rounded(STEM, width)
        self.conv_stem, self.bn1 = nn.Conv2d(3, inputs, 3, 2, 1, bias=False), nn.BatchNorm2d(inputs)
        steps = [stride if i == 0 else 1 for _, units, stride in STAGES for i in range(units)]
        plan = iter(dilate(steps, 2, output_stride))
        self.blocks, self.out_channels = nn.ModuleList(), {}
        for number, (count, units, _) in enumerate(STAGES):
            stage, outputs = nn.ModuleList(), rounded(count, width)
            for _ in range(units):
                stage.append(Unit(inputs, outputs, *next(plan), EXPANSION if number else 1))
                inputs = outputs
            self.blocks.append(stage)
            if number in TAPS:
                self.out_channels[TAPS[number]] = outputs * EXPANSION
        self.out_channels["out"] = inputs
        initialise_backbone(self, DEVIATION)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x: (N, 3, H, W) in [-1, 1] -> conv2, conv3: depthwise outputs (after ReLU6) of the last units at strides 4 and 8.

        The authors' decoder takes conv2 = layer_4/depthwise_output; conv3 = layer_7/depthwise_output is ours, by analogy.
        """
        x = relu6(self.bn1(self.conv_stem(x)))
        taken = {}
        for number, stage in enumerate(self.blocks):
            for unit in stage:
                x, depthwise = unit(x)
            if number in TAPS:
                taken[TAPS[number]] = depthwise
        return {**taken, "out": x}
