"""Pictures of the miniature's objects on water, road, meadow or in a room, with the exact class and object of every pixel."""
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.miniature.looks import LOOKS, colour, outline, smooth_noise, texture

CLASSES = ("aeroplane", "boat", "bottle", "car", "cat", "chair", "cow", "person")
ELSEWHERE = tuple(name for name in CLASSES if name not in ("boat", "car"))  # classes that occur on every backdrop
BACKDROPS = ("water", "road", "meadow", "room")
# Main and second colour (hue, saturation, value) of each backdrop's ground and of what is above it.
GROUND = {"water": ((.57, .55, .62), (.55, .35, .78)), "road": ((.1, .04, .42), (.1, .04, .56)),
          "meadow": ((.22, .42, .55), (.17, .4, .66)), "room": ((.08, .38, .6), (.08, .3, .7))}
ABOVE = {"water": (.58, .16, .92), "road": (.1, .1, .8), "meadow": (.57, .22, .93), "room": (.12, .14, .88)}


@dataclass(frozen=True)
class Style:
    """How a data set's scenes are drawn: shares of the backdrops, numbers of objects and clutter, spread of light and hue."""
    backdrops: tuple[float, float, float, float]
    objects: tuple[float, ...]
    clutter: int
    light: float
    hue: float


VOC = Style((.3, .3, .2, .2), (.25, .35, .25, .15), 6, .12, .012)
COCO = Style((.25, .25, .25, .25), (.2, .3, .3, .2), 9, .2, .02)


@dataclass(frozen=True)
class Scene:
    """`image`: uint8 (H, W, 3). `objects`: int16 (H, W), 0 for background, else 1 + index into `names`."""
    image: np.ndarray
    objects: np.ndarray
    names: tuple[str, ...]


def scene(size: int, style: Style, rng: np.random.Generator, name: str | None = None) -> Scene:
    """A scene of about `size` pixels a side; `name` asks for a single large object of that class."""
    height, width = size, size
    if name is None and rng.random() < .5:  # as in VOC, images are not all square
        height, width = rng.permutation([size, round(size * rng.uniform(.75, 1))])
    if name is None:
        backdrop = rng.choice(BACKDROPS, p=style.backdrops)
        count = rng.choice(len(style.objects), p=style.objects) + 1
        names = [_class_on(backdrop, rng) for _ in range(count)]
        sizes = size * np.where(rng.random(count) < .5, rng.uniform(.45, .75, count), rng.uniform(.13, .5, count))
        sizes[0] = max(sizes[0], size * rng.uniform(.55, .8))
    else:
        backdrop = {"boat": "water", "car": "road"}.get(name) or rng.choice(BACKDROPS)
        names, sizes = [name], [size * rng.uniform(.6, .9)]
    image = _backdrop(backdrop, height, width, style, rng)
    objects = np.zeros((height, width), np.int16)
    places = []
    for index in np.argsort(sizes)[::-1]:  # small objects in front, so that they are not hidden
        place = _free_place(places, sizes[index], height, width, rng)
        places.append((*place, sizes[index]))
        covered = outline(names[index], place, sizes[index], height, width, rng)
        paint(image, covered, names[index], style.hue, rng)
        objects[covered >= .5] = index + 1
    light = 1 + rng.normal(0, style.light / 2) + rng.normal(0, style.light / 4) * np.linspace(-1, 1, width)[None, :, None]
    image = image * light + rng.normal(0, 5, image.shape)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), objects, tuple(names))


def paint(image: np.ndarray, covered: np.ndarray, name: str, spread: float, rng: np.random.Generator) -> None:
    """Lay an object of class `name` over `image` (float, in place), lit from above, where `covered` (0..1) says."""
    look = LOOKS[name]
    hue = look.hue + rng.normal(0, spread)
    light, dark = (colour(hue, look.saturation, value) for value in look.values)
    mix = texture(look.texture, look.period, *covered.shape, rng)[..., None]
    rows = np.flatnonzero(covered.any(1))
    shade = np.interp(np.arange(len(covered)), [rows[0], rows[-1] + 1], [1.08, .88])[:, None, None] if len(rows) else 1
    image += covered[..., None] * ((light * (1 - mix) + dark * mix) * shade - image)


def _class_on(backdrop: str, rng: np.random.Generator) -> str:
    """Boats live on water and cars on roads, often enough there that all classes come out equally frequent."""
    own = {"water": "boat", "road": "car"}.get(backdrop)
    return own if own and rng.random() < .42 else str(rng.choice(ELSEWHERE))


def _free_place(places: list, size: float, height: int, width: int, rng: np.random.Generator) -> tuple[float, float]:
    """(x, y) of a centre, the freest of five tries: objects overlap now and then but seldom hide each other."""
    def draw(side):
        margin = min(.4 * size, side / 2)
        return rng.uniform(margin, side - margin + 1e-6)
    def room(spot):
        return min((np.hypot(spot[0] - x, spot[1] - y) / (size + other) for x, y, other in places), default=0)
    return max([(draw(width), draw(height)) for _ in range(5)], key=room)


def _backdrop(kind: str, height: int, width: int, style: Style, rng: np.random.Generator) -> np.ndarray:
    """float (height, width, 3): ground, what is above it, clutter, and small plain spots in the objects' hues."""
    first, second = (colour(h + rng.normal(0, .01), s, v * rng.normal(1, .05)) for h, s, v in GROUND[kind])
    noise = smooth_noise(height, width, 3, rng)
    if kind == "water":
        mix = texture("bands", 5, height, width, rng) * .5 + .3 * noise
    elif kind == "room":
        mix = texture("bars", 12, height, width, rng) * .5 + .15 * noise
    else:
        mix = .4 + .45 * noise
    image = first + (second - first) * np.clip(mix, 0, 1)[..., None]
    horizon = int(height * rng.uniform(0, .4))
    h, s, v = ABOVE[kind]
    sky = colour(h, s, v * rng.normal(1, .04))
    clouds = 6 * smooth_noise(height, width, 16, rng)[:horizon, :, None]
    image[:horizon] = sky * (1 - .12 * np.linspace(1, 0, horizon)[:, None, None]) + clouds
    y, x = np.mgrid[:height, :width]
    for _ in range(rng.integers(style.clutter // 2, style.clutter + 1)):  # dull lumps
        radius = rng.uniform(.04, .16) * height
        lump = _lump(x, y, rng.uniform(0, width), rng.uniform(0, height), radius, rng)
        image[lump] = colour(rng.random(), rng.uniform(.05, .3), rng.uniform(.3, .8)) * (1 + .15 * noise[lump][:, None])
    for _ in range(rng.integers(1, 4)):  # distractors: an object's hue, but small and without its texture
        look = LOOKS[str(rng.choice(CLASSES))]
        lump = _lump(x, y, rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1.5, 4), rng)
        image[lump] = colour(look.hue, look.saturation * .8, np.mean(look.values))
    return image


def _lump(x, y, centre_x, centre_y, radius, rng) -> np.ndarray:
    dx, dy = x - centre_x, y - centre_y
    waves = 1 + .25 * np.sin(rng.integers(2, 5) * np.arctan2(dy, dx) + rng.uniform(0, 6))
    return np.hypot(dx, dy * rng.uniform(.8, 1.6)) < radius * waves
