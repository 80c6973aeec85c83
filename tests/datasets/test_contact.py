"""The contact sheet of a data set: which images, where, and what is laid over them."""
import numpy as np
from PIL import Image

from pipeline.datasets.contact import GAP, TILE, contact_sheet, overlay
from pipeline.datasets.shards import VOID, Example
from tests.shards import shard

COLOURS = np.array([(0, 0, 0), (250, 0, 0)], np.uint8)


def sheet(folder, dataset, examples):
    contact_sheet(shard(folder / "a.arrow", examples, ["background", "cat"], dataset), COLOURS, folder / "contact.png")
    return np.asarray(Image.open(folder / "contact.png").convert("RGB"))


def test_classes_are_laid_over_a_dimmed_image():
    label = np.array([[0, 1, VOID]], np.uint8)
    over = overlay(np.full((1, 3, 3), 100, np.uint8), label, COLOURS)
    np.testing.assert_allclose(over, [[[35] * 3, [207, 7, 7], [255] * 3]], atol=1)  # black only dims; .2 * 35 + .8 * 250; white


def test_images_are_above_themselves_with_their_labels(tmp_path):
    """Nearly as high ones keep their pixels, centred on white; others are resized."""
    shapes = (TILE, 140), (100, 20), (TILE // 4, 50)
    found = sheet(tmp_path, "voc", [Example(str(number), np.full((*shape, 3), 100, np.uint8), np.ones(shape, np.uint8))
                                    for number, shape in enumerate(shapes)])
    expected, left = np.full((2 * TILE + 3 * GAP, 140 + TILE + 200 + 4 * GAP, 3), 255), GAP
    for tile, width, height in ((140, 140, TILE), (TILE, 20, 100), (200, 200, TILE)):
        for top, colour in ((GAP, 100), (TILE + 2 * GAP, (207, 7, 7))):
            y, x = top + (TILE - height) // 2, left + (tile - width) // 2
            expected[y:y + height, x:x + width] = colour
        left += tile + GAP
    np.testing.assert_allclose(found, expected, atol=1)  # the palette rounds


def test_of_images_without_labels_there_are_two_rows(tmp_path):
    greys = [20 * number for number in range(1, 11)]
    found = sheet(tmp_path, "imagenet", [Example(str(grey), np.full((TILE, TILE, 3), grey, np.uint8), target=0) for grey in greys])
    middle, step = GAP + TILE // 2, TILE + GAP
    assert found.shape[:2] == (2 * step + GAP, 8 * step + GAP)
    assert found[middle::step, middle::step, 0].ravel().tolist() == [*greys, *[255] * 6]
