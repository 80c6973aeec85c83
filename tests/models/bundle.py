"""Writes TensorFlow checkpoints in format V2 (PREFIX.index, PREFIX.data-*) without TensorFlow, and archives as the authors make.

After LevelDB's description of its tables and TensorFlow's tensor_bundle.proto; `test_checkpoints.py` holds the reader against bytes
that TensorFlow wrote.
"""
import os
import tarfile
from pathlib import Path

import numpy as np

from pipeline.models.published import sstables, tensorflow

MAGIC = bytes.fromhex("57fb808b247547db")


def number(value: int) -> bytes:
    result = b""
    while value > 127:
        result, value = result + bytes([value & 127 | 128]), value >> 7
    return result + bytes([value])


def block(pairs, restart=16, compression=0, crc=sstables.crc32c) -> bytes:
    body, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0 if i % restart == 0 else len(os.path.commonprefix([key, last]))
        restarts += [len(body)] if i % restart == 0 else []
        body += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    body += b"".join(position.to_bytes(4, "little") for position in (*restarts, len(restarts))) + bytes([compression])
    return body + sstables.masked(crc(body)).to_bytes(4, "little")


def table(blocks, **options) -> bytes:
    """A table of `blocks`, lists of (key, value) in order."""
    data, index = b"", []
    for pairs in blocks:
        piece = block(pairs, **options)
        index.append((pairs[-1][0], number(len(data)) + number(len(piece) - 5)))
        data += piece
    meta, top = block([]), block(index, restart=1)
    footer = b"".join(number(n) for n in (len(data), len(meta) - 5, len(data) + len(meta), len(top) - 5))
    return data + meta + top + footer.ljust(40, b"\0") + MAGIC


def field(number_of: int, value: int | bytes) -> bytes:
    """One field of a protocol buffer message: a varint, or bytes."""
    if isinstance(value, int):
        return number(number_of << 3) + number(value)
    return number(number_of << 3 | 2) + number(len(value)) + value


def shape_of(sides) -> bytes:
    return b"".join(field(2, field(1, side)) for side in sides)


def entry(array: np.ndarray, offset: int, *more: bytes) -> bytes:
    kinds = {"float32": 1, "int64": 9}
    crc = sstables.masked(sstables.crc32c(array.tobytes()))
    return (field(1, kinds[array.dtype.name]) + field(2, shape_of(array.shape)) + field(4, offset) + field(5, array.nbytes)
            + number(6 << 3 | 5) + crc.to_bytes(4, "little") + b"".join(more))


def write(prefix: Path, variables: dict[str, np.ndarray]) -> None:
    """The checkpoint PREFIX of `variables` (float32, int64)."""
    data, pairs = b"", [(b"", field(1, 1))]
    for name in sorted(variables, key=str.encode):
        array = np.asarray(variables[name])
        pairs.append((name.encode(), entry(array, len(data))))
        data += array.tobytes()
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(table([pairs]))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)


def theirs(name: str, shape) -> tuple[int, ...]:
    """A shape of ours in the order of TensorFlow's axes."""
    if len(shape) == 2:
        return 1, 1, *shape[::-1]
    if len(shape) < 4:
        return tuple(shape)
    return (*shape[2:], shape[0], 1) if name.endswith("depthwise_weights") else (*shape[2:], shape[1], shape[0])


def variables_of(network, scope: str, seed: int) -> dict[str, np.ndarray]:
    """Values from a seed for all variables that the authors' checkpoint of such a network has; they let a signal through."""
    state, rng, found = network.state_dict(), np.random.default_rng(seed), {}
    for ours, name in tensorflow.names(network, scope).items():
        shape = theirs(name, state[ours].shape)
        if len(shape) == 4:
            values = rng.standard_normal(shape) * (3 / np.prod(shape[:3])) ** 0.5
        else:  # gamma and moving_variance around 1; beta, moving_mean and biases around 0
            values = rng.uniform(0.5, 1.5, shape) - (0 if name.endswith(("gamma", "variance")) else 1)
        found[name] = values.astype("f")
    return found


def archive(path: Path, variables: dict[str, np.ndarray], folder: str) -> None:
    """PATH.tar.gz as in the model zoo: FOLDER/ with a checkpoint and a frozen graph."""
    here = path.with_name(path.name.removesuffix(".tar.gz"))
    write(here / "model.ckpt", variables)
    (here / "frozen_inference_graph.pb").write_bytes(b"a graph that nobody reads")
    with tarfile.open(path, "w:gz", compresslevel=1) as file:
        file.add(here, folder)
