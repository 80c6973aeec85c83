"""The keys under which TensorFlow's V2 checkpoints keep the slices of a partitioned variable.

After TensorFlow's saved_tensor_slice_util.cc (EncodeTensorNameSlice) and ordered_code.cc: numbers and text are written so that
the order of the bytes is theirs.
"""


def key(name: str, extents: list[tuple[int, int]]) -> bytes:
    """The key of one slice of variable `name`. `extents`: its (start, length) along each axis; length -1: the whole of it."""
    numbers = b"".join(_signed(number) for extent in extents for number in extent)
    return _unsigned(0) + _text(name) + _unsigned(len(extents)) + numbers


def _unsigned(number: int) -> bytes:
    """How many bytes follow, and the number, big-endian without leading zeros."""
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _text(text: str) -> bytes:
    """UTF-8 to an end mark; a zero byte is told from the mark by what follows."""
    return text.encode().replace(b"\0", b"\0\xff") + b"\0\1"


def _signed(number: int) -> bytes:
    """Big-endian two's complement in the fewest bytes; as many leading bits as bytes are turned over."""
    size = (~number if number < 0 else number).bit_length() // 7 + 1
    mask = ((1 << size) - 1) << (7 * size)  # the first `size` of 8 * size bits
    return ((number & ((1 << 8 * size) - 1)) ^ mask).to_bytes(size, "big")
