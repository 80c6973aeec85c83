"""Small networks for tests, and weights that let signals through."""
import torch

from pipeline.models import deeplab
from pipeline.schema import BackboneSize, Network, Run

SIZES = {"resnet": BackboneSize(units=(2, 3, 4, 3), width=0.0625), "xception": BackboneSize(middle=2, width=0.03125),
         "xception-71": BackboneSize(middle=1, entry=5, width=0.03125)}
BASE = Run(dataset="voc", backbone="it", start="weights/it", output_stride=16, decoder="[3x3,256]x2", low_level=("conv2",),
           low_level_channels=48, separable=False, image_level=True)


def network(size="resnet", output_stride=None, classes=5, rates=(2, 4, 6), width=0.0625, **changes):
    settings = Network(width=width, atrous_rates=rates, backbones={"it": SIZES[size]})
    return deeplab.build(BASE.model_copy(update=changes), size.partition("-")[0], settings, classes, output_stride)


def stir(module, seed=0):
    """Batch norm statistics away from 0 and 1, so that a test sees them; weights that let signals through."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.copy_(0.1 * torch.randn(layer.num_features, generator=generator))
            layer.running_var.copy_(0.5 + torch.rand(layer.num_features, generator=generator))
        if isinstance(layer, torch.nn.Conv2d):
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (1.6 / layer.weight[0].numel()) ** 0.5)
    return module.eval()
