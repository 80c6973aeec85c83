"""ResNet-v1 "beta", the paper's ResNet (released code, core/resnet_v1_beta.py): Figure 2's "DCNN" for Tables 1 to 3.

It differs from the usual ResNet in three ways that cost people points: three 3x3 convolutions in place of the 7x7 stem; the
stride in the LAST unit of blocks 1 to 3; and multi-grid rates in block 4 (DeepLabv3, section 3.1).
"""
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.layers import ConvBN, channels, dilate, initialise_backbone

MULTI_GRID = (1, 2, 4)
STRIDES = (2, 2, 2, 1)             # of blocks 1 to 4, in their last unit
WIDTHS = (64, 128, 256, 512)       # of a unit's inner convolutions; its output has four times as many channels


class Unit(nn.Module):
    """Bottleneck unit: 1x1, 3x3 (stride and rate are here), 1x1, added to the shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, rate: int):
        super().__init__()
        self.stride = stride
        self.shortcut = None if inputs == 4 * width else ConvBN(inputs, 4 * width, 1, stride=stride, relu=False)
        self.conv1 = ConvBN(inputs, width, 1)
        self.conv2 = ConvBN(width, width, 3, stride=stride, rate=rate)
        self.conv3 = ConvBN(width, 4 * width, 1, relu=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The unit's output, and its residual: conv3 after batch norm, before the sum, which is what the decoder takes."""
        shortcut = self.shortcut(x) if self.shortcut is not None else x[:, :, ::self.stride, ::self.stride]
        residual = self.conv3(self.conv2(self.conv1(x)))
        return F.relu_(shortcut + residual), residual


class ResNet(nn.Module):
    """Backbone. `units` per block: (3, 4, 6, 3) is ResNet-50, (3, 4, 23, 3) ResNet-101. `width` multiplies all channels.

    `out_channels` names the channels of each feature: conv2 (stride 4), conv3 (stride 8) and out (the output stride).
    """

    def __init__(self, units: tuple[int, int, int, int], width: float = 1.0, output_stride: int = 32,
                 multi_grid: tuple[int, ...] = MULTI_GRID):
        super().__init__()
        stem = channels(64, width)
        self.conv1 = nn.Sequential(ConvBN(3, stem, 3, stride=2), ConvBN(stem, stem, 3), ConvBN(stem, 2 * stem, 3))
        steps = [stride if i == count - 1 else 1 for stride, count in zip(STRIDES, units) for i in range(count)]
        plan = iter(dilate(steps, 4, output_stride))
        inputs = 2 * stem
        for block, count in enumerate(units):
            inner = channels(WIDTHS[block], width)
            grid = multi_grid if block == 3 else (1,)
            stack = nn.ModuleList()
            for i in range(count):
                stride, rate = next(plan)
                stack.append(Unit(inputs, inner, stride, rate * grid[i % len(grid)]))
                inputs = 4 * inner
            self.add_module(f"block{block + 1}", stack)
        self.out_channels = {"conv2": 4 * channels(64, width), "conv3": 4 * channels(128, width), "out": inputs}
        initialise_backbone(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x: (N, 3, H, W) in [-1, 1] -> conv2, conv3: residuals of blocks 1 and 2's last but one unit; out: block 4's."""
        x = max_pool(self.conv1(x))
        taken = {}
        for block, name in ((self.block1, "conv2"), (self.block2, "conv3"), (self.block3, None), (self.block4, None)):
            for i, unit in enumerate(block):
                x, residual = unit(x)
                if name and i == len(block) - 2:
                    taken[name] = residual
        return {**taken, "out": x}


def max_pool(x: Tensor) -> Tensor:
    """TensorFlow's 3x3 "SAME" pooling, stride 2: at even sizes it pads the far side only. `ceil_mode` does so without a copy."""
    height, width = x.shape[-2:]
    return F.max_pool2d(x, 3, 2, (height % 2, width % 2), ceil_mode=True)
