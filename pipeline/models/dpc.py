"""The dense prediction cell that one network of the authors' model zoo has in the place of ASPP (arXiv 1809.04184, Figure 5).

Released code: core/dense_prediction_cell.py with dense_prediction_cell_branch5_top1_cityscapes.json.
"""
import torch
from torch import Tensor, nn

from pipeline.models.aspp import rates_at
from pipeline.models.layers import ConvBN, SeparableConvBN, channels, initialise_head

# Of each branch: where its input comes from (None: the backbone, else a branch before it); its vertical and horizontal atrous
# rate at output stride 16.
BRANCHES = ((None, (1, 6)), (0, (18, 15)), (1, (6, 3)), (0, (1, 1)), (0, (6, 21)))


class DPC(nn.Module):
    """Five separable 3x3 convolutions, one behind another or beside it; all concatenated, dropout, 1x1.

    forward: (N, inputs, h, w) -> (N, self.outputs, h, w), self.outputs = 256 times `width`.
    """

    def __init__(self, inputs: int, output_stride: int, *, width: float = 1.0):
        super().__init__()
        self.outputs = depth = channels(256, width)
        self.branches = nn.ModuleList(
            SeparableConvBN(inputs if source is None else depth, depth, 3,
                            rate=rates_at(rates, output_stride)) for source, rates in BRANCHES)
        self.dropout = nn.Dropout(0.1)
        self.project = ConvBN(len(BRANCHES) * depth, depth, 1)
        initialise_head(self)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch, (source, _) in zip(self.branches, BRANCHES):
            found.append(branch(x if source is None else found[source]))
        return self.project(self.dropout(torch.cat(found, 1)))
