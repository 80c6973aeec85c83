"""What a stage leaves besides its result: `record.json` (settings, provenance, final metrics) and `history.parquet` (curves).

Plain files that DVC versions; MLflow is a view of them, made later. Stages that train never import it.
"""
import contextlib
import hashlib
import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from pipeline.files import atomic, read_json, whole, write_file

RECORD, HISTORY = "record.json", "history.parquet"
WEIGHTS, MODEL = "weights.safetensors", "model.safetensors"  # a backbone's, a whole network's
CPUINFO = Path("/proc/cpuinfo")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "simplejpeg", "pyarrow")  # whose versions may move a number


def write(folder: Path, *, status: str, reason: str | None = None, params: dict | None = None,
          metrics: dict[str, float] | None = None, provenance: dict | None = None) -> None:
    """Write `folder/record.json`. `status`: "done" or "skipped". `reason`, a sentence: why it was skipped or what it left out."""
    record = {"status": status, "reason": reason, "params": params or {}, "metrics": metrics or {},
              "provenance": provenance or {}}
    write_file(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def read(folder: Path) -> dict | None:
    """The record in `folder`, or None where the stage has not run. StudyError where it is damaged."""
    path = folder / RECORD
    return read_json(path, status=str, params=dict, metrics=dict, provenance=dict) if path.exists() else None


def done(folder: Path) -> dict | None:
    """As `read`; None, too, where the stage was skipped."""
    record = read(folder)
    return record if record and record["status"] == "done" else None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # a Mac has no affinity


def processor() -> str | None:
    """The processor's model name, family and number: results differ between processors that virtual machines all call "AMD EPYC".
    None where the system does not tell it."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}  # of the first
    name, numbers = known.get("model name"), [known.get(key, "unknown") for key in ("cpu family", "model")]
    return name and f"{name} (family {numbers[0]}, model {numbers[1]})"


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


def thinned(points: list, most: int) -> list:
    """`points`, or `most` (two or more) of them as evenly as they come, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def history(folder: Path) -> dict[str, list[tuple[int, float, int]]]:
    """The curves that `History` left in `folder`: metric -> [(step, value, ms)]. {} where it left none; StudyError if damaged."""
    import pyarrow.parquet as pq
    curves, path = {}, folder / HISTORY
    if path.exists():
        with whole(path):
            columns = pq.ParquetFile(path).read(["step", "metric", "value", "timestamp"]).to_pydict()
        for step, metric, value, timestamp in zip(*columns.values()):
            curves.setdefault(metric, []).append((step, value, timestamp))
    return curves


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
