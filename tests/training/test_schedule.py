import pytest
from torch import nn

from pipeline.training import schedule


def test_poly_starts_at_the_base_and_ends_at_zero():
    assert schedule.poly(0.007, 0, 30000, 0.9) == 0.007
    assert schedule.poly(0.007, 30000, 30000, 0.9) == 0
    assert schedule.poly(0.007, 15000, 30000, 0.9) == pytest.approx(0.007 * 0.5 ** 0.9)


def test_batch_norm_decay_is_the_papers_at_the_papers_length_and_shorter_below():
    assert schedule.batch_norm_decay(0.9997, 30000) == pytest.approx(0.9997)
    assert schedule.batch_norm_decay(0.9997, 90000) == 0.9997
    assert schedule.batch_norm_decay(0.9997, 300) == pytest.approx(0.97)
    assert schedule.batch_norm_decay(0.95, 30000) == 0.95


def test_only_dense_kernels_decay_and_biases_learn_twice_as_fast():
    dense, depthwise, norm = nn.Conv2d(4, 8, 3, bias=True), nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)
    groups = schedule.optimiser(nn.Sequential(dense, depthwise, norm), 1e-4, 0.1).param_groups
    where = {id(parameter): (group["weight_decay"], group["multiplier"]) for group in groups for parameter in group["params"]}
    assert where == {id(dense.weight): (1e-4, 1.0), id(dense.bias): (0.0, 2.0), id(depthwise.weight): (0.0, 1.0),
                     id(norm.weight): (0.0, 1.0), id(norm.bias): (0.0, 1.0)}


def test_last_layers_learn_faster_and_the_backbone_does_not():
    model = nn.ModuleDict({"backbone": nn.Conv2d(4, 8, 3), "logits": nn.Conv2d(8, 2, 1)})
    groups = schedule.optimiser(model, 1e-4, 0.1, last_layers=10).param_groups
    where = {id(parameter): (group["weight_decay"], group["multiplier"]) for group in groups for parameter in group["params"]}
    assert where == {id(model["backbone"].weight): (1e-4, 1.0), id(model["backbone"].bias): (0.0, 2.0),
                     id(model["logits"].weight): (1e-4, 10.0), id(model["logits"].bias): (0.0, 20.0)}
