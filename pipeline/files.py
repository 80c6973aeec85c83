"""Files that stages leave: written whole or not at all, read with a word where they are damaged, told apart by their digests."""
import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

from pipeline.study import StudyError

PARTIAL = re.compile(r".*\.(\d{1,9})\.part", re.DOTALL)  # what `atomic` yields, by the process that writes it
UMASK = os.umask(0)
os.umask(UMASK)
FULL = errno.ENOSPC, errno.EDQUOT  # no bytes or files are left on a disk, or to its user
REFUSED = *FULL, errno.EROFS, errno.EACCES, errno.EPERM  # why nothing can be written, whatever it is


@contextlib.contextmanager
def atomic(path: Path, durable: bool = True):
    """Yield a temporary path beside `path`; it takes the final name only when the block ends without an error.

    durable: its content is on the disk by then, so that a power cut leaves no empty file under that name; some milliseconds. Its
    mode is that of the file it replaces, or what the umask leaves. The OSError of a full disk names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _left(path.parent.absolute()):
        if left.name.startswith(f".{path.name}."):
            with contextlib.suppress(OSError):
                left.unlink()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.chmod(path.stat().st_mode & 0o777 | 0o200 if path.exists() else 0o666 & ~UMASK)
        os.replace(partial, path)
    except OSError as error:
        if error.errno in FULL and error.filename is None:  # write() names none
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@functools.cache  # a folder is looked through once, however many files a process writes there
def _left(folder: Path) -> list[Path]:
    """What `atomic` left in `folder` where its process was killed: none of that number runs here, and as another machine that
    shares the folder may be writing, nothing was written for a minute."""
    import psutil
    found = []
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another machine has just given it its name
            if (writer := PARTIAL.fullmatch(path.name)) and not psutil.pid_exists(int(writer[1])):
                found += [path] if time.time() - path.lstat().st_mtime > 60 else []
    return found


@contextlib.contextmanager
def alone(lock: Path, waiting: str = ""):
    """One process at a time, by the file `lock`; a killed one holds nothing. waiting: what is said where another is at work."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_file(path: Path, content: bytes | memoryview | str) -> None:
    """Write bytes, or text in UTF-8, to `path`: all of it or nothing, as `atomic` has it."""
    with atomic(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def read_json(path: Path, **kinds: type) -> dict:
    """What a stage left in `path`: an object with these keys, whose values are of these kinds. StudyError as `whole` has it."""
    with whole(path):
        found = json.loads(path.read_text())
        if not (isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items())):
            raise ValueError
        return found


@contextlib.contextmanager
def whole(path: Path, *more: type[Exception]):
    """Around reading `path`, which a stage left: StudyError where it is missing or damaged. more: what else the reader raises
    then."""
    try:
        yield
    except FileNotFoundError:
        raise StudyError(f"{path} is missing: make study, or dvc repro, makes it anew") from None
    except (OSError, ValueError, KeyError, *more) as error:
        if getattr(error, "errno", None):  # it cannot be read now; pyarrow's errors have no number
            raise
        why = type(error).__name__
        raise StudyError(f"{path} is damaged ({why}): delete it; make study, or dvc repro, makes it anew") from error


def digest(*parts) -> str:
    """SHA-256 of what a result is made of: settings that JSON can hold, files (what is in them), folders (the code in them)."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in sorted(part.glob("*.py")) if part.is_dir() else [part]:
                with whole(path), path.open("rb") as file:
                    sha.update(hashlib.file_digest(file, "sha256").digest())
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()
