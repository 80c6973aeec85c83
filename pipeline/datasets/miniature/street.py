"""Street scenes for the miniature Cityscapes: layers of sky, buildings, road, then cars, poles, signs and people on them."""
import numpy as np
from PIL import Image, ImageDraw

from pipeline.datasets.miniature.looks import colour, outline, smooth_noise, texture
from pipeline.datasets.miniature.scenes import paint

# Cityscapes' own label ids (not train ids).
EGO, BORDER, STATIC = 1, 2, 4
ROAD, SIDEWALK, BUILDING, POLE, SIGN, VEGETATION, TERRAIN, SKY, PERSON, CAR, BUS = 7, 8, 11, 17, 20, 21, 22, 23, 24, 26, 28


def street(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """image uint8 (size, 2 size, 3) and Cityscapes label ids uint8 (size, 2 size)."""
    height, width = size, 2 * size
    image, labels = np.zeros((height, width, 3)), np.zeros((height, width), np.uint8)
    horizon = height * rng.uniform(.38, .5)
    vanish = width * rng.uniform(.35, .65)
    noise = smooth_noise(height, width, 3, rng)

    def fill(mask, label, first, second=None, mix=None):
        """Paint `mask` (bool) with one colour and faint noise, or with a mix (0..1) of two."""
        base = np.broadcast_to(first, image.shape) if second is None else first + (second - first) * mix[..., None]
        image[mask] = (base * (1 + .05 * noise[..., None]))[mask]
        labels[mask] = label

    def polygon(points):
        mask = Image.new("1", (width, height))
        ImageDraw.Draw(mask).polygon([tuple(point) for point in points], fill=1)
        return np.asarray(mask)

    def box(x0, y0, x1, y1):
        return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    fill(np.ones((height, width), bool), SKY, colour(.57, rng.uniform(.1, .35), rng.uniform(.85, 1)))
    left = 0.
    while left < width:  # a row of houses and trees behind the street
        across = rng.uniform(.15, .5) * size
        top = horizon * rng.uniform(.15, .8)
        if rng.random() < .65:
            block = polygon([(left, top), (left + across, top * rng.uniform(.9, 1.1)), (left + across, height), (left, height)])
            wall = colour(rng.uniform(.02, .12), rng.uniform(.15, .4), rng.uniform(.45, .75))
            fill(block, BUILDING, wall, wall * .6, texture("checks", 9, height, width, rng))
        else:
            lumps = [(left + across * (.5 + .5 * np.cos(a)), top + (horizon - top) * (.5 + .6 * np.sin(a)) + rng.normal(0, 2))
                     for a in np.linspace(0, 2 * np.pi, 14, endpoint=False)]
            leaves = colour(.3, .6, rng.uniform(.35, .5))
            fill(polygon(lumps), VEGETATION, leaves, leaves * 1.5, np.clip(.4 + .5 * noise, 0, 1))
        left += across * rng.uniform(.7, 1.1)
    below = np.mgrid[:height, :width][0] >= horizon
    if rng.random() < .6:
        grass = colour(.22, .45, .6)
        fill(below, TERRAIN, grass, grass * .8, np.clip(.4 + .5 * noise, 0, 1))
    else:
        fill(below, BUILDING, colour(.08, .15, .5))
    pavement = colour(.95, .12, .7)
    fill(polygon([(vanish, horizon), (width * 1.6, height), (-width * .6, height)]) & below, SIDEWALK,
         pavement, pavement * .85, texture("checks", 10, height, width, rng))
    lane = polygon([(vanish, horizon), (width * rng.uniform(.95, 1.25), height), (-width * rng.uniform(-.05, .25), height)])
    fill(lane & below, ROAD, colour(.65, .06, rng.uniform(.35, .45)))
    middle = width - vanish
    line = polygon([(vanish, horizon + 4), (middle + 3, height), (middle - 3, height)])
    fill(line & below & (np.mgrid[:height, :width][0] // 7 % 2 == 0), ROAD, colour(0, 0, .85))

    def stand(name, label, tall, foot_x, foot_y):
        covered = outline(name, (foot_x, foot_y - tall * .42), tall, height, width, rng)
        paint(image, covered, name, .02, rng)
        labels[covered >= .5] = label

    for depth in np.sort(rng.uniform(0, 1, rng.integers(5, 10))):  # far to near
        foot = horizon + (height * .92 - horizon) * depth
        near = .25 + .75 * depth
        side = rng.choice([-1, 1])
        kerb = vanish + side * (.15 + .6 * depth) * width * rng.uniform(.45, .75)
        kind = rng.choice(["car", "bus", "person", "pole"], p=[.35, .1, .25, .3])
        if kind == "car":
            stand("saloon", CAR, size * .55 * near, vanish + side * width * rng.uniform(.03, .25) * near, foot)
        elif kind == "bus":
            across, tall, x = size * .55 * near, size * .45 * near, vanish + side * width * .2 * near
            body = box(x - across / 2, foot - tall, x + across / 2, foot)
            fill(body, BUS, colour(.15, .85, .95), colour(.6, .4, .3), texture("bars", 8, height, width, rng))
        elif kind == "person":
            stand("person", PERSON, size * .45 * near, kerb, foot)
        else:
            x, tall, thick = kerb, size * (.3 + .5 * near), 2 if near < .7 else 3
            fill(box(x, foot - tall, x + thick - 1, foot), POLE, colour(.6, .05, .25))
            if rng.random() < .6:
                r = max(3, size * .07 * near)
                corners = np.linspace(0, 2 * np.pi, 6, endpoint=False)
                plate = [(x + 1 + r * np.cos(a), foot - tall + r * np.sin(a)) for a in corners]
                fill(polygon(plate), SIGN, colour(.62, .9, .9))
    bonnet = [(width * .3, height), (width * .4, height * .94), (width * .6, height * .94), (width * .7, height)]
    fill(polygon(bonnet), EGO, colour(.6, .1, .2))
    labels[:, :1], labels[:, -1:] = BORDER, BORDER
    if rng.random() < .4:
        x, y = int(rng.uniform(0, width - 8)), int(rng.uniform(horizon, height - 8))
        fill(box(x, y, x + 5, y + 5), STATIC, colour(.08, .5, .4))
    image = image * (1 + rng.normal(0, .06)) + rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels
