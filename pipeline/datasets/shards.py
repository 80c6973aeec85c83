"""Shards: one memory-mapped Arrow file a split, with decoded images and labels, so that training never decodes.

Columns: id, height, width, image (H x W x 3 RGB bytes), label (H x W bytes, 255 void), distance (H x W bytes: pixels to the
nearest void pixel, evaluation splits only); ImageNet has target instead of label and distance. The schema's metadata holds
the data set's name and its classes.
"""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.records import atomic
from pipeline.study import StudyError

BATCH_BYTES = 32 << 20  # a record batch is closed when it has this many: bounds memory whatever the data set's size


@dataclass(frozen=True)
class Example:
    """`image`: uint8 (H, W, 3). `label`: uint8 (H, W), 255 void. `distance`: uint8 (H, W), in pixels to the nearest void pixel,
    or None. `target`: class number (ImageNet), or None. Arrays from a shard are read-only views of the file."""
    id: str
    image: np.ndarray
    label: np.ndarray | None = None
    distance: np.ndarray | None = None
    target: int | None = None


def void_distance(label: np.ndarray) -> np.ndarray:
    """uint8 (H, W): Euclidean distance in pixels from each pixel of `label` to the nearest 255, rounded up, 255 at most; 255
    everywhere without void."""
    void = label == 255
    if not void.any():
        return np.full(label.shape, 255, np.uint8)
    from scipy.ndimage import distance_transform_edt
    return np.minimum(np.ceil(distance_transform_edt(~void)), 255).astype(np.uint8)


def schema(dataset: str, classes: list[str]) -> pa.Schema:
    data = pa.large_binary()
    labels = [("target", pa.int32())] if dataset == "imagenet" else [("label", data), ("distance", data)]
    return pa.schema([("id", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("image", data), *labels],
                     {"dataset": dataset, "classes": json.dumps(classes)})


class Writer:
    """`with Writer(path, dataset, classes) as writer: writer.add(example)`. The file takes its name when the block ends well."""

    def __init__(self, path: Path, dataset: str, classes: list[str], batch_bytes: int = BATCH_BYTES):
        self._schema, self._limit = schema(dataset, classes), batch_bytes
        self._atomic = atomic(path)
        self._rows, self._bytes = [], 0

    def __enter__(self):
        self._file = pa.ipc.new_file(str(self._atomic.__enter__()), self._schema)
        return self

    def add(self, example: Example) -> None:
        self._rows.append(example)
        self._bytes += sum(array.nbytes for array in (example.image, example.label, example.distance) if array is not None)
        if self._bytes >= self._limit:
            self._flush()

    def _flush(self):
        if self._rows:
            sizes = [row.image.shape[:2] for row in self._rows]
            columns = {"id": _variable(pa.string(), np.int32, [np.frombuffer(row.id.encode(), np.uint8) for row in self._rows]),
                       "height": _integers([height for height, _ in sizes]), "width": _integers([width for _, width in sizes])}
            for name in self._schema.names[3:]:
                values = [getattr(row, name) for row in self._rows]
                if name == "target":
                    columns[name] = _integers(values)
                elif values[0] is None:
                    columns[name] = pa.nulls(len(values), pa.large_binary())
                else:
                    columns[name] = _variable(pa.large_binary(), np.int64, values)
            self._file.write_batch(pa.record_batch([columns[name] for name in self._schema.names], schema=self._schema))
        self._rows, self._bytes = [], 0

    def __exit__(self, *error):
        if error[0] is None:
            self._flush()
        self._file.close()
        return self._atomic.__exit__(*error)


# Columns are made of buffers: pa.array would import pandas, which takes a second in every process that writes.
def _integers(values: list[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(np.array(values, np.int32))])


def _variable(kind: pa.DataType, offset: type, values: list[np.ndarray]) -> pa.Array:
    """A string or binary column of the arrays' bytes, joined in one copy."""
    offsets = np.cumsum([0] + [value.nbytes for value in values], dtype=offset)
    content = np.concatenate([value.ravel() for value in values])
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


class Shard:
    """Read access to a shard: `len(shard)`, `shard[i] -> Example` without copies, `shard.ids`, `shard.classes`, `shard.dataset`.
    May be pickled and forked; StudyError where the file is missing or no shard."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._open()

    def _open(self):
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
            self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            metadata = reader.schema.metadata or {}
            self.dataset, self.classes = metadata[b"dataset"].decode(), json.loads(metadata[b"classes"])
        except (OSError, pa.ArrowException, KeyError) as error:
            raise StudyError(f"{self.path} is no shard that can be read ({error}): run the stage prepare again") from error
        self._starts = np.cumsum([0] + [len(batch) for batch in self._batches])
        self._columns = [{name: batch.column(name) for name in batch.schema.names} for batch in self._batches]

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.path = state["path"]
        self._open()

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def ids(self) -> list[str]:
        return [each for columns in self._columns for each in columns["id"].to_pylist()]

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        row, columns = index - int(self._starts[number]), self._columns[number]
        shape = columns["height"][row].as_py(), columns["width"][row].as_py()

        def view(name, shape):
            value = columns[name][row] if name in columns else None
            return np.frombuffer(value.as_buffer(), np.uint8).reshape(shape) if value is not None and value.is_valid else None
        return Example(columns["id"][row].as_py(), view("image", (*shape, 3)), view("label", shape), view("distance", shape),
                       columns["target"][row].as_py() if "target" in columns else None)
