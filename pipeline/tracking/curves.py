"""A training's curves under the names that MLflow shows them by."""
import functools
from pathlib import Path

from pipeline import records

POINTS = 200  # a curve is thinned to this many points for MLflow; history.parquet keeps them all
SYSTEM = {"images_per_second": ("system/images_per_second", 1), "gpu_memory_gb": ("system/gpu_0_memory_usage_megabytes", 1000),
          "gpu_utilisation": ("system/gpu_0_utilization_percentage", 1)}  # history's name: MLflow's own name, factor


def of(folder: Path) -> dict[str, list[tuple[int, float, int]]]:
    """The training's curves, [(step, value, ms)] by MLflow's name, thinned. {} where it left none."""
    path = folder / records.HISTORY
    return dict(_read(path.absolute(), path.stat().st_mtime_ns)) if path.exists() else {}


@functools.lru_cache(maxsize=128)  # a training is in "Trainings" and in several tables
def _read(path: Path, changed: int) -> dict[str, list]:
    curves = {}
    for metric, points in records.history(path.parent).items():
        name, factor = named(metric)
        curves[name] = [(step, value * factor, timestamp) for step, value, timestamp in records.thinned(points, POINTS)]
    return curves


def named(metric: str) -> tuple[str, float]:
    """MLflow's name for a metric of a history, and what to multiply it by. `system/` has a page of its own in a run."""
    return SYSTEM.get(metric, (f"curve/{metric}", 1))
