"""What a stage leaves besides its result: `record.json` (settings, provenance, final metrics) and `history.parquet` (curves).

Plain files that DVC versions; MLflow is a view of them, made later. Stages that train never import it.
"""
import contextlib
import errno
import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from pipeline.study import StudyError

PARTIAL = re.compile(r".*\.(\d{1,9})\.part", re.DOTALL)  # what `atomic` yields, by the process that writes it
UMASK = os.umask(0)
os.umask(UMASK)
FULL = errno.ENOSPC, errno.EDQUOT  # no bytes or files are left on a disk, or to its user
REFUSED = *FULL, errno.EROFS, errno.EACCES, errno.EPERM  # why nothing can be written, whatever it is
RECORD, HISTORY = "record.json", "history.parquet"
WEIGHTS, MODEL = "weights.safetensors", "model.safetensors"  # a backbone's, a whole network's
CPUINFO = Path("/proc/cpuinfo")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "simplejpeg", "pyarrow")  # whose versions may move a number


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


def write_file(path: Path, content: bytes | memoryview | str) -> None:
    """Write bytes, or text in UTF-8, to `path`: all of it or nothing, as `atomic` has it."""
    with atomic(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write(folder: Path, *, status: str, reason: str | None = None, params: dict | None = None,
          metrics: dict[str, float] | None = None, provenance: dict | None = None) -> None:
    """Write `folder/record.json`. `status`: "done" or "skipped". `reason`, a sentence: why it was skipped or what it left out."""
    record = {"status": status, "reason": reason, "params": params or {}, "metrics": metrics or {},
              "provenance": provenance or {}}
    write_file(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def read(folder: Path) -> dict | None:
    """The record in `folder`, or None where the stage has not run. StudyError where it is damaged."""
    return read_json(path) if (path := folder / RECORD).exists() else None


def read_json(path: Path) -> dict:
    """What a stage left in `path`. StudyError as `whole` has it."""
    with whole(path):
        return json.loads(path.read_text())


@contextlib.contextmanager
def whole(path: Path):
    """Around reading `path`, JSON or Parquet that a stage left: StudyError where it is damaged, as by a power cut."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
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
                with path.open("rb") as file:
                    sha.update(hashlib.file_digest(file, "sha256").digest())
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str | None:
    """The processor's model name; None where the system does not tell it."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def provenance(started: float, **more) -> dict:
    """Commit, lock file, packages, machine and wall time of a stage that began at `started` (seconds since the epoch)."""
    def git(*arguments):
        with contextlib.suppress(OSError):  # a machine may have no git
            mine = ["-c", "safe.directory=*"]  # a folder of another user's, as in a container; its code runs as it is
            done = subprocess.run(["git", *mine, *arguments], capture_output=True, text=True, check=False)
            return done.stdout.strip() if done.returncode == 0 else None
    status = git("status", "--porcelain", "--untracked-files=no")
    requirements = Path(__file__).resolve().parents[1] / "requirements.txt"
    return {
        "commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status),
        "requirements": hashlib.sha256(requirements.read_bytes()).hexdigest() if requirements.exists() else None,
        "python": platform.python_version(), **{name: version(name) for name in PACKAGES}, "machine": platform.machine(),
        "processor": processor(), "cpus": cores(),
        "started": started, "seconds": time.time() - started, **more,
    }


class History:
    """Curves of one training, tidy: (step, metric, value, timestamp in milliseconds since the epoch)."""

    def __init__(self):
        self.rows: list[tuple[int, str, float, int]] = []

    def log(self, step: int, **metrics: float) -> None:
        now = int(time.time() * 1000)
        self.rows += [(step, name, float(value), now) for name, value in metrics.items()]

    def save(self, folder: Path) -> None:
        """Write `folder/history.parquet`."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        names = ("step", "metric", "value", "timestamp")
        types = (pa.int64(), pa.string(), pa.float64(), pa.int64())
        columns = zip(*self.rows) if self.rows else ([],) * 4
        table = pa.table([pa.array(column, kind) for column, kind in zip(columns, types)], names=names)
        with atomic(folder / HISTORY) as partial:
            pq.write_table(table, partial)
