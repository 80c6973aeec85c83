"""One matrix out of a MATLAB file of version 5, which is what SBD's masks are in.

By hand because the files come from the network: scipy's reader crashes the process on some damaged ones. Format: MathWorks,
"MAT-File Format", chapter 1.
"""
import struct
import zlib
from pathlib import Path

import numpy as np

LARGEST = 64 << 20  # bytes unpacked: SBD's have less than one
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
STRUCT = 2


def field(path: Path, variable: str, name: str) -> np.ndarray:
    """The real matrix in field `name` of the 1x1 struct `variable`. Raises ValueError where the file does not have it so."""
    content = path.read_bytes()
    if len(content) < 128 or content[124:128] != b"\0\1IM":
        raise ValueError("not a MATLAB file of version 5 with little-endian numbers")
    try:
        for kind, data in _elements(content[128:], padded=False):
            if kind == COMPRESSED:
                opened = zlib.decompressobj()
                data = opened.decompress(data, LARGEST)
                if not opened.eof:
                    raise ValueError("cut short, or too large when unpacked")
                kind, data = next(_elements(data))
            if kind == MATRIX and _text(_parts(data, 3)[2]) == variable:
                return _matrix(_member(data, name))
    except (struct.error, zlib.error, StopIteration, UnicodeDecodeError) as error:
        raise ValueError(f"damaged: {error}") from error
    raise ValueError(f"no {variable} in it")


def _elements(content: bytes, padded: bool = True):
    """(type, data) one after the other. Short ones have both lengths in the first word and the data in the second."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from("<II", content, at)
        start, step = at + 8, size + (-size % 8 if padded else 0)
        if kind >> 16:
            kind, size, start, step = kind & 0xffff, kind >> 16, at + 4, 0
        if start + size > len(content) or (start == at + 4 and size > 4):
            raise ValueError("damaged: an element is longer than what holds it")
        yield kind, content[start:start + size]
        at += 8 + step


def _parts(content: bytes, count: int) -> list[bytes]:
    """The data of the first elements: of a matrix its flags, dimensions, name, ..."""
    found = [data for (_, data), _ in zip(_elements(content), range(count))]
    if len(found) < count:
        raise ValueError("damaged: a matrix lacks parts")
    return found


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii")


def _member(content: bytes, name: str) -> bytes:
    flags, shape, *_ = _parts(content, 2)
    if flags[:1] != bytes([STRUCT]) or struct.unpack("<2i", shape) != (1, 1):
        raise ValueError("not a 1x1 struct")
    length, names = _parts(content, 5)[3:]
    width = struct.unpack("<i", length)[0]
    if width < 1:
        raise ValueError("damaged: fields without names")
    known = [_text(names[at:at + width]) for at in range(0, len(names), width)]
    if name not in known:
        raise ValueError(f"no field {name}")
    return _parts(content, 6 + known.index(name))[-1]


def _matrix(content: bytes) -> np.ndarray:
    parts = [part for part, _ in zip(_elements(content), range(4))]
    if len(parts) < 4 or parts[3][0] not in STORED:
        raise ValueError("not a matrix of numbers")
    shape = np.frombuffer(parts[1][1], "<i4")
    values = np.frombuffer(parts[3][1], "<" + STORED[parts[3][0]])
    if len(shape) != 2 or (shape < 1).any() or int(shape[0]) * int(shape[1]) != len(values):
        raise ValueError("damaged: a matrix of another size than it says")
    return values.reshape(shape, order="F")
