"""MobileNetV2, the light backbone: timm's `mobilenetv2_100` up to its last bottleneck (the authors' layer_18)."""
from torch import Tensor, nn


class MobileNet(nn.Module):
    """Backbone with timm's parameter names. The classifier's 1x1 convolution (conv_head) is left out, as in the authors' DeepLab.

    `out_channels` names the channels of each feature: conv2 (stride 4), conv3 (stride 8) and out (the output stride).
    """

    def __init__(self, output_stride: int = 32):
        super().__init__()
        import timm  # takes 10 s, and only this backbone needs it
        network = timm.create_model("mobilenetv2_100", output_stride=output_stride, num_classes=0)
        self.conv_stem, self.bn1, self.blocks = network.conv_stem, network.bn1, network.blocks
        self.out_channels = {"conv2": 144, "conv3": 192, "out": 320}

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """x: (N, 3, H, W) in [-1, 1] -> conv2, conv3: depthwise outputs (after ReLU6) of the last bottlenecks at strides 4 and 8.

        The authors' decoder takes conv2 = layer_4/depthwise_output; conv3 = layer_7/depthwise_output is ours, by analogy.
        """
        x = self.blocks[0](self.bn1(self.conv_stem(x)))
        taken = {}
        for i, stage in enumerate(self.blocks[1:]):
            for block in stage[:-1]:
                x = block(x)
            last = stage[-1]
            if i < 2:
                depthwise = last.bn2(last.conv_dw(last.bn1(last.conv_pw(x))))
                taken[("conv2", "conv3")[i]] = depthwise
                x = x + last.bn3(last.conv_pwl(depthwise))
            else:
                x = last(x)
        return {**taken, "out": x}

    forward = features
