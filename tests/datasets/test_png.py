"""Label PNGs: the quick reader gives Pillow's values or leaves the file to Pillow."""
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pipeline.datasets import native, png


def label(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 1, 7, 20, 255], shape).astype(np.uint8)


def palette_png(values: np.ndarray, **options) -> bytes:
    image = Image.fromarray(values)
    image.putpalette(bytes(range(256)) * 3)
    image.save(file := io.BytesIO(), "PNG", **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def handmade(width, height, lines: bytes, bits=8, colours=0, interlaced=0, pieces=1) -> bytes:
    data = zlib.compress(lines)
    cuts = [data[len(data) * each // pieces:len(data) * (each + 1) // pieces] for each in range(pieces)]
    header = struct.pack(">2I5B", width, height, bits, colours, 0, 0, interlaced)
    return png.START + b"".join([chunk(b"IHDR", header), chunk(b"tEXt", b"Comment\0none"),
                                 *(chunk(b"IDAT", each) for each in cuts), chunk(b"IEND", b"")])


def pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@settings(max_examples=100)
@given(shape=st.tuples(st.integers(1, 60), st.integers(1, 60)), seed=st.integers(0, 99), level=st.integers(0, 9), grey=st.booleans())
def test_every_label_is_read_as_pillow_reads_it(tmp_path_factory, shape, seed, level, grey):
    values, path = label(shape, seed), tmp_path_factory.mktemp("png") / "a.png"
    if grey:  # Pillow filters these; the quick reader leaves them to it where it did
        Image.fromarray(values).save(path, compress_level=level)
    else:
        path.write_bytes(palette_png(values, compress_level=level))
        assert png.unfiltered(path.read_bytes()) is not None
    read = native.read_labels(path)
    assert read.dtype == np.uint8 and read.flags.c_contiguous
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("bits, said", [(1, "has 8 bits, this one 1"), (2, "has 8 bits, this one 2"), (4, "has 8 bits, this one 4"), (8, None)])
def test_greys_of_fewer_bits_are_refused(tmp_path, bits, said):
    """Pillow spreads them over 0 to 255: class 1 of 15 would be read as 17. A palette's indices it leaves alone."""
    lines = b"".join(b"\0" + bytes([1] * bits) for _ in range(4))  # 8 pixels wide
    (tmp_path / "grey.png").write_bytes(handmade(8, 4, lines, bits))
    if said:
        with pytest.raises(OSError, match=said):
            native.read_labels(tmp_path / "grey.png")
    else:
        assert (native.read_labels(tmp_path / "grey.png") == 1).all()
    few = Image.fromarray(np.full((4, 8), 1, np.uint8))
    few.putpalette(bytes(range(48)))
    few.save(tmp_path / "palette.png", bits=bits)
    assert (native.read_labels(tmp_path / "palette.png") == 1).all()


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_data_in_several_chunks(pieces):
    values = label((30, 41))
    content = handmade(41, 30, b"".join(b"\0" + row.tobytes() for row in values), pieces=pieces)
    np.testing.assert_array_equal(png.unfiltered(content), values)
    np.testing.assert_array_equal(pillow(content), values)


@pytest.mark.parametrize("content", [
    b"", png.START, b"GIF89a", handmade(4, 2, bytes(10))[:-1], handmade(4, 2, bytes(10), interlaced=1),
    handmade(8, 2, bytes(4), bits=1), handmade(4, 2, bytes(26), colours=2), handmade(4, 2, bytes([2, 1, 2, 3, 4]) * 2),
    handmade(4, 2, bytes(9)), handmade(4, 2, bytes(11)), handmade(0, 2, bytes(2)), png.START + chunk(b"IEND", b""),
    png.START + chunk(b"IHDR", b"short") + chunk(b"IEND", b""), handmade(4, 2, b""),
], ids=["empty", "start", "gif", "cut", "interlaced", "bits", "rgb", "filtered", "too short", "too long", "no width", "no header", "short header", "no data"])
def test_other_files_are_left_to_pillow(content):
    assert png.unfiltered(content) is None


def test_filtered_lines_are_read_by_pillow(tmp_path):
    (tmp_path / "a.png").write_bytes(handmade(4, 2, bytes([1, 1, 1, 1, 1, 2, 1, 1, 1, 1])))
    np.testing.assert_array_equal(native.read_labels(tmp_path / "a.png"), [[1, 2, 3, 4], [2, 3, 4, 5]])


@settings(max_examples=300)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(at, bit):
    content = bytearray(palette_png(label((40, 50))))
    content[int(at * len(content))] ^= 1 << bit
    assert png.unfiltered(bytes(content)) is None


def test_a_small_file_that_claims_to_be_huge_takes_no_memory(monkeypatch):
    giant = handmade(60000, 60000, bytes(1 << 20))
    monkeypatch.setattr(png.zlib_ng, "decompressobj", lambda: pytest.fail("3.6 GB for 1 kB"))
    assert png.unfiltered(giant) is None


def test_a_small_file_that_inflates_to_more_than_it_says_takes_no_memory():
    import tracemalloc
    bomb = handmade(4, 2, bytes(64 << 20))
    tracemalloc.start()
    assert png.unfiltered(bomb) is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("content, bits", [(b"", 8), (png.START, 8), (png.START + bytes(16), 8), (handmade(8, 4, b"", 2), 2), (b"\xff\xd8" + bytes(40), 8)])
def test_bits_of_a_file_that_ends_before_its_header_says_them(content, bits):
    assert png.bits(content) == bits
