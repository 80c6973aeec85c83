"""DeepLabv3+ (Figure 2): backbone, ASPP, decoder and logits, put together as a run of `params.yaml` says.

Output stride changes strides and atrous rates only, so one state dict loads at 8, 16 and 32 alike.
"""
from torch import Tensor, nn

from pipeline.models import resnet
from pipeline.models.aspp import ASPP, rates_at
from pipeline.models.decoder import Decoder
from pipeline.models.dpc import DPC
from pipeline.models.layers import truncated_normal
from pipeline.models.mobilenet import MobileNet
from pipeline.models.xception import Xception
from pipeline.schema import BackboneSize, Network, Run
from pipeline.study import StudyError


class DeepLab(nn.Module):
    """forward: (N, 3, H, W) in [-1, 1] -> logits (N, classes, h, w), at the low-level feature's stride, or the output stride."""

    def __init__(self, backbone: nn.Module, aspp: ASPP | DPC, decoder: Decoder | None, classes: int):
        super().__init__()
        self.backbone, self.aspp, self.decoder = backbone, aspp, decoder
        self.logits = nn.Conv2d((decoder or aspp).outputs, classes, 1)
        truncated_normal(self.logits.weight, 0.01)
        nn.init.zeros_(self.logits.bias)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        x = self.aspp(features["out"])
        if self.decoder is not None:
            x = self.decoder(x, features)
        return self.logits(x)


class Classifier(nn.Module):
    """ImageNet pretraining: backbone at output stride 32, global average, one linear layer. forward -> logits (N, classes)."""

    def __init__(self, backbone: nn.Module, classes: int):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.out_channels["out"], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x)["out"].mean((2, 3)))


def build(run: Run, family: str, sizes: Network, classes: int, output_stride: int | None = None,
          multi_grid: tuple[int, ...] = resnet.MULTI_GRID) -> DeepLab:
    """The network of `run` at the `sizes` that a scale gives it.

    `output_stride`: None is the run's own, in training. `multi_grid`: a ResNet's. Raises StudyError where the scale has no such
    backbone.
    """
    if run.backbone not in sizes.backbones:
        raise StudyError(f"this scale's network.backbones has no {run.backbone}; it has {', '.join(sizes.backbones)}")
    output_stride = output_stride or run.output_stride
    backbone = build_backbone(family, sizes.backbones[run.backbone], output_stride, multi_grid)
    if run.dense_prediction_cell:
        aspp = DPC(backbone.out_channels["out"], output_stride, width=sizes.width)
    else:
        rates = rates_at(sizes.atrous_rates, output_stride) if run.atrous else ()
        aspp = ASPP(backbone.out_channels["out"], rates, width=sizes.width, separable=run.separable, image_level=run.image_level)
    decoder = None
    if run.decoder != "none":
        low_level = {name: backbone.out_channels[name] for name in run.low_level}
        decoder = Decoder(aspp.outputs, low_level, run.decoder, run.low_level_channels, width=sizes.width,
                          separable=run.separable)
    return DeepLab(backbone, aspp, decoder, classes)


def build_classifier(family: str, size: BackboneSize, classes: int) -> Classifier:
    """The network that ImageNet pretraining trains (Table 4); no multi-grid, which belongs to segmentation."""
    return Classifier(build_backbone(family, size, 32, (1, 1, 1)), classes)


def build_backbone(family: str, size: BackboneSize, output_stride: int,
                   multi_grid: tuple[int, ...] = resnet.MULTI_GRID) -> nn.Module:
    """A backbone alone, one of params.yaml's families; forward gives conv2, conv3 and out. StudyError of another."""
    if family == "resnet":
        return resnet.ResNet(size.units, size.width, output_stride, multi_grid)
    if family == "xception":
        return Xception(size.middle, size.entry, size.width, output_stride)
    if family == "mobilenet":
        return MobileNet(output_stride, size.width)
    raise StudyError(f"pipeline/models/deeplab.py builds no backbone of the family {family!r}")
