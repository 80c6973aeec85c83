"""People's photos: every way of storing pixels gives the picture that one sees; any size is labelled; broken files are named."""
import resource

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.evaluation import photos
from pipeline.evaluation.strategies import predict
from pipeline.schema import Strategy
from tests.datasets.test_png import handmade

PLAIN = Strategy(output_stride=16, scales=(1.0,), flip=False)
PICTURE = np.random.default_rng(0).integers(0, 256, (21, 34, 3)).astype(np.uint8)
GREY = PICTURE[..., 0]
STORED = {  # what a camera stores for EXIF orientation N so that it is shown as PICTURE
    1: PICTURE, 2: PICTURE[:, ::-1], 3: PICTURE[::-1, ::-1], 4: PICTURE[::-1], 5: PICTURE.transpose(1, 0, 2),
    6: np.rot90(PICTURE), 7: np.rot90(PICTURE, 2).transpose(1, 0, 2), 8: np.rot90(PICTURE, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_exif_orientation(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation])).save(tmp_path / f"x.{ending}", exif=exif, lossless=True)
    assert np.array_equal(photos.read(tmp_path / f"x.{ending}"), PICTURE)


def test_jpegs_in_colour_grey_and_cmyk(tmp_path):
    smooth = np.asarray(Image.fromarray(PICTURE).resize((64, 48), Image.Resampling.BICUBIC))
    grey = np.asarray(Image.fromarray(smooth).convert("L").convert("RGB"))
    for mode, expected in (("RGB", smooth), ("L", grey), ("CMYK", smooth)):
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = Image.fromarray(np.ascontiguousarray(np.rot90(smooth))).convert(mode)
        stored.save(tmp_path / "x.jpg", quality=98, subsampling=0, exif=exif)
        with Image.open(tmp_path / "x.jpg") as image:
            assert image.mode == mode
        difference = np.abs(photos.read(tmp_path / "x.jpg").astype(int) - expected)
        assert difference.shape == smooth.shape and difference.mean() < 4, mode


