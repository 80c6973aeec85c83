"""Atrous spatial pyramid pooling (Figure 2, the encoder's last box; DeepLabv3, section 3.3)."""
import torch
from torch import Tensor, nn

from pipeline.models.layers import ConvBN, SeparableConvBN, channels, initialise_head


def rates_at(rates: tuple[int, ...], output_stride: int) -> tuple[int, ...]:
    """Atrous rates `rates`, named for output stride 16, at another: doubled at 8, halved (but at least 1) at 32."""
    return tuple(max(1, rate * 16 // output_stride) for rate in rates)


class ASPP(nn.Module):
    """1x1, a 3x3 at each of `rates` (separable or not), image pooling if `image_level`; concatenated, 1x1, dropout.

    forward: (N, inputs, h, w) -> (N, self.outputs, h, w), self.outputs = 256 times `width`.
    """

    def __init__(self, inputs: int, rates: tuple[int, ...], *, width: float = 1.0, separable: bool = False,
                 image_level: bool = True):
        super().__init__()
        self.outputs = depth = channels(256, width)
        atrous = SeparableConvBN if separable else ConvBN
        self.image = ConvBN(inputs, depth, 1) if image_level else None
        self.point = ConvBN(inputs, depth, 1)
        self.atrous = nn.ModuleList(atrous(inputs, depth, 3, rate=rate) for rate in rates)
        self.project = ConvBN((1 + len(rates) + image_level) * depth, depth, 1)
        self.dropout = nn.Dropout(0.1)
        initialise_head(self)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.point(x), *(branch(x) for branch in self.atrous)]
        if self.image is not None:
            pooled = self.image(x.mean((2, 3), keepdim=True))
            branches.insert(0, torch.zeros_like(branches[0]) + pooled)  # resizing 1x1 repeats it; the others' layout is kept
        return self.dropout(self.project(torch.cat(branches, 1)))
