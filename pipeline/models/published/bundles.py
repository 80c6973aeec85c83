"""TensorFlow's checkpoints as arrays, without TensorFlow: formats V2 (PREFIX.index + PREFIX.data-*) and V1 (one table).

Both are tables (sstables.py) whose values are protocol buffers; the few messages in them are parsed here, after TensorFlow's
tensor_bundle.proto, saved_tensor_slice.proto and tensor.proto. Damaged files raise StudyError.
"""
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.models.published.slices import key as slice_key
from pipeline.models.published.sstables import crc32c, entries, mapped, masked, varint
from pipeline.study import StudyError

# Numbers of tensorflow::DataType, and the field of a TensorProto that has the values. Weights are floats, counters integers;
# variables of other types are passed over.
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
VALUES = {"<f4": 5, "<f8": 6, "<i4": 7, "<i8": 10}
DTYPE, SHAPE, SHARD, OFFSET, SIZE, CRC, SLICES = range(1, 8)  # fields of a BundleEntryProto, which V2 has for each variable
Message = dict[int, list]


def read_v2(prefix: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The variables of the checkpoint at `prefix` whose names are `wanted`. Variables saved in slices are put together."""
    index, count = Path(f"{prefix}.index"), None
    shards, variables, slices = {}, {}, {}

    def values(entry: Message, name: str, dtype: str) -> np.ndarray:
        shard = _number(entry, SHARD)
        if shard not in shards:
            shards[shard] = mapped(Path(f"{prefix}.data-{shard:05d}-of-{count:05d}"))
        offset, size = _number(entry, OFFSET), _number(entry, SIZE)
        data = shards[shard][offset:offset + size]
        crc = int.from_bytes(entry.get(CRC, [b"\0\0\0\0"])[0], "little")
        if len(data) != size or masked(crc32c(data)) != crc:
            raise StudyError(f"{prefix}: the values of {name} are damaged or cut short (checksum)")
        return _array(data, dtype, _shape(_message(entry, SHAPE, index), index), name, prefix)

    for key, value in entries(index):
        entry = parse(value, index)
        if key == b"":
            count = _number(entry, 1)  # num_shards of the header
            if _number(entry, 2):      # its endianness
                raise StudyError(f"{index}: written on a big-endian machine, which is not supported")
            continue
        if key[0] == 0:  # one slice of a variable, whose own entry comes later
            slices[key] = entry
            continue
        name, dtype = key.decode(errors="replace"), DTYPES.get(_number(entry, DTYPE))
        if dtype is None or not wanted(name):
            continue
        if count is None:
            raise StudyError(f"{index} is damaged: it has no header")
        if SLICES not in entry:
            variables[name] = values(entry, name, dtype)
            continue
        parts = []
        for each in _messages(entry, SLICES, index):
            extents = _messages(each, 1, index)
            part = slices.get(slice_key(name, [(_number(one, 1), _number(one, 2) if 2 in one else -1) for one in extents]))
            if part is None or DTYPES.get(_number(part, DTYPE)) != dtype:
                raise StudyError(f"{index} is damaged: a slice of {name} is not in it")
            parts.append((extents, values(part, name, dtype)))
        variables[name] = _joined(parts, _shape(_message(entry, SHAPE, index), index), name, index)
    return variables


def _joined(parts: list[tuple[list[Message], np.ndarray]], shape: tuple[int, ...], name: str, where: Path) -> np.ndarray:
    """A variable of its slices, which have to cover it, each position once."""
    if sum(values.size for _, values in parts) != np.prod(shape, dtype=float):
        raise StudyError(f"{where}: the slices of {name} do not make its shape {list(shape)}")
    whole, filled = np.empty(shape, parts[0][1].dtype), np.zeros(shape, bool)
    for extents, values in parts:
        place = tuple(_extent(each, side) for each, side in zip(extents, shape))
        if whole[place].shape != values.shape:
            raise StudyError(f"{where}: a slice of {name} has shape {list(values.shape)}, not {list(whole[place].shape)}")
        whole[place], filled[place] = values, True
    if not filled.all():
        raise StudyError(f"{where}: the slices of {name} overlap and leave some of it out")
    return whole


def read_v1(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The variables of the V1 checkpoint file `path` whose names are `wanted`. Variables saved in slices are put together."""
    shapes, variables, filled = {}, {}, {}
    for key, value in entries(path):
        message = parse(value, path)
        if key == b"":
            for each in _messages(_message(message, 1, path), 1, path):
                name, dtype = _name(each, path), DTYPES.get(_number(each, 3))
                if wanted(name) and dtype is not None:
                    shapes[name] = _shape(_message(each, 2, path), path), dtype
            continue
        saved = _message(message, 2, path)
        name = _name(saved, path)
        if name not in shapes:
            continue
        shape, dtype = shapes[name]
        if name not in variables:
            # Every value is in the file, so a shape that is larger than the file is a lie; do not make room for it.
            if np.prod(shape, dtype=float) > path.stat().st_size:
                raise StudyError(f"{path}: {name} is said to have shape {list(shape)}, more than the file can hold")
            variables[name], filled[name] = np.empty(shape, dtype), 0
        extents = [_extent(each, side) for each, side in zip(_messages(_message(saved, 2, path), 1, path), shape)]
        part = variables[name][tuple(extents)]
        values = _tensor(_message(saved, 3, path), dtype)
        if values.size != part.size:
            raise StudyError(f"{path}: {name} has {values.size} values where its shape asks for {part.size}")
        variables[name][tuple(extents)] = values.reshape(part.shape)
        filled[name] += values.size
    short = [name for name, (shape, _) in shapes.items() if name not in filled or filled[name] != variables[name].size]
    if short:
        raise StudyError(f"{path}: values are missing of {', '.join(short)}")
    return variables


def parse(data: memoryview, where: Path) -> Message:
    """A protocol buffer message -> field number: its values, numbers as int, everything else as bytes."""
    fields, at = {}, 0
    try:
        while at < len(data):
            tag, at = varint(data, at)
            kind = tag & 7
            if kind == 0:
                value, at = varint(data, at)
            else:
                size, at = varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
                value, at = data[at:at + size], at + size
                if at > len(data):
                    raise IndexError
            fields.setdefault(tag >> 3, []).append(value)
    except (IndexError, KeyError, ValueError) as error:
        raise StudyError(f"{where} is damaged: an entry is no protocol buffer") from error
    return fields


def _number(message: Message, field: int) -> int:
    value = message.get(field, [0])[-1]
    if not isinstance(value, int):
        raise StudyError(f"field {field} of a checkpoint's entry should be a number: the file is damaged")
    return value


def _name(message: Message, where: Path) -> str:
    value = message.get(1, [None])[0]
    if not isinstance(value, memoryview):  # bytes(number) would make room for so many
        raise StudyError(f"{where} is damaged: a variable has no name")
    return bytes(value).decode(errors="replace")


def _messages(message: Message, field: int, where: Path) -> list[Message]:
    return [parse(value, where) for value in message.get(field, []) if isinstance(value, memoryview)]


def _message(message: Message, field: int, where: Path) -> Message:
    return (_messages(message, field, where) or [{}])[-1]


def _shape(message: Message, where: Path) -> tuple[int, ...]:
    return tuple(_number(each, 1) for each in _messages(message, 2, where))


def _extent(message: Message, side: int) -> slice:
    """A slice along one axis; without a length it is the whole of it."""
    start = _number(message, 1)
    return slice(start, start + _number(message, 2)) if 2 in message else slice(0, side)


def _tensor(message: Message, dtype: str) -> np.ndarray:
    """The values of a TensorProto, flat. Numbers are packed (floats as they are, integers as varints) or raw bytes."""
    if 4 in message:
        return np.frombuffer(message[4][0], dtype)
    packed = message.get(VALUES[dtype], [])
    if dtype in ("<f4", "<f8"):
        return np.concatenate([np.frombuffer(each, dtype) for each in packed] or [np.empty(0, dtype)])
    values = []
    for each in packed:
        at = 0
        while at < len(each):
            value, at = varint(each, at)
            values.append(value - (1 << 64) if value >> 63 else value)
    return np.array(values, dtype)


def _array(data: memoryview, dtype: str, shape: tuple[int, ...], name: str, where: Path) -> np.ndarray:
    if np.prod(shape, dtype=float) * np.dtype(dtype).itemsize != len(data):
        raise StudyError(f"{where}: {name} has {len(data)} bytes, which do not fit shape {list(shape)}")
    return np.frombuffer(data, dtype).reshape(shape).copy()
