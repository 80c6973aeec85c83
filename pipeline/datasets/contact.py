"""A contact sheet: some images of a shard in one small picture, each above itself with its labels laid over."""
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.shards import VOID, Shard
from pipeline.files import atomic

BYTES = 150_000  # the picture goes into a report that is one file
COLUMNS, TILE, GAP = 8, 112, 4  # images beside each other; pixels: an image's height, what parts two


def contact_sheet(shard: Shard, colours: np.ndarray | None, path: Path) -> None:
    """Write a PNG of COLUMNS images of `shard`, spread over it, TILE pixels high; fewer colours until it is under BYTES.
    colours: the classes', uint8 (classes, 3). ImageNet shards: two rows of images, no labels."""
    plain = shard[0].label is None
    columns = min(COLUMNS, len(shard))
    chosen = np.linspace(0, len(shard) - 1, min(2 * columns if plain else columns, len(shard))).astype(int)
    examples = [shard[int(index)] for index in chosen]
    photos = [_fit(example.image) for example in examples]
    below = photos[columns:] if plain else [_fit(overlay(each.image, each.label, colours)) for each in examples]
    rows = [row for row in (photos[:columns], below) if row]
    width = max(sum(picture.width + GAP for picture in row) for row in rows) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (TILE + GAP) + GAP), "white")
    for line, row in enumerate(rows):
        left = GAP
        for picture in row:
            sheet.paste(picture, (left, GAP + line * (TILE + GAP)))
            left += picture.width + GAP
    with atomic(path) as partial:
        for count in (256, 128, 64, 32, 16, 8):
            sheet.quantize(count, dither=Image.Dither.NONE).save(partial, "PNG", optimize=True)
            if partial.stat().st_size < BYTES:
                break


def overlay(image: np.ndarray, label: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): the classes' colours over a dimmed `image`; void white; black (VOC's background) only dims."""
    table = np.full((256, 3), 255, float)
    table[:len(colours)] = colours
    strength = np.where((table[label].sum(2) > 0)[..., None], .8, 0)
    strength[label == VOID] = 1
    return np.clip(image * .35 * (1 - strength) + table[label] * strength, 0, 255).astype(np.uint8)


def _fit(picture: np.ndarray) -> Image.Image:
    """`picture`, uint8 (H, W, 3), as a tile TILE pixels high: resized, or centred on white where it is nearly as high."""
    image = Image.fromarray(picture)
    if image.height <= TILE < image.height * 2:  # about the same size: leave the pixels alone
        frame = Image.new("RGB", (max(image.width, TILE), TILE), "white")
        frame.paste(image, ((frame.width - image.width) // 2, (TILE - image.height) // 2))
        return frame
    return image.resize((max(1, round(image.width * TILE / image.height)), TILE), Image.Resampling.BILINEAR)
