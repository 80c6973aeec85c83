"""From a native layout to shards: decode every image once, on all cores, with a data sheet and one list of all that is wrong.

A split is cut into parts. A worker decodes a part, checks it and writes it to a file of its own, which becomes one of the
shard's. Parts of an interrupted preparation are used by the next one.
"""
import contextlib
import functools
import hashlib
import json
import os
import pickle
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import progress
from pipeline.datasets import native, pool, sheet
from pipeline.datasets.shards import VOID, Example, Writer, file_of, readable
from pipeline.datasets.trimap import void_distance
from pipeline.files import atomic, digest
from pipeline.study import StudyError

PART = 32            # images a part: about 25 MB of VOC, and little to wait for at the end, however many cores
SHOWN = 50           # problems printed; the rest is counted
VALUES = 8           # wrong label values named of one image; one that was saved as JPEG, or resized smoothly, has hundreds


@dataclass(frozen=True)
class Task:
    """One part of a shard. `distances`: void-distance maps, too. `size`: of ImageNet's images. `files`: parts of the shard."""
    dataset: str
    classes: tuple[str, ...]
    items: tuple[native.Item, ...]
    distances: bool
    size: tuple[int, int] | None
    files: int = 1


def write_shard(path: Path, unfinished: Path, dataset: str, classes: list[str], items: list[native.Item], *,
                distances: bool = False, size: tuple[int, int] | None = None, workers: int = 1) -> dict:
    """Write the shard `path` from `items`; return the split's row of the data sheet. `unfinished`: the folder for its parts.

    UnusableFiles of what is missing, unreadable, of the wrong size or wrongly labelled; StudyError where an id is there twice."""
    if not items:
        raise StudyError(f"{dataset} has no images in its split {path.stem}")
    known = {}
    for item in items:
        if (other := known.setdefault(item.id, item)) is not item:
            raise StudyError(f"{dataset} {path.stem}: {other.image} and {item.image} are both {item.id}: rename or remove one")
    chunks = [tuple(items[start:start + PART]) for start in range(0, len(items), PART)]
    tasks = [Task(dataset, tuple(classes), chunk, distances, size, files=len(chunks)) for chunk in chunks]
    parts = [unfinished / f"{path.stem}-{_digest(task)}.arrow" for task in tasks]
    unfinished.mkdir(parents=True, exist_ok=True)
    tallies = []
    with progress.bar(f"prepare {dataset} {path.stem}", len(items), "image") as bar:
        for task, tally in zip(tasks, pool.mapped(prepare_part, tasks, parts, workers=workers)):
            tallies.append(tally)
            bar.update(len(task.items))
    if turned := sum(tally["turned"] for tally in tallies):
        print(f"warning: {dataset} {path.stem}: EXIF turns {turned} photos, which is not done here: labels have to fit them as "
              "stored", file=sys.stderr)
    if found := [problem for tally in tallies for problem in tally["problems"]]:
        raise UnusableFiles(f"{dataset} {path.stem}", found, len(items))
    for number, part in reversed(list(enumerate(parts))):  # the file that says how many there are comes last
        with atomic(file_of(path, number), durable=False) as partial:
            try:  # the old name stays for a preparation that is interrupted later
                os.link(part, partial)
            except OSError:  # a file system without hard links
                shutil.copyfile(part, partial)
    return sheet.row(tallies, classes)


class UnusableFiles(StudyError):
    """What is wrong with the files of a split: `lines` is all of it, the message the first of them."""

    def __init__(self, what: str, found: list[str], images: int):
        head = f"{what}: {len(found)} of {images} images cannot be used:"
        self.lines = [head, *(f"  {each}" for each in found)]
        more = [f"  ... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        super().__init__("\n".join(self.lines[:SHOWN + 1] + more))


@functools.cache
def _code() -> str:
    return digest(Path(__file__).parent)


def _digest(task: Task) -> str:
    """Names a part by what it is made of, file sizes and times and the code included: a changed file is decoded again."""
    stamps = [_code()]
    for item in task.items:
        for path in (item.image, item.label):
            if isinstance(path, Path) and path.exists():
                stat = path.stat()
                stamps.append((str(path), stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(pickle.dumps((task, stamps))).hexdigest()[:16]


def prepare_part(task: Task, path: Path) -> dict:
    """Decode and check one part, write it to `path` unless it is there, and return its tally, what the data sheet needs."""
    note = path.with_suffix(".json")
    if note.is_file() and readable(path):
        with contextlib.suppress(ValueError):  # damaged
            return json.loads(note.read_text())
    values = len(task.classes) if task.dataset == "imagenet" else 256
    pixels, images_with = np.zeros(values, np.int64), np.zeros(values, np.int64)
    problems, sizes, totals, turned = [], [], [], 0
    with Writer(path, task.dataset, list(task.classes), files=task.files) as writer:
        for item in task.items:
            try:
                example, counts = load(task, item)
            except Unusable as error:
                problems.append(str(error))
                continue
            writer.add(example)
            sizes.append(example.image.shape[:2])
            totals.append([sheet.total(array) for array in (example.image, example.label) if array is not None])
            if example.label is None:
                images_with[example.target] += 1
            else:
                pixels += counts
                images_with += counts > 0
                turned += native.turned(item.image)
    tally = {"problems": problems, "sizes": sizes, "totals": totals, "turned": turned,
             "pixels": pixels.tolist(), "images_with": images_with.tolist()}
    if problems:
        path.unlink()
    else:
        with atomic(note, durable=False) as partial:
            partial.write_text(json.dumps(tally))
    return tally


class Unusable(Exception):
    """An image or its label cannot be used; the message names the file and says why."""


def load(task: Task, item: native.Item) -> tuple[Example, np.ndarray | None]:
    """The decoded example and the number of pixels of each label value, int (256,) (ImageNet: None). Raises Unusable."""
    reader = native.reader(task.dataset)
    try:
        item.id.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{item.image}: its name is not UTF-8: rename it") from None
    try:
        if task.dataset == "imagenet":
            return Example(item.id, reader.read(item, task.size), target=item.label), None
        image = native.read_image(item.image)
    except Exception as error:  # decoders raise SyntaxError, struct.error and more on broken bytes
        raise Unusable(f"{item.image}: {_reason(error)}") from None
    where = item.label if isinstance(item.label, Path) else item.image
    try:
        label = reader.label(item)
    except Exception as error:
        raise Unusable(f"{where}: {_reason(error)}") from None
    if label.shape != image.shape[:2]:
        sizes = (f"{array.shape[1]}x{array.shape[0]}" for array in (label, image))
        hint = ", as stored: EXIF turns nothing here" if label.shape == image.shape[1::-1] else ""
        raise Unusable("{}: label of {} pixels for an image of {}".format(where, *sizes) + hint)
    counts = sheet.counts(label)
    unknown = np.flatnonzero(counts[len(task.classes):VOID]) + len(task.classes)
    if len(unknown):
        values = f"{unknown[:VALUES].tolist()}" + (f" and {len(unknown) - VALUES} more" if len(unknown) > VALUES else "")
        raise Unusable(f"{where}: label values {values} are no class (0 to {len(task.classes) - 1}, 255 void)")
    return Example(item.id, image, label, void_distance(label) if task.distances else None), counts


def _reason(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else " ".join(str(error).split()) or type(error).__name__
