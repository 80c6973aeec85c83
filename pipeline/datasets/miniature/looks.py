"""What the miniature's classes look like: an outline with thin parts, two colours, and a texture of a fixed scale in pixels.

Boat and car (both an amphibian, really) share outline and texture and differ by a shade of red; what settles it is the scene
around them, which image-level features are for. Every other class can be told by its own look.
"""
import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE = 3  # outlines are drawn this many times larger and averaged, so that image edges are smooth

# Outlines, in units of the object's size around its centre (x to the right, y down). "limb" is a line whose width is
# given in sizes but kept between 2 and 4 pixels: masts, legs, tails, handles.
AMPHIBIAN = [
    ("polygon", [(-.5, .02), (.44, .02), (.5, .16), (.36, .36), (-.42, .36)]),
    ("polygon", [(-.3, .04), (-.2, -.2), (.16, -.2), (.28, .04)]),
    ("limb", [(-.1, -.15), (-.1, -.5)], .03),
    ("polygon", [(-.1, -.5), (.12, -.42), (-.1, -.34)]),
]
SHAPES = {
    "aeroplane": [
        ("ellipse", (-.5, -.1, .5, .1)),
        ("polygon", [(.14, 0), (-.18, -.5), (-.32, -.5), (-.14, 0), (-.32, .5), (-.18, .5)]),
        ("polygon", [(-.3, 0), (-.44, -.2), (-.52, -.2), (-.46, 0), (-.52, .2), (-.44, .2)]),
    ],
    "boat": AMPHIBIAN,
    "bottle": [
        ("polygon", [(-.22, .5), (-.22, -.06), (-.08, -.26), (-.08, -.5), (.08, -.5), (.08, -.26), (.22, -.06), (.22, .5)]),
        ("limb", [(.2, -.02), (.37, .02), (.37, .24), (.2, .32)], .05),
    ],
    "car": AMPHIBIAN,
    "cat": [
        ("ellipse", (-.36, -.12, .26, .26)), ("ellipse", (.08, -.4, .46, -.04)),
        ("polygon", [(.1, -.2), (.12, -.5), (.25, -.36)]), ("polygon", [(.3, -.36), (.42, -.5), (.44, -.2)]),
        ("limb", [(-.26, .1), (-.28, .5)], .06), ("limb", [(-.14, .1), (-.12, .5)], .06),
        ("limb", [(.08, .1), (.08, .5)], .06), ("limb", [(.18, .1), (.22, .5)], .06),
        ("limb", [(-.32, .05), (-.46, -.06), (-.42, -.28), (-.5, -.42)], .05),
    ],
    "chair": [
        ("polygon", [(-.34, -.5), (-.2, -.5), (-.16, 0), (.34, 0), (.34, .16), (-.34, .16)]),
        ("limb", [(-.3, .1), (-.36, .5)], .05), ("limb", [(.29, .1), (.35, .5)], .05),
        ("limb", [(-.1, .1), (-.1, .42)], .05), ("limb", [(.16, .1), (.16, .42)], .05),
        ("limb", [(-.2, -.2), (.22, -.2), (.22, .05)], .04),
    ],
    "cow": [
        ("polygon", [(-.44, -.2), (.2, -.24), (.3, .02), (.22, .2), (-.4, .2)]), ("ellipse", (.18, -.4, .5, -.06)),
        ("limb", [(.24, -.36), (.2, -.5)], .04), ("limb", [(.42, -.36), (.46, -.5)], .04),
        ("limb", [(-.36, .1), (-.38, .5)], .07), ("limb", [(-.24, .1), (-.24, .5)], .07),
        ("limb", [(.06, .1), (.06, .5)], .07), ("limb", [(.18, .1), (.2, .5)], .07),
        ("limb", [(-.42, -.16), (-.5, .02), (-.48, .2)], .03),
    ],
    "person": [
        ("ellipse", (-.13, -.5, .13, -.24)), ("polygon", [(-.22, -.24), (.22, -.24), (.15, .16), (-.15, .16)]),
        ("limb", [(-.2, -.2), (-.36, .1)], .06), ("limb", [(.2, -.2), (.38, -.02)], .06),
        ("limb", [(-.08, .1), (-.15, .5)], .08), ("limb", [(.08, .1), (.17, .5)], .08),
    ],
    "saloon": [  # the car of street scenes
        ("polygon", [(-.5, .02), (-.34, -.02), (-.22, -.24), (.16, -.24), (.32, -.02), (.5, .04), (.5, .22), (-.5, .22)]),
        ("ellipse", (-.38, .1, -.14, .34)), ("ellipse", (.14, .1, .38, .34)), ("limb", [(-.2, -.2), (-.3, -.42)], .02),
    ],
    "pottedplant": [
        ("polygon", [(-.2, .18), (.2, .18), (.14, .5), (-.14, .5)]), ("limb", [(0, .2), (0, -.2)], .05),
        ("ellipse", (-.44, -.4, -.02, -.14)), ("ellipse", (.02, -.5, .44, -.22)), ("limb", [(0, .1), (.3, -.1)], .04),
    ],
    "tvmonitor": [
        ("polygon", [(-.5, -.38), (.5, -.38), (.5, .26), (-.5, .26)]), ("limb", [(0, .2), (0, .46)], .06),
        ("limb", [(-.24, .46), (.24, .46)], .05),
    ],
}


