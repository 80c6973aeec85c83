"""Reading sorted string tables (LevelDB's table format), the container of TensorFlow's checkpoints.

A table is blocks of (key, value) entries; the last 48 bytes point to an index of blocks. Each block ends with its compression
(none, in checkpoints) and a masked CRC-32C. Damaged or hostile files raise StudyError; nothing is read beyond the file.
"""
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.study import StudyError

MAGIC = 0xDB4775248B80FB57
FOOTER, TRAILER = 48, 5
LANES = 1 << 12       # a long CRC is computed as this many side by side
MASK = 0xA282EAD8


def entries(path: Path) -> Iterator[tuple[bytes, memoryview]]:
    """(key, value) of every entry of the table at `path`, in order. Values are views of the mapped file."""
    data = mapped(path)
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise StudyError(f"{path} is no TensorFlow checkpoint (no table magic at its end), or is cut short. Weights of PyTorch "
                         "are taken as .safetensors")
    try:
        footer = data[-FOOTER:-8]
        _, at = _handle(footer, 0)     # the table's metadata, which checkpoints do not use
        index, _ = _handle(footer, at)
        for _, value in _block(data, *index):
            yield from _block(data, *_handle(value, 0)[0])
    except (IndexError, ValueError) as error:
        if isinstance(error, StudyError):
            raise StudyError(f"{path}: {error}") from error
        raise StudyError(f"{path} is damaged: {error}") from error


def mapped(path: Path) -> memoryview:
    """The bytes of the file at `path`, read when they are looked at. StudyError where there are none."""
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise StudyError(f"{path} cannot be read: {error}") from error


def is_table(path: Path) -> bool:
    """Whether the file at `path` ends as a table does."""
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - 8))
        return size >= FOOTER and int.from_bytes(file.read(8), "little") == MAGIC


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Little-endian base-128 number at `at` -> (number, position behind it). IndexError at the end, ValueError past 64 bits."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    whole = data[offset:offset + size + TRAILER]
    if len(whole) != size + TRAILER or size < 4:
        raise ValueError("a block lies outside the file")
    if int.from_bytes(whole[-4:], "little") != masked(crc32c(whole[:-4])):
        raise ValueError(f"the checksum of the block at byte {offset} is wrong")
    if whole[size] != 0:
        raise StudyError(f"the block at byte {offset} is compressed (type {whole[size]}); checkpoints of TensorFlow never are")
    end = size - 4 - 4 * int.from_bytes(whole[size - 4:size], "little")  # behind the entries: restart points and their count
    if end < 0:
        raise ValueError(f"the block at byte {offset} has more restart points than bytes")
    at, key = 0, b""
    while at < end:
        shared, at = varint(whole, at)
        unshared, at = varint(whole, at)
        length, at = varint(whole, at)
        if shared > len(key) or at + unshared + length > end:
            raise ValueError(f"an entry of the block at byte {offset} lies outside it")
        key = key[:shared] + bytes(whole[at:at + unshared])
        at += unshared + length
        yield key, whole[at - length:at]


def masked(crc: int) -> int:
    """The form in which CRCs are stored beside what they cover."""
    return (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF


def _step(crc: np.ndarray, byte: np.ndarray | int) -> np.ndarray:
    return TABLE[(crc ^ byte) & 255] ^ (crc >> 8)


def _table() -> np.ndarray:
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = (crc >> 1) ^ np.where(crc & 1, np.uint32(0x82F63B78), np.uint32(0))  # Castagnoli's polynomial, bits reversed
    return crc


TABLE = _table()


def crc32c(data: memoryview | bytes) -> int:
    """CRC-32C of `data`. Long data is cut into LANES pieces whose CRCs run side by side and are then joined: 100 MB a second."""
    data = np.frombuffer(data, np.uint8)
    length = len(data) // LANES
    crc = 0xFFFFFFFF
    if length >= 16:
        lanes = np.zeros(LANES, np.uint32)
        lanes[0] = crc
        for column in np.ascontiguousarray(data[:LANES * length].reshape(LANES, length).T):
            lanes = _step(lanes, column)
        # CRCs are linear: a piece's, taken on over as many zero bytes as the next piece is long, joins that one's by xor.
        onwards = _zeros(length)
        while len(lanes) > 1:
            lanes = _apply(onwards, lanes[::2]) ^ lanes[1::2]
            onwards = _apply(onwards, onwards)
        crc, data = int(lanes[0]), data[LANES * length:]
    for byte in data.tolist():
        crc = int(TABLE[(crc ^ byte) & 255]) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _apply(operator: np.ndarray, crcs: np.ndarray) -> np.ndarray:
    """A linear operator, given by what becomes of each of 32 bits, on CRCs."""
    result = np.zeros_like(crcs)
    for bit in range(32):
        result ^= np.where((crcs >> np.uint32(bit)) & 1, operator[bit], np.uint32(0))
    return result


def _zeros(count: int) -> np.ndarray:
    """The operator of `count` zero bytes, by squaring that of one."""
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = _step(result, 0)
    while count:
        if count & 1:
            result = _apply(power, result)
        power, count = _apply(power, power), count >> 1
    return result
