"""The decoder (Figure 2, lower half; Tables 1 and 2): merges low-level features into the upsampled encoder output."""
import torch
from torch import Tensor, nn

from pipeline.models.layers import ConvBN, SeparableConvBN, channels, initialise_head, resize
from pipeline.schema import DECODER


def convolutions(name: str) -> tuple[int, int, int]:
    """The paper's notation, "[3x3,256]x2" -> (kernel 3, filters 256, count 2)."""
    kernel, filters, count = DECODER.fullmatch(name).groups()
    return int(kernel), int(filters), int(count or 1)


class Decoder(nn.Module):
    """For each low-level feature, coarsest first: resize to its size, concatenate its 1x1 projection, convolve.

    `low_level`: name -> channels of the features to merge, conv2 first. `convs`: Table 2's notation, applied after each merge.
    `projection`: channels of the 1x1 convolution on each feature. `width` multiplies filters and projection.
    forward: encoder output (N, inputs, h, w) and the backbone's features -> (N, self.outputs, H/4, W/4).
    """

    def __init__(self, inputs: int, low_level: dict[str, int], convs: str, projection: int, *, width: float = 1.0,
                 separable: bool = False):
        super().__init__()
        kernel, filters, count = convolutions(convs)
        self.outputs = channels(filters, width)
        projected = max(1, round(projection * width))
        convolution = SeparableConvBN if separable and kernel > 1 else ConvBN
        self.project, self.refine = nn.ModuleDict(), nn.ModuleDict()
        for name in reversed(low_level):
            self.project[name] = ConvBN(low_level[name], projected, 1)
            widths = [inputs + projected] + [self.outputs] * count
            self.refine[name] = nn.Sequential(*(convolution(a, b, kernel) for a, b in zip(widths, widths[1:])))
            inputs = self.outputs
        initialise_head(self)

    def forward(self, x: Tensor, features: dict[str, Tensor]) -> Tensor:
        for name, projection in self.project.items():
            low = projection(features[name])
            x = torch.cat([resize(x, low.shape[-2:]).to(low.dtype), low], 1)  # CUDA's autocast resizes in float32
            x = self.refine[name](x)
        return x
