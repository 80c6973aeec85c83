"""What was measured for one row, computed from the plain files that the stages left: scores, intervals, trimap curves, costs."""
import functools
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import files, records
from pipeline.datasets.shards import Shard, path_of
from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.evaluation import metrics
from pipeline.paper.rows import Row
from pipeline.schema import Strategy
from pipeline.study import Study, StudyError


def status(study: Study, row: Row) -> str:
    """ "measured", or one sentence why there is no measurement."""
    if "status" in row.published:
        return row.published["status"]
    if row.run in study.runs and (reason := study.skipped(row.run)):
        return f"not run: {reason}"
    kinds = ("weights",) if row.table == "table4" else ("runs", "facts")  # facts without their run: it is being trained again
    found = [records.read(study.artifacts(kind, row.run)) for kind in kinds]
    if None in found:
        return f"not run: dvc repro {row.stage} has not been run yet"
    record = next((each for each in found if each["status"] != "done"), found[-1])
    if record["status"] != "done":
        return f"not run: {record['reason']}"
    if kinds[-1] == "facts" and outdated(study, row.run):
        return f"not run: what was evaluated is another training of it: dvc repro {row.stage}"
    if row.table == "table4" and "top1_error" not in record["metrics"]:
        return f"not run: {record['reason'] or 'these weights came without an ImageNet validation set to score them on'}"
    return "measured"


def outdated(study: Study, run: str) -> bool:
    """Whether the facts of `run` are of another training than the one that is there, which may be older: DVC brings results back.
    Both are there; facts that do not say of which they are count."""
    trained, counted = (records.read(study.artifacts(kind, run)) for kind in ("runs", "facts"))
    started = trained["provenance"].get("started")
    return counted["params"].get("trained", started) != started


def _names(study: Study, run: str) -> dict[str, str]:
    """The strategies that the run's facts have -> what they were called then. What a strategy is counts, as it does to DVC: it
    may have a new name in params.yaml since, or two may have swapped theirs."""
    record = records.read(study.artifacts("facts", run)) or {"params": {}}
    before = {Strategy.model_validate(each): name for name, each in record["params"].get("strategies", {}).items()}
    return {name: before[how] for name, how in study.strategies.items() if how in before}


def shard(study: Study, run: str) -> Shard:
    """The images that a run is evaluated on, kept open as long as they are the same. StudyError where they are not there."""
    return _shard(*_images(study, run))


def _images(study: Study, run: str) -> tuple[Path, int]:
    """The first file of `shard`, and when something in its folder was last written."""
    dataset = study.runs[run].dataset
    path = path_of(study, dataset, study.dataset(dataset).evaluate.split).absolute()
    return path, path.parent.stat().st_mtime_ns if path.exists() else 0


def classes(study: Study, run: str) -> tuple[list[str], list[int] | None]:
    """Names of the classes of the run's data set, and the numbers of those that mIOU is the mean of (None: all)."""
    names, _ = _contents(*_images(study, run))
    return names, study.scored(study.runs[run].dataset, names)


def read_facts(study: Study, run: str) -> metrics.Facts:
    """The run's facts, kept in memory as long as the file is the same. StudyError as `_file` has it."""
    facts, now = _facts(*_file(study, run)), {before: name for name, before in _names(study, run).items()}
    return replace(facts, strategies=tuple(now.get(name, "") for name in facts.strategies))


def _file(study: Study, run: str) -> tuple[Path, int]:
    """The file of the run's facts and when it was written. StudyError where it is missing, lacks a strategy, or is of other
    images than the data set has now."""
    path = study.artifacts("facts", run) / "facts.parquet"
    if not path.exists():
        raise StudyError(f"{path} is missing: dvc repro evaluate@{run}")
    if lacks := sorted(set(study.evaluate.get(run, ())) - _names(study, run).keys()):
        raise StudyError(f"{path} knows no strategy {', '.join(lacks)}: dvc repro evaluate@{run}")
    found, (_, there) = (path.absolute(), path.stat().st_mtime_ns), _contents(*_images(study, run))
    if others := _counted(*found) - there:
        raise StudyError(f"{path} is of other images than {study.runs[run].dataset} has now ({min(others)} is one): "
                         f"dvc repro evaluate@{run}")
    return found


def label_maps(study: Study, run: str, strategy: str) -> dict[str, pa.Scalar]:
    """The label maps that the evaluation of `run` kept, by image: palette PNGs, not copied before `.as_py()`, or `decoded`. Empty
    where it kept those of another strategy, or none."""
    path = study.artifacts("facts", run) / "labels.parquet"
    if not path.exists():
        return {}
    with files.whole(path):
        kept = pq.ParquetFile(path)
        if _names(study, run).get(strategy) not in kept.read(["strategy"])["strategy"].unique().to_pylist():
            return {}
        maps = kept.read(["image", "png"])
        return dict(zip(maps["image"].to_pylist(), maps["png"]))


