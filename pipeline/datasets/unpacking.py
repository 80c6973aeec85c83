"""Unpack tar, tgz and zip archives that nobody has vouched for: files and folders only, nothing outside the target folder.

All of an archive is unpacked beside the target and moved in at the end; a broken or hostile one leaves nothing behind.
"""
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from pipeline import files, progress
from pipeline.study import StudyError

CHUNK = 1 << 20
DEEPEST = 64  # folders within each other
LONGEST = 1 << 16  # bytes of a tar's header, which tarfile takes into memory whole
HEADERS = tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK


def unpack(path: Path, folder: Path) -> None:
    """Unpack archive `path` into `folder`, merging with what is there. Raises StudyError, with `folder` unchanged, where the
    disk is full or refuses, or the archive is damaged, cut short, larger than the disk, or has an entry that is there twice, is
    a link, a device, absolute, or leads out of the folder by `..`. For one process at a time in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".unpacking-*"):  # by one that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder, ignore_cleanup_errors=True) as place:
        try:
            with path.open("rb") as file:  # zipfile looks at the end, where a tar may have a zip as its last file
                zipped = file.read(4) in (b"PK\3\4", b"PK\5\6")  # a file's header, or the end
            (_unzip if zipped else _untar)(path, Path(place))
        except StudyError:
            raise
        except Exception as error:  # damaged bytes raise whatever tarfile, zipfile and zlib stumble over
            if getattr(error, "errno", None) in files.REFUSED:
                raise StudyError(f"{path} cannot be unpacked into {folder}: {error.strerror}. Mend that and run the same command "
                                 "again") from error
            what = f"{path} cannot be unpacked ({type(error).__name__}: {' '.join(str(error).split())})"
            raise StudyError(f"{what}: delete it and run the same command again") from error
        _merge(Path(place), folder)


def inside(place: Path, name: str, archive: Path) -> Path:
    """The path of entry `name` under `place`. Raises StudyError where it would leave it."""
    pure = PurePosixPath(name)
    odd = not name or "\0" in name or "\\" in name or (pure.parts and ":" in pure.parts[0])
    if len(pure.parts) > DEEPEST:
        raise StudyError(f"{archive} has an entry {len(pure.parts)} folders deep: do not trust it")
    if odd or pure.is_absolute() or ".." in pure.parts:
        raise StudyError(f"{archive} has the entry {name!r}, which leads out of the folder it is unpacked into: do not trust it")
    return place.joinpath(*pure.parts)


class _Member(tarfile.TarInfo):
    """An entry whose headers fit into memory."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        member = super().frombuf(buf, encoding, errors)
        if member.type in HEADERS and member.size > LONGEST:
            raise tarfile.TarError(f"a header of {member.size:,} bytes")
        return member


def is_tar(path: Path) -> bool:
    """Whether the file at `path` begins as a tar does, compressed or not."""
    try:
        with tarfile.open(path, tarinfo=_Member):
            return True
    except Exception:  # as in unpack()
        return False


def _untar(path: Path, place: Path) -> None:
    with tarfile.open(path, "r:*", tarinfo=_Member) as archive, progress.bar(f"unpack {path.name}", None, "file") as bar:
        for member in archive:
            target = inside(place, member.name, path)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg() and not member.issparse():
                _write(archive.extractfile(member), target, member.size, path)
            else:
                raise StudyError(f"{path} has the entry {member.name!r}, which is a link, a device or sparse: do not trust it")
            bar.update()
        # tarfile takes a damaged header for the end: make sure that this is the end, and read on so that gzip checks its sum.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the archive is damaged or cut short")
        while archive.fileobj.read(CHUNK):
            pass


def _unzip(path: Path, place: Path) -> None:
    with zipfile.ZipFile(path) as archive, progress.bar(f"unpack {path.name}", len(archive.infolist()), "file") as bar:
        for member in archive.infolist():
            target = inside(place, member.orig_filename, path)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise StudyError(f"{path} has the entry {member.filename!r}, which is a link or a device: do not trust it")
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                with archive.open(member) as source:
                    _write(source, target, member.file_size, path)
            bar.update()


def _write(source, target: Path, size: int, archive: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if size > (free := shutil.disk_usage(target.parent).free):
        raise StudyError(f"{archive} says that {target.name} has {size:,} bytes, there are {free:,} on the disk: make room, if "
                         "you trust it, and run the same command again")
    if target.exists():
        raise StudyError(f"{archive} has the entry {target.name!r} twice: do not trust it")
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
        if file.tell() != size:
            raise StudyError(f"{archive} is damaged: {target.name} has {file.tell()} bytes, not {size}")


def _merge(place: Path, folder: Path) -> None:
    """Move everything under `place` into `folder`; what has the same name is replaced."""
    found = [(Path(here), folder / os.path.relpath(here, place), names) for here, _, names in os.walk(place)]
    for _, there, names in found:
        if there.is_symlink() or (there.exists() and not there.is_dir()):
            raise StudyError(f"{there} is in the way of a folder: move it away")
        if taken := [name for name in names if (there / name).is_dir()]:
            raise StudyError(f"{there / taken[0]} is a folder in the way of a file: move it away")
    for here, there, names in found:
        there.mkdir(exist_ok=True)
        for name in names:
            os.replace(here / name, there / name)
