"""Pictures become the pixels that Pillow reads, whichever decoder reads them; what cannot be read is an OSError of Pillow's words."""
import io

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings, strategies as st
from PIL import Image

from pipeline.datasets import native


def encoded(mode, shape, seed=0, kind="JPEG", **options) -> bytes:
    random = np.random.default_rng(seed)
    bands = len(Image.new(mode, (1, 1)).getbands())
    coarse = random.integers(0, 256, (4, 5, bands), np.uint8)
    image = Image.fromarray(coarse[..., 0] if bands == 1 else coarse, mode=None if bands < 4 else mode)
    image.resize(shape[::-1], Image.Resampling.BICUBIC).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


COLOURS = [("RGB", {"subsampling": 0}), ("RGB", {"subsampling": 1}), ("RGB", {"subsampling": 2}), ("RGB", {"keep_rgb": True}), ("L", {}), ("CMYK", {})]


@settings(max_examples=80)
@given(colours=st.sampled_from(COLOURS), shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), seed=st.integers(0, 9),
       quality=st.integers(10, 100), progressive=st.booleans())
def test_every_jpeg_is_read_as_pillow_reads_it(tmp_path_factory, colours, shape, seed, quality, progressive):
    path, (mode, options) = tmp_path_factory.mktemp("jpeg") / "a.jpg", colours
    path.write_bytes(encoded(mode, shape, seed, quality=quality, progressive=progressive, **options))
    got = native.read_image(path)
    assert got.dtype == np.uint8 and got.shape == (*shape, 3)
    np.testing.assert_array_equal(got, pillow(path.read_bytes()))


@pytest.mark.parametrize("mode, kind", [("RGB", "PNG"), ("L", "PNG"), ("RGB", "TIFF")])
def test_other_formats_by_any_name(tmp_path, mode, kind):
    (tmp_path / "a.jpg").write_bytes(encoded(mode, (20, 30), kind=kind))
    np.testing.assert_array_equal(native.read_image(tmp_path / "a.jpg"), pillow((tmp_path / "a.jpg").read_bytes()))


def test_a_truncated_jpeg_is_refused_in_pillows_words(tmp_path):
    content = encoded("RGB", (60, 60))
    (tmp_path / "a.jpg").write_bytes(content[:-20])
    with pytest.raises(OSError, match="truncated"):
        native.read_image(tmp_path / "a.jpg")


def test_a_small_file_that_claims_to_be_huge_takes_no_memory(tmp_path, monkeypatch):
    content = bytearray(encoded("RGB", (60, 60)))
    at = content.index(b"\xff\xc0") + 5                     # the frame header's height and width
    content[at:at + 4] = b"\xff\xdc" * 2
    assert simplejpeg.decode_jpeg_header(bytes(content))[:2] == (65500, 65500)
    (tmp_path / "a.jpg").write_bytes(content)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda content: pytest.fail("12 GB for 1 kB"))
    with pytest.raises(Image.DecompressionBombError):
        native.read_image(tmp_path / "a.jpg")