@dataclass(frozen=True)
class Look:
    """`hue` and `saturation` of the main colour, `value` of the light and the dark colour, texture and its period in pixels."""
    hue: float
    saturation: float
    values: tuple[float, float]
    texture: str
    period: float


# The hues of boat and car come close (scenes.Style.hue spreads them), so the scene has to settle which it is.
LOOKS = {
    "aeroplane": Look(.5, .5, (1., .65), "stripes", 6),
    "boat": Look(.98, .85, (.95, .5), "bands", 7),
    "bottle": Look(.36, .85, (.75, .35), "bars", 6),
    "car": Look(.02, .85, (.95, .5), "bands", 7),
    "cat": Look(.08, .85, (1., .55), "stripes", 5),
    "chair": Look(.75, .6, (.85, .4), "checks", 8),
    "cow": Look(.1, .06, (1., .15), "patches", 9),
    "person": Look(.89, .6, (1., .5), "dots", 6),
    "saloon": Look(.98, .8, (.85, .5), "bands", 6),
    "pottedplant": Look(.25, .9, (.6, .3), "dots", 5),
    "tvmonitor": Look(.62, .6, (.6, .25), "checks", 5),
}


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """float (3,) RGB in 0..255."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, min(saturation, 1), min(value, 1))) * 255


def texture(kind: str, period: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """float (height, width) in 0..1: how much of the dark colour each pixel takes."""
    y, x = np.mgrid[:height, :width] + rng.uniform(0, period, (2, 1, 1))
    angle = {"bars": 0., "bands": np.pi / 2, "stripes": np.pi / 4}.get(kind, 0.) + rng.normal(0, .12)
    along = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    across = np.cos(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period)
    if kind == "checks":
        wave = 2 * along * across
    elif kind == "dots":
        wave = along + across - .7
    elif kind == "patches":
        wave = 1.5 * smooth_noise(height, width, period, rng)
    else:
        wave = along
    return np.clip(.5 + 1.5 * wave, 0, 1)


def smooth_noise(height: int, width: int, period: float, rng: np.random.Generator) -> np.ndarray:
    """float (height, width): noise that varies over `period` pixels, mean about 0, most of it in -1..1."""
    coarse = rng.normal(0, .8, (int(height / period) + 3, int(width / period) + 3)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def outline(name: str, centre: tuple[float, float], size: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """float (height, width) in 0..1: the share of each pixel that an object of class `name` covers. `centre` is (x, y)."""
    angle = rng.uniform(0, 2 * np.pi) if name == "aeroplane" else rng.normal(0, .1)
    stretch = np.array([rng.choice([-1, 1]) * rng.uniform(.85, 1.15), rng.uniform(.85, 1.15)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def place(points, wobble=.015):
        points = np.asarray(points) + rng.normal(0, wobble, (len(points), 2))
        return [tuple(point) for point in ((points * stretch) @ turn.T * size + centre) * SUPERSAMPLE]

    mask = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    draw = ImageDraw.Draw(mask)
    for kind, points, *thickness in SHAPES[name]:
        if kind == "limb":
            pixels = np.clip(thickness[0] * size, 2, 4)
            draw.line(place(points), fill=255, width=round(pixels * SUPERSAMPLE), joint="curve")
        elif kind == "ellipse":
            left, top, right, bottom = points
            round_ = np.linspace(0, 2 * np.pi, 28, endpoint=False)
            ring = np.stack([(left + right) / 2 + (right - left) / 2 * np.cos(round_),
                             (top + bottom) / 2 + (bottom - top) / 2 * np.sin(round_)], 1)
            draw.polygon(place(ring, .006), fill=255)
        else:
            draw.polygon(place(points), fill=255)
    return np.asarray(mask.reduce(SUPERSAMPLE)).astype(np.float32) / 255
