"""Batch norm in a training: how far back its statistics reach, and how it is frozen."""
import functools

import torch
from torch import nn
from torch.nn import functional as F


def decay(published: float, steps: int) -> float:
    """The published decay, or less in a short schedule: statistics average over at most a ninth of the training.

    That is 0.9997 at the paper's 30K steps, its own value; at 300 steps 0.9997 would leave the statistics at their start.
    """
    return min(published, max(0.0, 1 - 9 / steps))


def set_decay(model: nn.Module, backbone: float, head: float, steps: int) -> None:
    """Give every batch norm its decay: `backbone`'s in `model.backbone`, `head`'s in ASPP and decoder, adapted to `steps`."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1 - decay(backbone if name.startswith("backbone.") else head, steps)


def freeze(model: nn.Module) -> None:
    """Statistics, scale and shift stay as they are, also after `model.train()`: how the protocol trains at output stride 8.

    DeepLabv3, section 4.1: "freeze batch normalization parameters", then output stride 8, because its batch is too small for good
    statistics. (The authors' fine_tune_batch_norm=False stops the statistics only.)
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad_(False)
            module.bias.requires_grad_(False)
            module.forward = functools.partial(_frozen, module)


def learns(model: nn.Module) -> bool:
    """Whether any batch norm of `model` is not frozen."""
    return any(isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad for module in model.modules())


class FrozenNorm(torch.autograd.Function):
    """Batch norm whose statistics, scale and shift are constants: its gradient is the same scaling, and needs no input.

    torch's own keeps each input all the same: a third of ResNet-101's step's memory.
    """

    @staticmethod
    def forward(ctx, x, mean, variance, weight, bias, epsilon):
        ctx.save_for_backward(variance, weight)
        ctx.epsilon = epsilon
        return F.batch_norm(x, mean, variance, weight, bias, eps=epsilon)

    @staticmethod
    def backward(ctx, gradient):
        variance, weight = ctx.saved_tensors
        none = torch.zeros_like(variance)
        return F.batch_norm(gradient, none, variance, weight, none, eps=ctx.epsilon), *(None,) * 5


def _frozen(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    constants = norm.running_mean, norm.running_var, norm.weight, norm.bias
    if torch.compiler.is_compiling():
        return F.batch_norm(x, *constants, eps=norm.eps)
    return FrozenNorm.apply(x, *constants, norm.eps)
