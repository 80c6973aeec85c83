"""Panels of one image, side by side: image | truth | prediction | errors, as PNG and JPEG. Arrays in, bytes out."""
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.datasets.palettes import CREAM, encoded
from pipeline.datasets.shards import VOID

SIDE = 320  # pixels of a picture's longer side at most, on a page
RIGHT, WRONG, MUTED = (244, 244, 246), (179, 38, 30), (107, 107, 112)
GAP, LINE = 6, 18  # pixels: between panels; a line of words


@dataclass(frozen=True)
class Case:
    """One image and what networks made of it. `panels`: (caption, file bytes, is a label map), in the order they are shown."""
    image: str
    caption: str
    panels: tuple[tuple[str, bytes, bool], ...]


def draw(image: np.ndarray, truth: np.ndarray, guesses: dict[str, np.ndarray], palette: bytes,
         side: int | None = SIDE) -> tuple[tuple[str, bytes, bool], ...]:
    """The panels of one image: (caption, file bytes, is a label map).

    image: uint8 (H, W, 3); truth and each of guesses (caption -> map): uint8 (H, W), 255 void; the errors are the last guess's.
    palette: 768 bytes, as `palettes.of` gives them. side: the longer side at most, in pixels; None keeps the size.
    """
    palette = shown(palette)
    panels = [("image", _photo(image, side), False), ("truth", _labels(truth, palette, side), True)]
    panels += [(words, _labels(guess, palette, side), True) for words, guess in guesses.items()]
    last = next(reversed(guesses.values()))
    return (*panels, ("errors", _labels(errors(truth, last), bytes([*RIGHT, *WRONG, *CREAM]), side), True))


def shown(palette: bytes) -> bytes:
    """`palette` with a pale background where it is black, as VOC's is: dark classes are lost on black. 768 bytes."""
    return palette if any(palette[:3]) else bytes(RIGHT) + palette[3:]


def errors(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """uint8 (H, W): 0 where the guess is right, 1 where it is wrong, 2 where the truth is void."""
    return np.where(truth == VOID, 2, truth != guess).astype(np.uint8)


def strip(found: list[Case], scale: int = 1, mark: str = "") -> bytes:
    """Cases below each other as one PNG that can stand alone: over each its image and caption, over each panel what it is.
    `mark`: a line above all, on what the picture is not."""
    rows = [[Image.open(io.BytesIO(data)).convert("RGB") for _, data, _ in case.panels] for case in found]
    width = max(sum(panel.width * scale + GAP for panel in row) for row in rows) - GAP
    head = LINE if mark else 0
    height = head + sum(max(panel.height for panel in row) * scale + 2 * LINE + GAP for row in rows) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    pen.text((1, 2), _line(mark, font), fill=WRONG, font=font)
    top = head
    for case, row in zip(found, rows):
        pen.text((1, top + 2), _line(f"{case.image}: {case.caption}", font), fill="black", font=font)
        left, top = 0, top + 2 * LINE
        for (words, _, _), panel in zip(case.panels, row):
            pen.text((left + 1, top - LINE + 2), _line(words, font), fill=MUTED, font=font)
            sheet.paste(panel.resize((panel.width * scale, panel.height * scale), Image.Resampling.NEAREST), (left, top))
            left += panel.width * scale + GAP
        top += max(panel.height for panel in row) * scale + GAP
    return encoded(sheet, optimize=True)


def _line(text: str, font) -> str:
    """`text` in one line; what Pillow's own font lacks, which has ASCII and little else, is spelt out as in Python."""
    lacking = bytes(font.getmask("\uffff"))
    def known(one: str) -> bool:
        return one.isprintable() and bytes(font.getmask(one)) != lacking
    return "".join(one if known(one) else one.encode("unicode_escape").decode() for one in text)


def _photo(image: np.ndarray, side: int | None) -> bytes:
    picture = Image.fromarray(image)
    if side is None:
        return encoded(picture)
    picture.thumbnail((side, side))
    return encoded(picture, "JPEG", quality=88 if side >= SIDE else 82)


def _labels(labels: np.ndarray, palette: bytes, side: int | None) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(labels), "P")
    if side is not None:
        picture.thumbnail((side, side), Image.Resampling.NEAREST)
    picture.putpalette(palette)
    return encoded(picture, optimize=True)
