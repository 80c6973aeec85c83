"""Archives of data sets: fetched from the first mirror that works, verified before anything is unpacked, unpacked safely.

A download lies under `.NAME.part` until its size and MD5 are right, and goes on from there after a break, on any mirror.
`.NAME.from` says which bytes came from where; `.NAME.lock` lets one process at a time fetch NAME, or fill the folder NAME.
"""
import hashlib
import os
import shutil
import sys
from pathlib import Path

from pipeline import files
from pipeline.datasets import mirrors
from pipeline.datasets.mirrors import MirrorError, shown
from pipeline.datasets.unpacking import unpack
from pipeline.schema import Archive
from pipeline.study import StudyError


class Unavailable(StudyError):
    """No mirror has the archive."""


def fetch_all(archives: tuple[Archive, ...], out: Path, cache: Path) -> None:
    """Fetch all archives, kept in `cache`, then unpack into `out` those that are not there yet; other files there are removed. An
    optional one that no mirror has is left out, aloud. For one process at a time (`alone`)."""
    stamps = Path(out) / ".unpacked"
    contents = {each.name: f"{each.name} {each.size} {each.md5 or ' '.join(_origins(each))}\n" for each in archives}
    other = not stamps.is_dir() or any(contents.get(stamp.name) != stamp.read_text() for stamp in stamps.glob("*"))
    if Path(out).exists() and other:
        shutil.rmtree(out)
    paths = {}
    for archive in archives:
        if (stamps / archive.name).exists():
            continue
        try:
            paths[archive.name] = fetch(archive, cache)
        except Unavailable as error:
            if not archive.optional:
                raise
            print(f"goes on without it: {error}, then: dvc repro --force download@{Path(out).name}", file=sys.stderr)
    for name, path in paths.items():
        unpack(path, Path(out))
        stamps.mkdir(exist_ok=True)
        (stamps / name).write_text(contents[name])


def at(address: str) -> Archive:
    """The archive that an address alone names, by the end of its path."""
    return Archive(name=Path(mirrors.shown(address)).name, mirrors=(address,))


def fetch(archive: Archive, folder: Path) -> Path:
    """A file with the content of `archive`, its size and MD5 verified where they are known: FOLDER/NAME, or a mirror that is a
    file on this machine (file:///path or a plain path), used where it lies. Raises Unavailable, which names every mirror tried,
    and StudyError where this machine is at fault.

    Without an MD5, a FOLDER/NAME that was fetched from elsewhere is another archive: this one gets a folder of its own in FOLDER.
    """
    target = Path(folder) / archive.name
    if target.name != archive.name or archive.name.startswith("."):
        raise StudyError(f"the archive name {archive.name!r} is no plain file name")
    if not target.exists():
        with alone(target):
            if not target.exists():  # else another process has just fetched it
                return _fetched(archive, target)
    if archive.md5 is None and _origin(target) not in (None, *_origins(archive)):
        return fetch(archive, target.parent / _digest(" ".join(_origins(archive))))
    if problem := _wrong(target, archive):
        raise StudyError(f"{target} {problem}: delete it and run the same command again")
    return target


def alone(target: Path):
    """One process at a time at `target`, a file or folder."""
    waiting = f"another process is at work on {target.name}; waiting for it to end"
    return files.alone(target.with_name(f".{target.name}.lock"), waiting)


def _fetched(archive: Archive, target: Path) -> Path:
    """The verified archive from the first mirror that works."""
    failures = []
    for mirror in archive.mirrors:
        try:
            return _from(mirror, archive, target)
        except MirrorError as error:
            failures.append(f"  {shown(mirror)}: {error}")
    again = "" if archive.optional else " and run the same command again"  # which then has nothing to do: see fetch_all
    raise Unavailable(f"{archive.name} could not be had from any of its {len(archive.mirrors)} mirrors:\n" + "\n".join(failures)
                      + f"\nGet it some other way, put it at {target}{again}")


def _from(mirror: str, archive: Archive, target: Path) -> Path:
    """The verified archive from one mirror."""
    if local := mirrors.local(mirror):
        if not local.is_file():
            raise MirrorError("there is no such file")
        if problem := _wrong(local, archive):
            raise MirrorError(problem)
        return local
    if (scheme := mirrors.parsed(mirror).scheme) not in ("http", "https"):
        raise MirrorError(f"cannot fetch by {scheme}, only http, https, file")
    url = mirrors.filled(mirror)
    if archive.md5 is None and url.startswith(f"{mirrors.CITYSCAPES}/"):
        archive = archive.model_copy(update={"md5": mirrors.published_md5(url)})
    partial = target.with_name(f".{archive.name}.part")
    resumed = partial.exists()
    mirrors.download(url, archive, partial)
    if (problem := _wrong(partial, archive)) and resumed:  # what an earlier run left was perhaps of other bytes
        partial.unlink()
        mirrors.download(url, archive, partial)
        problem = _wrong(partial, archive)
    if problem:
        partial.unlink()
        raise MirrorError(problem)
    _note(target).write_text(f"{(archive.md5 or _md5(partial)).lower()} {_written(mirror)}\n")
    os.replace(partial, target)
    return target


def _wrong(path: Path, archive: Archive) -> str | None:
    """How the file differs from what it should be, or None."""
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        return f"has {size} bytes, not {archive.size}"
    if archive.md5 is not None and (digest := _md5(path)) != archive.md5.lower():
        return f"has MD5 {digest}, not {archive.md5}"
    return None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.from")


def _origin(path: Path) -> str | None:
    """Where these bytes were fetched from; None where someone put them there."""
    if not _note(path).exists():
        return None
    digest, _, origin = _note(path).read_text().strip().partition(" ")
    return origin if digest == _md5(path) else None


def _origins(archive: Archive) -> list[str]:
    return [_written(mirror) for mirror in archive.mirrors]


def _written(mirror: str) -> str:
    """An address as files may have it: without user and password, and of the query, which may be a secret, a digest."""
    query = mirror.partition("?")[2]
    return shown(mirror) + (f"?{_digest(query)}" if query else "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
