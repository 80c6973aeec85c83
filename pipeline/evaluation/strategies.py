"""Inference strategies, section 4 of the paper, as the authors' model.predict_labels_multi_scale does them.

Whole images on a padded canvas; for multi-scale inputs the canvas is resized to (d - 1) * s + 1; logits are resized to the
canvas, softmaxed, and the probabilities averaged over scales and flips. What section 4 does not say but the authors' code does:
logits of scales below 1 are first resized to the size that logits of the unscaled canvas have. All strategies of one output
stride share their forward passes: plain is part of MS, MS is part of MS + Flip.

A canvas is never cut into tiles, not even Cityscapes' 1025x2049: the image-level feature is a mean over the whole canvas, which
no tile sees. It is not needed either: strategies that nest share one running sum, so beside the network's own activations there
are at most three maps of class probabilities at a time, 160 MB each for 19 classes on that canvas.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models.layers import normalise, resize, scaled
from pipeline.schema import Strategy
from pipeline.study import StudyError


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


def probabilities(model: nn.Module, images: torch.Tensor, scale: float, flip: bool, bf16: bool = False) -> torch.Tensor:
    """Class probabilities of one forward pass, (N, classes, H, W) float32; under bfloat16 autocast where `bf16`.
    images: (N, 3, H, W) float32 in [-1, 1]."""
    size = images.shape[-2:]
    inputs = images if scale == 1 else resize(images, scaled(size, scale))
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        logits = model(inputs.flip(-1) if flip else inputs)
    sides = inputs.shape[-2:]
    del inputs  # half a map of probabilities at scale 1.75, and three of those come next
    logits = logits.float().flip(-1) if flip else logits.float()
    if scale < 1:  # multi_scale_logits in the authors' model.py
        strides = map(stride, sides, logits.shape[-2:])
        logits = resize(logits, tuple(-(-side // each) for side, each in zip(size, strides)))
    return F.softmax(resize(logits.contiguous(), size), dim=1)  # contiguous while small: softmax would copy the large map


def stride(inputs: int, outputs: int) -> int:
    """The stride of a network that makes `outputs` of `inputs` pixels: outputs = ceil(inputs / stride)."""
    return next(each for each in (1, 2, 4, 8, 16, 32) if -(-inputs // each) <= outputs)


def passes(strategy: Strategy) -> set[tuple[bool, float]]:
    """The forward passes of a strategy: (flipped, input scale)."""
    return {(flip, scale) for flip in {False, strategy.flip} for scale in strategy.scales}


def predict(models: dict[int, nn.Module], images: torch.Tensor, strategies: dict[str, Strategy],
            bf16: bool = False) -> dict[str, torch.Tensor]:
    """Label maps of every strategy, (N, H, W) uint8. `models`: the network by output stride; the rest: as in `probabilities`.

    Strategies that have had the same passes so far share one sum; a pass that some of them have, and others not, parts it in two.
    """
    maps = {}
    for output_stride, model in models.items():
        group = {name: passes(strategy) for name, strategy in strategies.items() if strategy.output_stride == output_stride}
        order = sorted(set().union(*group.values()), key=lambda each: (each[0], each[1] != 1, each[1]))  # plain first, flips last
        sums: list[tuple[set[str], torch.Tensor | None]] = [(set(group), None)]  # strategies alike so far, their sum
        for number, (flip, scale) in enumerate(order):
            result = probabilities(model, images, scale, flip, bf16)
            users = {name for name, own in group.items() if (flip, scale) in own}
            sums = [part for names, total in sums for part in _after_pass(names, total, result, names & users)]
            del result  # or it would be a fourth large map during the next pass
            later = set(order[number + 1:])
            for names, total in sums:
                for name in [name for name in names if not group[name] & later]:
                    maps[name] = total.max(1).indices.to(torch.uint8)  # the first of equals, as argmax, but faster
                    names.remove(name)
            sums = [(names, total) for names, total in sums if names]
    return {name: maps[name] for name in strategies}


def _after_pass(names: set[str], total: torch.Tensor | None, result: torch.Tensor, users: set[str]):
    """What becomes of one sum: added to in place if all its strategies are `users` of the pass, parted in two if some are."""
    if not users:
        return [(names, total)]
    if users == names:
        return [(names, result if total is None else total.add_(result))]
    return [(users, result if total is None else total + result), (names - users, total)]