def deep_png(path, values):
    """A PNG of 16 bits a channel, by hand: Pillow writes none in colour."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(handmade(width, height, rows, 16, colours={1: 0, 2: 4, 3: 2, 4: 6}[channels]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_pngs_keep_their_brightness(tmp_path, channels):
    opaque = np.full((*GREY.shape, 1), 255, np.uint8)
    colours = PICTURE if channels > 2 else GREY[..., None]
    stored = np.concatenate([colours, opaque], 2) if channels in (2, 4) else colours
    deep_png(tmp_path / "x.png", stored.astype(np.uint16) * 257)
    assert np.array_equal(photos.read(tmp_path / "x.png"), np.broadcast_to(colours, PICTURE.shape))


@pytest.mark.parametrize("stored", [
    GREY, GREY.astype(np.uint16) * 257, GREY.astype(np.int32) * 257, (GREY / 255).astype(np.float32), GREY.astype(np.float32)],
    ids=["8 bits", "16 bits", "32 bits", "floats to 1", "floats to 255"])
def test_greyscale_of_any_depth(tmp_path, stored):
    Image.fromarray(stored).save(tmp_path / "x.tif")
    found, expected = photos.read(tmp_path / "x.tif"), GREY
    if stored.dtype == np.float32 and stored.max() > 1:
        expected = (stored / stored.max() * 255).round()
    assert np.array_equal(found, np.broadcast_to(expected[..., None], PICTURE.shape))


def test_transparency_lies_on_mean_grey(tmp_path):
    alpha = np.where(np.arange(34) < 17, 0, 255).astype(np.uint8)[None].repeat(21, 0)
    seen = np.where(alpha[..., None] > 0, PICTURE, 128)
    Image.fromarray(np.dstack([PICTURE, alpha])).save(tmp_path / "rgba.png")
    assert np.array_equal(photos.read(tmp_path / "rgba.png"), seen)
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "la.png")
    assert np.array_equal(photos.read(tmp_path / "la.png"), np.where(alpha[..., None] > 0, GREY[..., None], 128).repeat(3, 2))


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_palettes_with_and_without_transparency_and_bitmaps(tmp_path, ending):
    indices, colours = (GREY % 4).astype(np.uint8), np.array([[255, 0, 0], [0, 200, 0], [0, 0, 90], [9, 9, 9]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / f"p.{ending}")
    assert np.array_equal(photos.read(tmp_path / f"p.{ending}"), colours[indices])
    image.save(tmp_path / f"t.{ending}", transparency=2)
    assert np.array_equal(photos.read(tmp_path / f"t.{ending}"), np.where((indices == 2)[..., None], 128, colours[indices]))
    Image.fromarray(GREY > 99).save(tmp_path / "b.png")
    assert np.array_equal(photos.read(tmp_path / "b.png"), np.where(GREY > 99, 255, 0)[..., None].repeat(3, 2))


@pytest.mark.parametrize("content, words", [
    (b"", "is not an image"), (b"hello", "is not an image"), (None, "is not there"), ("cut", "cannot be read: .*truncated"),
    ("bad", "cannot be read"), ("folder", "is a folder")])
def test_what_cannot_be_read_says_why(tmp_path, content, words):
    path = tmp_path / "x.png"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        Image.fromarray(PICTURE).save(path)
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[:-400], "bad": whole[:60] + b"\xff" * 300 + whole[360:]}.get(content, content))
    with pytest.raises(OSError, match=words):
        photos.read(path)


class Brightness(torch.nn.Module):
    """Stride 16: class 1 where the red of every 16th pixel is above the mean grey, else class 0. Keeps the sizes it was given."""

    def __init__(self):
        super().__init__()
        self.weight, self.sizes = torch.nn.Parameter(torch.ones(())), []

    def forward(self, x):
        self.sizes.append(tuple(x.shape[2:]))
        red = x[:, :1, ::16, ::16] * self.weight
        return torch.cat([-red, red], 1)


@pytest.mark.parametrize("size, canvas", [
    ((1, 1), (17, 17)), ((33, 49), (33, 49)), ((34, 48), (49, 49)), ((5, 400), (17, 401)), ((3, 129), (17, 129)),
    ((129, 18), (129, 33))])
def test_any_size_is_labelled_on_a_canvas_of_its_own(size, canvas):
    image, model = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8), Brightness()
    labels = photos.label({16: model}, image, PLAIN, 1000)
    assert labels.shape == size and labels.dtype == np.uint8 and model.sizes == [canvas]
    if size == canvas:
        with torch.inference_mode():
            expected = predict({16: model}, torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1, {"it": PLAIN})["it"][0]
        assert np.array_equal(labels, expected.numpy())


def test_large_images_are_labelled_smaller_and_the_map_enlarged():
    image, model = np.zeros((300, 1200, 3), np.uint8), Brightness()
    image[:, 600:] = 255
    labels = photos.label({16: model}, image, PLAIN, 129)
    assert model.sizes == [(33, 129)] and labels.shape == (300, 1200)
    assert not labels[:, :560].any() and labels[:, 640:].all()


def test_label_map_and_overlay(tmp_path):
    labels, palette = (GREY % 3).astype(np.uint8), bytes([0, 0, 0, 200, 100, 0, 0, 0, 255]) + bytes(759)
    photos.save(labels, PICTURE, palette, tmp_path / "maps.png", tmp_path / "overlay.png")
    with Image.open(tmp_path / "maps.png") as maps, Image.open(tmp_path / "overlay.png") as overlay:
        assert maps.mode == "P" and np.array_equal(np.asarray(maps), labels) and bytes(maps.getpalette())[:9] == palette[:9]
        shown = np.asarray(overlay)
    assert np.array_equal(shown[labels == 0], PICTURE[labels == 0])
    assert np.abs(shown[labels == 1] - (PICTURE[labels == 1] / 2 + [100, 50, 0])).max() <= 0.5
    assert photos.shares(np.array([[0, 0], [0, 2]]), ["background", "cat", "dog"]) == "background 75 %, dog 25 %"


@pytest.mark.parametrize("room", [100, 1500])
def test_what_is_cut_off_leaves_the_pictures_of_before(tmp_path, room):
    """The label map has some 800 bytes, the overlay 2000."""
    places = tmp_path / "maps.png", tmp_path / "overlay.png"
    photos.save(np.zeros_like(GREY), PICTURE, bytes(768), *places)
    before, (soft, hard) = [path.read_bytes() for path in places], resource.getrlimit(resource.RLIMIT_FSIZE)
    assert len(before[0]) < 1500 < len(before[1])
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        with pytest.raises(OSError, match="File too large"):
            photos.save(np.zeros_like(GREY), PICTURE[::-1], bytes(768), *places)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.read_bytes() for path in places] == before and set(tmp_path.iterdir()) == set(places)
