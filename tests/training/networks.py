"""Small networks of all three families, a step of theirs, and what it keeps."""
import torch

from pipeline.models import deeplab
from pipeline.schema import BackboneSize, Network
from pipeline.training import segmentation
from tests.models.small_networks import BASE

SIZES = {"resnet101": BackboneSize(units=(2, 2, 2, 1), width=0.0625), "xception65": BackboneSize(middle=1, width=0.03125)}
NETWORK = Network(width=0.0625, atrous_rates=(1, 2, 3), backbones=SIZES | {"mobilenetv2_100": BackboneSize(width=0.25)})


def network(backbone, output_stride=16, classes=4):
    torch.manual_seed(0)
    run, family = BASE.model_copy(update={"backbone": backbone}), {"r": "resnet", "x": "xception", "m": "mobilenet"}[backbone[0]]
    return deeplab.build(run, family, NETWORK, classes, output_stride).to(memory_format=torch.channels_last)


def step(model):
    torch.manual_seed(7)
    pixels, labels = torch.rand(3, 3, 49, 49) * 255, torch.randint(4, (3, 49, 49))
    loss = segmentation.loss_of(model, pixels.contiguous(memory_format=torch.channels_last), labels)
    loss.backward()
    return loss, [parameter.grad for parameter in model.parameters()], list(model.state_dict().values())


def kept_bytes(model):
    """What the forward pass keeps for the backward pass."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.setdefault(each.data_ptr(), each), lambda each: each):
        model(torch.rand(2, 3, 65, 65))
    return sum(each.numel() * each.element_size() for each in kept.values())
