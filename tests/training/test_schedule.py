import pytest
import torch
from pydantic import ValidationError
from torch import nn

from pipeline.schema import Training
from pipeline.training import schedule

PAPER = Training(split="train_aug", crop=513, batch=16, steps=30000, learning_rate=0.007, power=0.9, validate_every=5000)


def test_poly_starts_at_the_base_and_ends_at_zero():
    assert schedule.learning_rate(PAPER, 0) == 0.007
    assert schedule.learning_rate(PAPER, 30000) == 0
    assert schedule.learning_rate(PAPER, 15000) == pytest.approx(0.007 * 0.5 ** 0.9)


def test_a_slow_start_comes_before_the_whole_of_poly():
    """As the authors' get_model_learning_rate has it without burn-in."""
    slow = PAPER.model_copy(update={"slow_start_steps": 1000})
    rates = [schedule.learning_rate(slow, step) for step in (0, 999, 1000, 15500, 30000)]
    assert rates == pytest.approx([1e-4, 1e-4, 0.007, 0.007 * 0.5 ** 0.9, 0])


def test_a_slow_start_ends_before_the_training_does():
    with pytest.raises(ValidationError, match="slow_start_steps: 30000 of 30000 steps leave none"):
        Training(**PAPER.model_dump() | {"slow_start_steps": 30000})


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


def test_sgd_has_a_momentum_of_09():
    """By hand: v = 0.9 v + gradient + decay * w; w -= rate * v. Not Nesterov's, as tf.train.MomentumOptimizer's default."""
    layer, weight, velocity = nn.Linear(1, 1, bias=False).double(), 2.0, 0.0
    sgd = schedule.optimiser(layer, 1e-2, 0.1)
    nn.init.constant_(layer.weight, weight)
    for gradient in (3.0, -1.0, 0.5):
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        sgd.step()
        velocity = 0.9 * velocity + gradient + 1e-2 * weight
        weight -= 0.1 * velocity
        assert layer.weight.item() == pytest.approx(weight)


def test_adamw_moves_every_kernel_by_the_rate_however_small_its_gradient():
    """By hand, first step: w -= rate * decay * w, then rate * gradient / |gradient|. The groups are those of SGD."""
    model = nn.ModuleDict({"backbone": nn.Conv2d(1, 1, 1, bias=False), "logits": nn.Conv2d(1, 1, 1, bias=False)})
    adamw = schedule.optimiser(model, 1e-2, 0.1, last_layers=10, kind="adamw")
    for layer, gradient in zip(model.values(), (3e-3, -7.0)):
        nn.init.constant_(layer.weight, 2.0)
        layer.weight.grad = torch.full_like(layer.weight, gradient)
    for group in adamw.param_groups:
        group["lr"] = 0.1 * group["multiplier"]
    adamw.step()
    moved = [layer.weight.item() for layer in model.values()]
    assert moved == pytest.approx([2 * (1 - 1e-3) - 0.1, 2 * (1 - 1e-2) + 1.0], abs=1e-5)
