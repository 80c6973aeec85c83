"""Learning rate and parameter groups: section 4 of the paper and the authors' train.py."""
import torch
from torch import nn

from pipeline.schema import Training

MOMENTUM = 0.9
BIAS_MULTIPLIER = 2.0  # authors' model.get_model_gradient_multipliers: biases learn twice as fast


def learning_rate(training: Training, step: int) -> float:
    """The "poly" policy: base * (1 - step / steps) ** power. A slow start, at a rate of its own, comes before (train_utils)."""
    if step < training.slow_start_steps:
        return training.slow_start_learning_rate
    done = (step - training.slow_start_steps) / (training.steps - training.slow_start_steps)
    return training.learning_rate * (1 - done) ** training.power


def optimiser(model: nn.Module, weight_decay: float, learning_rate: float, last_layers: float = 1.0,
              kind: str = "sgd") -> torch.optim.Optimizer:
    """SGD with momentum 0.9, the paper's; or AdamW. Weight decay on dense kernels only: not on batch norm, biases or depthwise.

    last_layers: how much faster all but `model.backbone` learns (authors' last_layer_gradient_multiplier). kind: sgd or adamw.
    """
    groups: dict[tuple[float, float], list] = {}  # (weight decay, multiplier) -> parameters
    for path, module in model.named_modules():
        faster = 1.0 if f"{path}.".startswith("backbone.") else last_layers
        dense = isinstance(module, nn.Linear) or isinstance(module, nn.Conv2d) and module.groups == 1
        for name, parameter in module.named_parameters(recurse=False):
            bias = name == "bias" and isinstance(module, (nn.Conv2d, nn.Linear))
            shared = (weight_decay if dense and not bias else 0.0, faster * BIAS_MULTIPLIER if bias else faster)
            groups.setdefault(shared, []).append(parameter)
    described = [{"params": parameters, "weight_decay": decay, "multiplier": multiplier, "lr": multiplier * learning_rate}
                 for (decay, multiplier), parameters in groups.items()]
    fused = next(model.parameters()).is_cuda or None
    if kind == "adamw":
        return torch.optim.AdamW(described, lr=learning_rate, fused=fused)
    return torch.optim.SGD(described, lr=learning_rate, momentum=MOMENTUM, fused=fused)