def decoded(png: pa.Scalar) -> np.ndarray:
    """A label map of `label_maps`: uint8 (H, W)."""
    return np.asarray(Image.open(io.BytesIO(png.as_py())))


def ranked(study: Study, run: str, strategy: str) -> list[tuple[str, float]]:
    """The images of a run with their mIOU in percent, worst first."""
    names, only = classes(study, run)
    return metrics.by_score(read_facts(study, run), strategy, len(names), only)


# `changed`, below, is the time of the file, of a shard its folder's: what was written again is read again.
@functools.lru_cache(maxsize=2)  # a tenth of a second at scale paper, where VOC's val has 46 files
def _shard(path: Path, changed: int) -> Shard:
    return Shard(path)


@functools.lru_cache(maxsize=2)  # asked for 400 times
def _contents(path: Path, changed: int) -> tuple[list[str], frozenset[str]]:
    """Classes and images of a shard, which is closed again: `make ui` would keep the disk space of one that is made anew."""
    opened = Shard(path)
    return opened.classes, frozenset(opened.ids)


@functools.lru_cache(maxsize=2)  # rows of one run come one after another; at scale paper a table of facts has millions of rows
def _facts(path: Path, changed: int) -> metrics.Facts:
    return metrics.Facts.read(path)


@functools.lru_cache(maxsize=512)
def _counted(path: Path, changed: int) -> frozenset[str]:
    return frozenset(_facts(path, changed).images)


def scores(study: Study, run: str, strategy: str) -> dict[str, float]:
    """Scores of one cell in percent: miou with its 95 % interval over images, and the IoU of each class; those that there are."""
    return _scores(*_cell(study, run, strategy))


def trimap(study: Study, run: str, strategy: str, intervals: bool) -> dict[str, list[float]]:
    """Figure 5a's curve at the 14 widths: trimap_miou; with `intervals` and two images trimap_low and _high. {} without void."""
    return _trimap(*_cell(study, run, strategy), intervals)


def _cell(study: Study, run: str, strategy: str) -> tuple:
    """What a cell's numbers follow from: its facts, as the file is now, and the classes that mIOU is the mean of."""
    names, only = classes(study, run)
    return *_file(study, run), _names(study, run)[strategy], tuple(names), only and tuple(only)


@functools.lru_cache(maxsize=512)  # one cell may be in four tables
def _scores(path: Path, changed: int, strategy: str, names: tuple[str, ...], only: tuple[int, ...] | None) -> dict[str, float]:
    facts = _facts(path, changed)
    by_image = metrics.tp_fp_fn(metrics.confusion(facts, strategy, len(names), by="image"))
    total = by_image.sum(0)
    low, high = metrics.interval(metrics.bootstrap(by_image, only=only))
    found = {"miou": float(metrics.miou_of_counts(total, only)), "miou_low": low, "miou_high": high,
             "images": float(len(facts.images))}
    found |= {f"iou/{name}": float(value) for name, value in zip(names, metrics.iou_of_counts(total))}
    return {name: value for name, value in found.items() if not np.isnan(value)}


@functools.lru_cache(maxsize=512)
def _trimap(path: Path, changed: int, strategy: str, names: tuple[str, ...], only: tuple[int, ...] | None,
            intervals: bool) -> dict[str, list[float]]:
    facts = _facts(path, changed)
    curve = metrics.miou_within(metrics.confusion(facts, strategy, len(names), by="band"), only)
    if np.isnan(curve).any():
        return {}
    found = {"trimap_miou": curve.tolist()}
    if intervals and len(facts.images) > 1:
        bands = [metrics.tp_fp_fn(metrics.confusion(facts, strategy, len(names), range(width + 1), by="image"))
                 for width in range(len(TRIMAP_WIDTHS))]
        low, high = zip(*(metrics.interval(metrics.bootstrap(counts, only=only)) for counts in bands))
        found |= {"trimap_low": list(low), "trimap_high": list(high)}
    return found


def costs(study: Study) -> dict[tuple[str, str], dict[str, float]]:
    """What the cost stage counted, by (run, strategy); empty where it has not run."""
    path = study.artifacts("costs") / "costs.parquet"
    return _costs(path.absolute(), path.stat().st_mtime_ns) if path.exists() else {}


@functools.lru_cache(maxsize=2)
def _costs(path: Path, changed: int) -> dict[tuple[str, str], dict[str, float]]:
    with files.whole(path):
        return {(row.pop("run"), row.pop("strategy")): {key: float(value) for key, value in row.items() if value is not None}
                for row in pq.ParquetFile(path).read().to_pylist()}
