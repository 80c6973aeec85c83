"""Modified aligned Xception-41, -65 and -71 (Figure 4; released code, core/xception.py): the "DCNN" of Tables 5 to 7.

Parameter names are those of timm's `xception41`, `xception65`, `xception71`, which are the same networks: timm's weights load.
"""
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.layers import ConvBN, channels, dilate, initialise_backbone

EPSILON = 1e-3      # of batch norm
DEVIATION = 0.09    # of the initial weights
ENTRY = {           # modules of the entry flow: output channels, stride
    3: ((128, 2), (256, 2), (728, 2)),                       # Xception-41 and -65
    5: ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)),   # Xception-71
}
MIDDLE = 728
EXIT = (((728, 1024, 1024), 2), ((1536, 1536, 2048), 1))


class SeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1, batch norm after each; ReLU after each only in the last module of the network."""

    def __init__(self, inputs: int, outputs: int, stride: int, rate: int, relu: bool):
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, rate, rate, groups=inputs, bias=False)
        self.bn_dw = nn.BatchNorm2d(inputs, eps=EPSILON)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn_pw = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn_dw(self.conv_dw(x))
        x = self.bn_pw(self.conv_pw(F.relu_(x) if self.relu else x))
        return F.relu_(x) if self.relu else x


class Module(nn.Module):
    """Three separable convolutions, the stride in the third, and a shortcut: "conv" (1x1), "sum" (identity) or "none".

    With a shortcut, ReLU comes before each convolution; the last module ("none") has it inside them instead.
    """

    def __init__(self, inputs: int, outputs: tuple[int, int, int], stride: int, rate: int, shortcut: str):
        super().__init__()
        self.identity = shortcut == "sum"
        self.before = shortcut != "none"
        self.shortcut = ConvBN(inputs, outputs[2], 1, stride=stride, relu=False, epsilon=EPSILON) if shortcut == "conv" else None
        self.stack = nn.Module()
        for i, width in enumerate(outputs):
            self.stack.add_module(f"conv{i + 1}", SeparableConv(inputs, width, stride if i == 2 else 1, rate, not self.before))
            inputs = width

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The module's output, and its second separable convolution's (after batch norm, no ReLU): what the decoder takes."""
        # Neither x (the shortcut reads it) nor the second output (the decoder reads it) may be changed in place.
        y = self.stack.conv1(F.relu(x) if self.before else x)
        second = self.stack.conv2(F.relu_(y) if self.before else y)
        y = self.stack.conv3(F.relu(second) if self.before else second)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        elif self.identity:
            y = y + x
        return y, second


class Xception(nn.Module):
    """Backbone. `middle` modules in the middle flow (8, 16, 16 for X-41, -65, -71), `entry` (3, 3, 5) in the entry flow.

    `width` multiplies all channels. The authors use no multi-grid here: the convolutions of a module have one atrous rate.
    `out_channels` names the channels of each feature: conv2 (stride 4), conv3 (stride 8) and out (the output stride).
    """

    def __init__(self, middle: int, entry: int = 3, width: float = 1.0, output_stride: int = 32):
        super().__init__()
        inputs = channels(64, width)
        self.stem = nn.Sequential(ConvBN(3, channels(32, width), 3, stride=2, epsilon=EPSILON),
                                  ConvBN(channels(32, width), inputs, 3, epsilon=EPSILON))
        modules = [((count,) * 3, stride, "conv") for count, stride in ENTRY[entry]]
        modules += [((MIDDLE,) * 3, 1, "sum")] * middle
        modules += [(*EXIT[0], "conv"), (*EXIT[1], "none")]
        plan = dilate([stride for _, stride, _ in modules], 2, output_stride)
        self.blocks = nn.ModuleList()
        for (outputs, _, shortcut), (stride, rate) in zip(modules, plan):
            outputs = tuple(channels(count, width) for count in outputs)
            self.blocks.append(Module(inputs, outputs, stride, rate, shortcut))
            inputs = outputs[2]
        strided = [i for i, (_, stride) in enumerate(ENTRY[entry]) if stride == 2]
        self.taps = {strided[1]: "conv2", strided[2]: "conv3"}   # the modules that leave stride 4 and stride 8
        self.out_channels = {name: channels(ENTRY[entry][i][0], width) for i, name in self.taps.items()} | {"out": inputs}
        initialise_backbone(self, DEVIATION)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x: (N, 3, H, W) in [-1, 1] -> conv2, conv3: second separable convolutions, before ReLU; out: the exit flow's output."""
        x = self.stem(x)
        taken = {}
        for i, module in enumerate(self.blocks):
            x, second = module(x)
            if i in self.taps:
                taken[self.taps[i]] = second
        return {**taken, "out": x}
