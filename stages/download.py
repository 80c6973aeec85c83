"""Put a data set's files on disk in their native layout, or note where they lie."""
import json
import os
import shutil
from pathlib import Path
from typing import Annotated, get_args

import typer

from pipeline import files, records, schema, study as studies
from pipeline.datasets import archives, native, pool
from pipeline.study import StudyError
from stages import console

OWN = "source.json", records.RECORD, ".unpacked"  # what this stage and its archives leave beside a data set


def main(dataset: Annotated[str, typer.Argument(help=", ".join(get_args(schema.DatasetName)))]) -> None:
    """Get DATASET as params.yaml says: generate it, use a folder, or fetch its archives.

    Writes artifacts/SCALE/data/DATASET with source.json: where the data set lies, how many files, how many bytes.
    A data set that the scale does not have is skipped, and source.json says why.

    Examples:

      python -m stages.download voc

      python -m stages.download cityscapes
    """
    study = studies.load()
    console.pick("data set", dataset, dict.fromkeys(get_args(schema.DatasetName)))
    out = study.artifacts("data", dataset)
    if out.is_symlink():
        raise StudyError(f"{out} is a link, and what is there is replaced: remove the link. A data set that lies elsewhere is "
                         "named as source: {folder: ...} in params.yaml")
    with archives.alone(out):
        _get(study, dataset, out)


def _get(study: studies.Study, dataset: schema.DatasetName, out: Path) -> None:
    """Fill `out`, or say in it why not."""
    data = study.dataset(dataset)
    source = data and data.source
    if out.exists() and not (source and source.archives):  # what archives left is gone on with
        shutil.rmtree(out)
    if source is None:
        reason = study.no_data(dataset)
        _note(out, {"status": "skipped", "reason": reason})
        return console.skip(out, reason)
    root = _place(dataset, source, out)
    count, size, digest = listing(root, changing=source.folder is not None)
    if not count:
        raise StudyError(f"{root} is empty: scales.{study.scale}.{dataset}.source names it")
    _note(out, {"status": "done", "reason": None, "root": str(root), "files": count, "bytes": size, "digest": digest})
    print(f"download {dataset}: {count} files, {size / 1e6:.1f} MB in {root}")


def _place(dataset: schema.DatasetName, source: schema.Source, out: Path) -> Path:
    """Make the native layout and return its folder."""
    if source.generate:
        from pipeline.datasets import miniature
        miniature.generate(dataset, source.generate, out, pool.workers())
        return out
    if source.folder:
        root = Path(os.path.expanduser(source.folder))  # Path.expanduser knows all users or fails
        if not root.is_dir():
            raise StudyError(f"the folder {root} does not exist: it is named as the source of {dataset} in params.yaml")
        return root
    archives.fetch_all(source.archives, out, studies.ARTIFACTS / "archives")  # outside what is deleted when the stage runs again
    return out


def listing(root: Path, changing: bool = False) -> tuple[int, int, str]:
    """Number of files under `root`, their bytes, and a hex digest of the sorted list of (path, size), and, where they are
    somebody's own and may be `changing`, of the time of each one's last change; else without what stages left there."""
    def row(path):
        stat = os.stat(path) if os.path.exists(path) else os.lstat(path)  # a link to nothing
        own = os.path.relpath(path, root), stat.st_size
        return (*own, stat.st_mtime_ns) if changing else own
    rows = sorted(row(path) for path in native.files(root))
    rows = [found for found in rows if changing or found[0].split(os.sep)[0] not in OWN]
    return len(rows), sum(size for _, size, *_ in rows), files.digest(rows)


def _note(out: Path, note: dict) -> None:
    (out / records.RECORD).unlink(missing_ok=True)  # of an earlier skip, or of an archive
    files.write_file(out / "source.json", json.dumps(note, indent=2) + "\n")


if __name__ == "__main__":
    console.run(main)
