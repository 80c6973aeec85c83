"""Anybody's photos: read whatever their format, labelled at whatever size, shown as label map and overlay."""
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import nn

from pipeline.datasets import palettes
from pipeline.datasets.native import opened
from pipeline.evaluation.strategies import canvas, predict
from pipeline.files import write_file
from pipeline.schema import Strategy

GREY = 128  # what lies behind transparent pixels: the mean pixel, 127.5, as near as 8 bits come; networks know it as padding


def read(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB, turned as EXIF says. Transparent pixels lie on mean grey; 16 bits become 8 (65535 is white), floats
    are taken as 0..1 or, beyond that, stretched from least to largest; CMYK is converted without its colour profile.

    Raises OSError, in words, where the file is no image, is cut off, or has more than 179 million pixels (Pillow's limit).
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe may have nobody at its other end
            raise UnidentifiedImageError("is no file, but a pipe or a device")
        with warnings.catch_warnings(action="ignore"), opened(path) as image:
            image.load()
            return np.asarray(_rgb(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError:  # an OSError in words: native.opened, too
        raise
    except FileNotFoundError as error:
        raise OSError("is not there") from error
    except IsADirectoryError as error:
        raise OSError("is a folder: name the images in it") from error
    except Exception as error:  # decoders raise SyntaxError, struct.error, zlib.error and more on broken bytes
        raise OSError(f"cannot be read: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
        low, high = (0, 65535) if image.mode != "F" else (min(0, values.min()), max(1, values.max()))
        image = Image.fromarray(((values - low) / (high - low) * 255).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (GREY, GREY, GREY, 255)), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def longest_side(crop: int) -> int:
    """The longest side, in pixels, at which photos are labelled by a network that was trained on crops of this side."""
    return 2 * crop - 1


def label(models: dict[int, nn.Module], image: np.ndarray, strategy: Strategy, longest: int) -> np.ndarray:
    """The label map, uint8 (H, W), of an image (H, W, 3) uint8.

    The canvas is the image's own size rounded up to 16k+1, at least 17. An image with a side over `longest` is labelled smaller
    and its label map enlarged: memory grows with the area, and a network knows objects up to the sizes it was trained on.
    """
    height, width = image.shape[:2]
    if (larger := max(height, width)) > longest:
        small = tuple(max(1, round(side * longest / larger)) for side in (width, height))
        shrunk = np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BILINEAR))
        labels = Image.fromarray(label(models, shrunk, strategy, longest))
        return np.asarray(labels.resize((width, height), Image.Resampling.NEAREST))
    size = tuple(max(17, -(-(side - 1) // 16) * 16 + 1) for side in (height, width))
    device = next(models[strategy.output_stride].parameters()).device
    with torch.inference_mode():
        labels = predict(models, canvas([image], size, device), {"it": strategy})["it"]
    return labels[0, :height, :width].cpu().numpy()


def shares(labels: np.ndarray, classes: list[str]) -> str:
    """What is in a label map, most of it first: "cat 62 %, background 38 %"."""
    counts = np.bincount(labels.ravel())
    found = sorted(((count, number) for number, count in enumerate(counts) if count), reverse=True)
    return ", ".join(f"{classes[number]} {100 * count / labels.size:.0f} %" for count, number in found)


def save(labels: np.ndarray, image: np.ndarray, palette: bytes, maps: Path, overlay: Path) -> None:
    """Write two PNGs: the label map with its palette; the photo, half and half with the classes' colours, clear where black."""
    write_file(maps, palettes.png(labels, palette))
    colours = np.frombuffer(palette, np.uint8).reshape(256, 3)
    painted = colours[labels]
    mixed = (image.astype(np.uint16) + painted + 1) // 2
    write_file(overlay, palettes.encoded(Image.fromarray(np.where(painted.any(2, keepdims=True), mixed, image).astype(np.uint8))))
