"""Intervals (95 %) of error rates, which are shares of counted images: of one by Wilson's score, of the difference of two by
Newcombe's hybrid of both scores (method 10 of Statistics in Medicine 17, 1998, pages 873-890). Neither is ever a point."""
import math

from pipeline.datasets.shards import Shard
from pipeline.study import Study

Z = 1.959964  # 97.5 % of a normal distribution lie below


def images_of(study: Study) -> int:
    """How many images the errors of Table 4 are counted on."""
    return len(Shard.of(study, "imagenet", study.settings.imagenet.evaluate.split))


def wilson(share: float, images: int) -> tuple[float, float]:
    """(low, high) in percent of a share in percent of so many images."""
    p, z = share / 100, Z * Z / images
    middle, half = p + z / 2, Z * math.sqrt(p * (1 - p) / images + z / images / 4)
    return max(0.0, 100 * (middle - half) / (1 + z)), min(100.0, 100 * (middle + half) / (1 + z))


def newcombe(one: float, other: float, images: int, other_images: int) -> tuple[float, float]:
    """(low, high) in points of one - other, two independent shares in percent, each of so many images."""
    (low, high), (other_low, other_high) = wilson(one, images), wilson(other, other_images)
    return (one - other - math.hypot(one - low, other_high - other), one - other + math.hypot(high - one, other - other_low))
