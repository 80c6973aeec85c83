"""Shards: a split's decoded images and labels in memory-mapped Arrow files, so that training never decodes.

Columns: id, height, width, image (H x W x 3 RGB bytes), label (H x W bytes, 255 void), distance (H x W bytes: pixels to the
nearest void pixel, evaluation splits only); ImageNet has target instead of label and distance. The schema's metadata holds
the data set's name, its classes, and how many files there are: SPLIT.arrow, SPLIT-0001.arrow and so on, as the processes that
decoded them wrote them, so that no byte is written twice.
"""
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.files import atomic
from pipeline.schema import DatasetName
from pipeline.study import Study, StudyError

BATCH_BYTES = 1 << 19  # a record batch is closed when it has this many: pixels are written while they are in the cache
VOID = 255  # a label: no class


@dataclass(frozen=True)
class Example:
    """`image`: uint8 (H, W, 3). `label`: uint8 (H, W), 255 void. `distance`: uint8 (H, W), see `trimap.void_distance`, or None.
    `target`: class number (ImageNet), or None. Arrays from a shard are read-only views of the file."""
    id: str
    image: np.ndarray
    label: np.ndarray | None = None
    distance: np.ndarray | None = None
    target: int | None = None


def schema(dataset: str, classes: list[str], files: int = 1) -> pa.Schema:
    """Columns and metadata of a shard, as above, that consists of `files` files."""
    data = pa.large_binary()
    labels = [("target", pa.int32())] if dataset == "imagenet" else [("label", data), ("distance", data)]
    return pa.schema([("id", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("image", data), *labels],
                     {"dataset": dataset, "classes": json.dumps(classes), "files": str(files)})


def path_of(study: Study, dataset: DatasetName, split: str) -> Path:
    """The first file of what the stage prepare leaves of a split at the study's scale."""
    return study.artifacts("shards", dataset) / f"{split}.arrow"


def file_of(path: Path, number: int) -> Path:
    """The file `number`, from 0 on, of the shard `path`."""
    return path.with_name(f"{path.stem}-{number:04d}{path.suffix}") if number else path


def readable(path: Path) -> bool:
    """Whether the file `path` is there to its end."""
    try:
        pa.ipc.open_file(pa.memory_map(str(path)))
    except (OSError, pa.ArrowException):
        return False
    return True


class Writer:
    """`with Writer(path, dataset, classes) as writer: writer.add(example)`. The file takes its name when the block ends well.
    `files`: how many the shard has, of which this is one."""

    def __init__(self, path: Path, dataset: str, classes: list[str], batch_bytes: int = BATCH_BYTES, files: int = 1):
        self._schema, self._limit = schema(dataset, classes, files), batch_bytes
        self._rows, self._bytes, self._block = [], 0, self._opened(path)

    @contextlib.contextmanager
    def _opened(self, path: Path):
        """What `with` does."""
        with (atomic(path, durable=False) as partial,  # gigabytes; whoever goes on with one asks whether it is `readable`
              pa.ipc.new_file(str(partial), self._schema) as self._file):
            yield self
            self._flush()

    def __enter__(self):
        return self._block.__enter__()

    def __exit__(self, *error):
        return self._block.__exit__(*error)

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


# Columns are made of buffers: pa.array would import pandas, which takes a second in every process that writes.
def _integers(values: list[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(np.array(values, np.int32))])


def _variable(kind: pa.DataType, offset: type, values: list[np.ndarray]) -> pa.Array:
    """A string or binary column of the arrays' bytes, joined in one copy, or none for one array."""
    offsets = np.cumsum([0] + [value.nbytes for value in values], dtype=offset)
    content = np.concatenate([value.ravel() for value in values]) if len(values) > 1 else values[0].ravel()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


class Shard:
    """Read access to a shard: `len(shard)`, `shard[i] -> Example` without copies, `shard.ids`, `shard.classes`, `shard.dataset`.
    May be forked; StudyError where the file is missing or no shard."""

    def __init__(self, path: str | Path):
        self.path = file = Path(path)
        self._batches, number, files = [], 0, 1
        try:
            while number < files:
                file = file_of(self.path, number)
                reader = pa.ipc.open_file(pa.memory_map(str(file)))
                self._batches += [reader.get_batch(each) for each in range(reader.num_record_batches)]
                metadata, number = reader.schema.metadata or {}, number + 1
                self.dataset = metadata[b"dataset"].decode()
                self.classes = json.loads(metadata[b"classes"])
                files = int(metadata[b"files"])
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise StudyError(f"{file} is no shard that can be read ({error}): run the stage prepare again") from error
        self._starts = np.cumsum([0] + [len(batch) for batch in self._batches])
        self._columns = [{name: batch.column(name) for name in batch.schema.names} for batch in self._batches]

    @classmethod
    def of(cls, study: Study, dataset: DatasetName, split: str) -> "Shard":
        """What the stage prepare left of a split at the study's scale."""
        return cls(path_of(study, dataset, split))

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
            column = columns.get(name)
            if column is None or column.null_count:  # all of it: see _flush
                return None
            _, offsets, content = column.buffers()  # as_buffer() of the cell would copy it
            start, end = np.frombuffer(offsets, np.int64, 2, 8 * (column.offset + row)).tolist()
            return np.frombuffer(content, np.uint8, end - start, start).reshape(shape)
        return Example(columns["id"][row].as_py(), view("image", (*shape, 3)), view("label", shape), view("distance", shape),
                       columns["target"][row].as_py() if "target" in columns else None)
