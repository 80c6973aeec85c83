"""Stage download: put a data set's files on disk in their native layout, or note where they lie."""
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args

import typer

from pipeline import records, schema, study
from pipeline.datasets import native
from stages import console


def download(dataset: Annotated[str, typer.Argument(help="voc, coco, cityscapes or imagenet")]) -> None:
    """Get DATASET as params.yaml says: generate it, use a folder, or fetch its archives.

    Writes artifacts/SCALE/data/DATASET with source.json: where the data set lies, how many files, how many bytes.
    A data set that the scale does not have is skipped, and source.json says why.

    Examples:

      python -m stages.download voc

      python -m stages.download cityscapes
    """
    settings = study.load()
    console.pick("data set", dataset, dict.fromkeys(get_args(schema.DatasetName)))
    wanted, out = settings.dataset(dataset), settings.artifacts("data", dataset)
    if out.exists() and not (wanted and wanted.source and wanted.source.archives):  # what archives left is gone on with
        shutil.rmtree(out)
    if wanted is None or wanted.source is None:
        reason = f"no {dataset} data at scale {settings.scale}: name them in scales.{settings.scale}.{dataset}.source"
        _note(out, {"status": "skipped", "reason": reason})
        console.skip(out, reason)
        return
    root = _place(dataset, wanted.source, out)
    files, size, digest = listing(root, changing=wanted.source.folder is not None)
    if not files:
        raise study.StudyError(f"{root} is empty: scales.{settings.scale}.{dataset}.source names it")
    _note(out, {"status": "done", "reason": None, "root": str(root), "files": files, "bytes": size, "digest": digest})
    print(f"download {dataset}: {files} files, {size / 1e6:.1f} MB in {root}")


def _place(dataset: schema.DatasetName, source: schema.Source, out: Path) -> Path:
    """Make the native layout and return its folder."""
    if source.generate:
        from pipeline.datasets import miniature
        miniature.generate(dataset, source.generate, out, native.workers())
        return out
    if source.folder:
        root = Path(source.folder).expanduser()
        if not root.is_dir():
            raise study.StudyError(f"the folder {root} does not exist: it is named as the source of {dataset} in params.yaml")
        return root
    from pipeline.datasets import archives
    archives.fetch_all(source.archives, out, study.ARTIFACTS / "archives")  # outside what is deleted when the stage runs again
    return out


def listing(root: Path, changing: bool = False) -> tuple[int, int, str]:
    """Number of files under `root`, their bytes, and a hex digest of the sorted list of (path, size), and, where they are
    somebody's own and may be `changing`, of the time of each one's last change."""
    def row(path):
        stat = os.stat(path) if os.path.exists(path) else os.lstat(path)  # a link to nothing
        return (os.path.relpath(path, root), stat.st_size) + (stat.st_mtime_ns,) * changing
    rows = sorted(row(path) for path in paths(root))
    return len(rows), sum(size for _, size, *_ in rows), hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def paths(root: Path) -> Iterator[str]:
    """The paths of all files, also of those in folders that links lead to; each folder once."""
    seen = {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, followlinks=True):
        places = {name: os.path.realpath(os.path.join(folder, name)) for name in sorted(folders)}
        folders[:] = [name for name, place in places.items() if place not in seen and not seen.add(place)]
        yield from (os.path.join(folder, name) for name in names)


def _note(out: Path, note: dict) -> None:
    (out / records.RECORD).unlink(missing_ok=True)  # of an earlier skip, or of an archive
    with records.atomic(out / "source.json") as partial:
        partial.write_text(json.dumps(note, indent=2) + "\n")


if __name__ == "__main__":
    console.run(download)
