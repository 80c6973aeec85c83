"""Damage by chance, the cases to try, and a small VOC to damage."""
import io
import random

import numpy as np
import pytest
from PIL import Image

CASES = [pytest.param(range(60), id="60"), pytest.param(range(60, 1060), id="1000", marks=pytest.mark.drills)]


def picture(mode, seed):
    values = np.random.default_rng(seed).integers(0, 21, (30, 40) if mode == "L" else (30, 40, 3)).astype(np.uint8)
    Image.fromarray(values).save(file := io.BytesIO(), "PNG" if mode == "L" else "JPEG")
    return file.getvalue()


BASE = "VOCdevkit/VOC2012"
FILES = {f"{BASE}/JPEGImages/{name}.jpg": picture("RGB", number) for number, name in enumerate("abc")}
FILES |= {f"{BASE}/SegmentationClass/{name}.png": picture("L", number) for number, name in enumerate("abc")}
FILES |= {f"{BASE}/ImageSets/Segmentation/train.txt": b"a\nb\n", f"{BASE}/ImageSets/Segmentation/val.txt": b"c\n"}


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """Some bytes flipped, or the end cut off."""
    if chance.random() < .4:
        return whole[:chance.randrange(len(whole))]
    changed = bytearray(whole)
    for _ in range(chance.choice([1, 1, 3, 20])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)
