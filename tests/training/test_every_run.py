"""A step of every network of params.yaml, at scale tiny: what a stage would train, in milliseconds. Two images are enough, though
image pooling's batch norm sees one position of each."""
import pytest
import torch

from pipeline.models import deeplab
from pipeline.training import segmentation
from tests import changed

TINY = changed.at("tiny")
CLASSES = 3


@pytest.mark.parametrize("name", TINY.included)
def test_the_loss_reaches_every_parameter(name):
    run = TINY.runs[name]
    torch.manual_seed(0)
    model = deeplab.build(run, TINY.backbones[run.backbone].family, TINY.settings.network, CLASSES).train()
    labels = torch.randint(CLASSES, (2, 33, 33))
    segmentation.loss_of(model, torch.rand(2, 3, 33, 33) * 255, labels).backward()
    still = {key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    # Xception has no ReLU there, and the next batch norm takes any constant out: the gradient is rounding, or none
    assert not {key for key in still if not key.endswith("bn_dw.bias")}
