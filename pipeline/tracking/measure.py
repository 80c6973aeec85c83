"""What was measured for one row, read from the plain files that the stages left: scores from the facts, curves, settings,
provenance.

This is all that MLflow is shown; it is computed afresh from the files each time, so a store that was deleted comes back the same.
"""
import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline import records
from pipeline.datasets.shards import Shard
from pipeline.evaluation import metrics
from pipeline.study import Study, StudyError
from pipeline.tracking.rows import Row

POINTS = 200  # a curve is thinned to this many points for MLflow; history.parquet keeps them all


@dataclass
class Measurement:
    """One row's numbers. `curves`: name -> [(step, value, timestamp in ms)]. `pictures`: file name -> palette PNG."""
    status: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    started: int = 0
    ended: int = 0

    @property
    def digest(self) -> str:
        """Of everything that is mirrored: equal digests mean that there is nothing to do."""
        content = [self.status, self.params, self.metrics, self.curves, self.tags, self.started, self.ended,
                   {name: hashlib.sha256(data).hexdigest() for name, data in self.pictures.items()}]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def status(study: Study, row: Row) -> str:
    """ "measured", or one sentence why there is no measurement."""
    if "status" in row.published:
        return row.published["status"]
    folder = study.artifacts("weights", row.run) if row.table == "table4" else study.artifacts("facts", row.run)
    stage = ("pretrain@" if row.table == "table4" else "evaluate@") + row.run
    try:
        record = records.read(folder)
    except FileNotFoundError:
        return f"not run: dvc repro {stage} has not been run yet"
    if record["status"] != "done":
        return f"not run: {record['reason']}"
    if row.table == "table4" and "top1_error" not in record["metrics"]:
        return f"not run: {record['reason'] or 'these weights came without an ImageNet validation set to score them on'}"
    return "measured"


def measure(study: Study, row: Row) -> Measurement | None:
    """All that the row's files hold, or None where it is not measured (see `status`)."""
    state = status(study, row)
    if state != "measured":
        return None
    trained = study.artifacts("weights" if row.table == "table4" else "runs", row.run)
    record = records.read(trained)
    provenance = record["provenance"]
    found = Measurement(state, params=dict(_flat(record["params"])), curves=_curves(trained))
    found.started = int(1000 * (provenance.get("started") or 0))
    found.ended = found.started + int(1000 * (provenance.get("seconds") or 0))
    found.tags = {f"provenance.{key}": str(value) for key, value in provenance.items() if key not in ("started", "seconds")}
    found.metrics = {f"training/{name}": float(value) for name, value in record["metrics"].items() if value is not None}
    found.metrics["training/seconds"] = float(provenance.get("seconds") or 0)
    if row.table == "table4":
        found.metrics |= {name: float(record["metrics"][name]) for name in ("top1_error", "top5_error", "parameters")
                          if name in record["metrics"]}
        return found
    found.params |= {f"strategy.{key}": str(value) for key, value in study.strategies[row.strategy].model_dump().items()}
    found.metrics |= costs(study).get((row.run, row.strategy), {}) | scores(study, row.run, row.strategy)
    for name, values in trimap(study, row.run, row.strategy, intervals=row.table == "figure5").items():
        found.curves[name] = [(width, value, found.ended) for width, value in zip(metrics.WIDTHS, values)]
    found.pictures = _pictures(study, row)
    return found


def classes(study: Study, run: str) -> tuple[list[str], list[int] | None]:
    """Names of the classes of the run's data set, and the numbers of those that mIOU is the mean of (None: all)."""
    dataset = study.runs[run].dataset
    settings = study.dataset(dataset).evaluate
    names = Shard(study.artifacts("shards", dataset) / f"{settings.split}.arrow").classes
    missing = [name for name in settings.classes or () if name not in names]
    if missing:
        raise StudyError(f"scales.{study.scale}.{dataset}.evaluate.classes: there is no class {missing[0]!r}; "
                         f"there are {', '.join(names)}")
    return names, [names.index(name) for name in settings.classes] if settings.classes else None


