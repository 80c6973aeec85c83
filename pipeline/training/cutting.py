"""Scale, pad, crop and flip as index arithmetic: an image is resampled once, on the device it lives on.

Equal to the authors' order (resize, pad, crop, flip; input_preprocess.py), tested against it. Two ways with one geometry: for a
CPU image by image, only where the crop needs it; for a GPU the whole batch at once, as 16 images one by one are 500 operations
that Python has to start, beside the 1,271 of a ResNet-101 step.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F

from pipeline.datasets.shards import VOID

MEAN_PIXEL = 127.5
Pair = tuple[torch.Tensor, torch.Tensor]  # image (H, W, 3) uint8, label (H, W) uint8


class Packed(NamedTuple):
    """Images of many sizes in one block of a device's memory, pixel after pixel."""

    pixels: torch.Tensor            # (P, 3) uint8
    labels: torch.Tensor            # (P,) uint8
    starts: list[int]               # of each image: where it begins
    shapes: list[tuple[int, int]]   # and its height and width


class Draw(NamedTuple):
    """What is random in a crop. top, left: in [0, 1), its place among those possible in the scaled and padded image."""

    scale: float
    top: float
    left: float
    flip: bool


class Span(NamedTuple):
    """Pixels `first` to `end` of one side of the scaled image; pixel i lies at i * step in the unscaled one (align_corners)."""

    first: int
    end: int
    step: float


def span(size: int, scale: float, place: float, crop: int) -> Span:
    """What a crop takes of a side of `size` pixels, as far as the scaled image reaches."""
    scaled = max(int(size * scale), 1)
    first = int(place * (max(scaled, crop) - crop + 1))
    return Span(first, min(first + crop, scaled), (size - 1) / (scaled - 1) if scaled > 1 else 0.0)


def crops(examples: list[Pair] | Packed, draws: list[Draw], crop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (N, crop, crop, 3) float32 in [0, 255], labels (N, crop, crop) int64; beyond the image mean pixel and void."""
    if isinstance(examples, Packed):
        return together(examples, draws, crop)
    pixels = torch.empty(len(examples), crop, crop, 3)
    labels = torch.empty(len(examples), crop, crop, dtype=torch.long)
    for (image, label), draw, out, labelled in zip(examples, draws, pixels, labels):
        cut(image, label, draw, out, labelled)
    return pixels, labels


def cut(image: torch.Tensor, label: torch.Tensor, draw: Draw, pixels: torch.Tensor, labels: torch.Tensor) -> None:
    """Cut one crop into `pixels`, (crop, crop, 3) float32, and `labels`, (crop, crop) of any integer type."""
    crop = len(labels)
    height, width = label.shape
    rows, y = _source(height, span(height, draw.scale, draw.top, crop))
    columns, x = _source(width, span(width, draw.scale, draw.left, crop))
    place, beside = slice(len(x)), slice(len(x), None)
    if draw.flip:
        x, place, beside = x.flip(0), slice(crop - len(x), None), slice(crop - len(x))
    pixels[len(y):], labels[len(y):] = MEAN_PIXEL, VOID
    pixels[:, beside], labels[:, beside] = MEAN_PIXEL, VOID
    strip = label[rows]
    strip = strip.gather(1, (x + 0.5).long().expand(len(strip), -1))  # a fifth of the time that index_select takes here
    labels[:len(y), place] = strip.index_select(0, (y + 0.5).long() - rows.start)
    part = image[rows].float()[:, columns].permute(2, 0, 1)[None]
    grid = torch.empty(1, len(y), len(x), 2)
    grid[..., 0] = _normalised(x, columns.start, part.shape[3])
    grid[..., 1] = _normalised(y[:, None], rows.start, part.shape[2])
    sampled = F.grid_sample(part, grid, mode="bilinear", padding_mode="border", align_corners=True)
    pixels[:len(y), place] = sampled[0].permute(1, 2, 0)


def _source(size: int, taken: Span) -> tuple[slice, torch.Tensor]:
    """The part of one side of the unscaled image that the pixels `taken` lie in, and their coordinates on that side."""
    at = _unscaled(torch.arange(taken.first, taken.end), taken.step, size)
    return slice(max(int(taken.first * taken.step) - 1, 0), int((taken.end - 1) * taken.step) + 3), at


def _normalised(at: torch.Tensor, first: int, size: int) -> torch.Tensor:
    """Coordinates as grid_sample takes them: from -1 to 1 over the `size` pixels from `first` on."""
    return (at - first) * (2 / max(size - 1, 1)) - 1


def _unscaled(positions: torch.Tensor, step: float | torch.Tensor, size: int | torch.Tensor) -> torch.Tensor:
    """float32: where `positions` of the scaled image lie in the unscaled one. Both ways ask here, so that they round alike."""
    return (positions.float() * step).clamp(max=size - 1)


def together(packed: Packed, draws: list[Draw], crop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The crops of all images of `packed` by the same few operations, however many they are. The host waits for none of them."""
    known = torch.tensor([[start, draw.flip, height, *span(height, draw.scale, draw.top, crop),
                           width, *span(width, draw.scale, draw.left, crop)]
                          for start, (height, width), draw in zip(packed.starts, packed.shapes, draws)],
                         dtype=torch.double)  # exact up to 2^53 pixels
    device = packed.pixels.device
    known = pinned(known, device).to(device, non_blocking=True)[..., None]
    start, flip, height, *rows, width, first, end, step = known.unbind(1)  # each (N, 1)
    position = torch.arange(crop, device=device)
    y = _axis(position, height, *rows)
    x = _axis(torch.where(flip > 0, crop - 1 - position, position), width, first, end, step)
    base, line = (each.long()[..., None] for each in (start, width))

    def at(values: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        return values[base + row[..., None] * line + column[:, None]]

    across = x.weight[:, None, :, None]
    above, below = (torch.lerp(*(at(packed.pixels, row, column).float() for column in (x.low, x.high)), across)
                    for row in (y.low, y.high))
    inside = y.inside[..., None] & x.inside[:, None]
    pixels = torch.lerp(above, below, y.weight[..., None, None]).masked_fill_(~inside[..., None], MEAN_PIXEL)
    return pixels, at(packed.labels, y.nearest, x.nearest).long().masked_fill_(~inside, VOID)


class Axis(NamedTuple):
    """(N, crop) each: the two pixels a place is between, the second's weight, the nearest; whether the image reaches there."""

    low: torch.Tensor
    high: torch.Tensor
    weight: torch.Tensor
    nearest: torch.Tensor
    inside: torch.Tensor


def _axis(position: torch.Tensor, size: torch.Tensor, first: torch.Tensor, end: torch.Tensor, step: torch.Tensor) -> Axis:
    scaled = first + position
    at = _unscaled(scaled, step.float(), size.float())
    low = at.floor()
    return Axis(low.long(), (low + 1).clamp(max=size - 1).long(), at - low, (at + 0.5).long(), scaled < end)


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` in memory from which a GPU copies by itself; as it is for a CPU."""
    return tensor.pin_memory() if device.type == "cuda" else tensor
