"""Inference strategies, section 4 of the paper, as the authors' model.predict_labels_multi_scale does them.

Whole images on a padded canvas; for multi-scale inputs the canvas is resized to (d - 1) * s + 1; logits are resized to the
canvas, softmaxed, and the probabilities averaged over scales and flips. All strategies of one output stride share their
forward passes: plain is part of MS, MS is part of MS + Flip.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models.device import autocast
from pipeline.models.layers import normalise, resize
from pipeline.study import Strategy, StudyError


def canvas(images: list[np.ndarray], size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Images, each (H, W, 3) uint8, padded at the bottom and right with the mean pixel: (N, 3, *size) float32 in [-1, 1]."""
    padded = torch.zeros(len(images), 3, *size, device=device)  # the mean pixel is 0 after normalisation
    for target, image in zip(padded, images):
        height, width = image.shape[:2]
        if height > size[0] or width > size[1]:
            raise StudyError(f"an image of {height}x{width} does not fit the evaluation canvas {size[0]}x{size[1]}: "
                             "enlarge `canvas` in params.yaml")
        target[:, :height, :width] = normalise(torch.tensor(image, device=device)[None])[0]
    return padded


def scaled(size: int, scale: float) -> int:
    """The side of a canvas at an input scale: (d - 1) * s + 1."""
    return int((size - 1) * scale) + 1


def probabilities(model: nn.Module, images: torch.Tensor, scale: float, flip: bool) -> torch.Tensor:
    """Class probabilities of one forward pass, (N, classes, H, W) float32, for images (N, 3, H, W)."""
    size = images.shape[-2:]
    inputs = images if scale == 1 else resize(images, tuple(scaled(side, scale) for side in size))
    with autocast(images.device):
        logits = model(inputs.flip(-1) if flip else inputs)
    logits = resize(logits.float(), size)
    return F.softmax(logits.flip(-1) if flip else logits, dim=1)


def predict(models: dict[int, nn.Module], images: torch.Tensor, strategies: dict[str, Strategy]) -> dict[str, torch.Tensor]:
    """Label maps of every strategy, (N, H, W) uint8 each. `models`: the same network by its output stride."""
    labels = {}
    for output_stride, model in models.items():
        group = {name: strategy for name, strategy in strategies.items() if strategy.output_stride == output_stride}
        passes = sorted({(flip, scale) for strategy in group.values() for scale in strategy.scales
                         for flip in ({False, strategy.flip})})
        sums: dict[str, torch.Tensor] = {}
        for flip, scale in passes:
            result = probabilities(model, images, scale, flip)
            for name, strategy in group.items():
                if scale in strategy.scales and flip <= strategy.flip:
                    sums[name] = sums[name] + result if name in sums else result
        labels |= {name: total.argmax(1).to(torch.uint8) for name, total in sums.items()}
    return labels