def read_facts(study: Study, run: str) -> metrics.Facts:
    """The run's facts, kept in memory as long as the file is the same."""
    path = study.artifacts("facts", run) / "facts.parquet"
    if not path.exists():
        raise StudyError(f"{path} is missing: dvc repro evaluate@{run}")
    return _facts(path.absolute(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)  # rows of one run come one after another; at scale paper a table of facts has millions of rows
def _facts(path: Path, changed: int) -> metrics.Facts:
    return metrics.Facts.read(path)


_CELLS: dict = {}


def scores(study: Study, run: str, strategy: str) -> dict[str, float]:
    """Scores of one cell in percent: miou with its 95 % interval over images, and the IoU of each class that there is."""
    path = study.artifacts("facts", run) / "facts.parquet"
    cell = (path.absolute(), strategy, path.stat().st_mtime_ns)
    if cell not in _CELLS:  # one cell may be in four tables
        facts, (names, only) = read_facts(study, run), classes(study, run)
        by_image = metrics.parts(metrics.confusion_by_image(facts, strategy, len(names)))
        total = by_image.sum(0)
        low, high = metrics.interval(metrics.bootstrap(by_image, only=only))
        found = {"miou": float(metrics.mean_iou(total, only)), "miou_low": low, "miou_high": high,
                 "images": float(len(facts.images))}
        _CELLS[cell] = found | {f"iou/{name}": float(value) for name, value in zip(names, metrics.iou(total))
                                if not np.isnan(value)}
    return _CELLS[cell]


def trimap(study: Study, run: str, strategy: str, intervals: bool) -> dict[str, list[float]]:
    """The curve of Figure 5a, trimap_miou, at the 14 widths; with `intervals` also trimap_low and trimap_high. Empty where no
    void is near."""
    facts, (names, only) = read_facts(study, run), classes(study, run)
    curve = metrics.trimap_curve(facts, strategy, len(names), only)
    if np.isnan(curve).any():
        return {}
    found = {"trimap_miou": curve.tolist()}
    if intervals:
        bands = [metrics.parts(metrics.confusion_by_image(facts, strategy, len(names), range(width + 1)))
                 for width in range(len(metrics.WIDTHS))]
        intervals = [metrics.interval(metrics.bootstrap(counts, only=only)) for counts in bands]
        found["trimap_low"], found["trimap_high"] = zip(*intervals)
    return {name: list(values) for name, values in found.items()}


def _curves(folder: Path) -> dict[str, list]:
    """The training's curves, thinned."""
    path = folder / records.HISTORY
    if not path.exists():
        return {}
    curves = {}
    for point in pq.ParquetFile(path).read().to_pylist():
        curves.setdefault(f"curve/{point['metric']}", []).append((point["step"], point["value"], point["timestamp"]))
    return {name: points[:: -(-len(points) // POINTS)] for name, points in curves.items()}


def costs(study: Study) -> dict[tuple[str, str], dict[str, float]]:
    """What the cost stage counted, by (run, strategy); empty where it has not run."""
    path = study.artifacts("costs") / "costs.parquet"
    if not path.exists():
        return {}
    return {(row.pop("run"), row.pop("strategy")): {key: float(value) for key, value in row.items() if value is not None}
            for row in pq.ParquetFile(path).read().to_pylist()}


def _pictures(study: Study, row: Row) -> dict[str, bytes]:
    """Predicted label maps of the two best and the two worst images, where the run kept them for this strategy."""
    path = study.artifacts("facts", row.run) / "labels.parquet"
    if not path.exists():
        return {}
    facts = read_facts(study, row.run)
    names, only = classes(study, row.run)
    ranked = [name for name, _ in metrics.by_score(facts, row.strategy, len(names), only)]
    chosen = {name: f"worst-{place}" for place, name in enumerate(ranked[:2], 1)}
    chosen |= {name: f"best-{place}" for place, name in enumerate(ranked[:-3:-1], 1)}
    kept = pq.ParquetFile(path).read()
    cells = zip(kept["strategy"].to_pylist(), kept["image"].to_pylist(), kept["png"])
    return {f"{chosen[image]}-{image.replace('/', '_')}.png": png.as_py() for strategy, image, png in cells
            if strategy == row.strategy and image in chosen}


def _flat(values: dict, prefix: str = ""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
