"""What MLflow is shown of a study: each training once, and for each table of the paper its rows, those of one network nested.

All of it is computed afresh from the files that the stages left, so a store that was deleted comes back the same.
"""
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import files, records
from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.evaluation import measure
from pipeline.paper.rows import TRAININGS, Row, rows
from pipeline.study import Study
from pipeline.tracking import curves, inputs

LONGEST = 200  # bytes of a picture's name; most file systems take 255, and some is put before or behind for a while


@dataclass
class Content:
    """What one MLflow run holds. `curves`: name -> [(step, value, timestamp in ms)]. `pictures`: file name -> palette PNG.
    `checkpoint`: the trained network's file. `datasets`: as `inputs.describe` gives them, by what they were used for."""
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    datasets: dict[str, dict] = field(default_factory=dict)
    checkpoint: Path | None = None
    started: int = 0
    ended: int = 0

    def digest(self, *more: str) -> str:
        """Of everything that is mirrored: equal digests mean that there is nothing to do. Records hold the time of a training,
        so a checkpoint of the same size that was trained again is told apart too."""
        content = [self.params, self.metrics, self.curves, self.tags, self.started, self.ended, self.datasets, more,
                   {name: hashlib.sha256(data).hexdigest() for name, data in self.pictures.items()},
                   self.checkpoint and [str(self.checkpoint), self.checkpoint.stat().st_size]]
        return files.digest(content)


@dataclass(frozen=True)
class Entry:
    """One MLflow run: its experiment (a key of `rows.TITLES`), its key and place there, its name, the key of the run that it
    is nested under, and `content`, which computes what it holds, None where it is not measured."""
    table: str
    key: str
    place: int
    name: str
    parent: str | None
    content: Callable[[], Content | None]


def entries(study: Study) -> Iterator[Entry]:
    """All entries, a parent before its children. Nothing is read before `content` is called."""
    for place, (kind, name) in enumerate(trainings(study)):
        yield Entry(TRAININGS, name, place, name, None, functools.partial(of_training, study, kind, name, checkpoint=True))
    for table, found in rows(study).items():
        groups: dict[str, list[tuple[int, Row]]] = {}
        for place, row in enumerate(found):
            if row.run:
                groups.setdefault(row.run, []).append((place, row))
        for run, group in groups.items():
            parent = run if len(group) > 1 else None
            if parent:  # the training, and nested under it its strategies
                some = any(measure.status(study, row) == "measured" for _, row in group)
                yield Entry(table, run, group[0][0], run, None,
                            functools.partial(of_training, study, "runs", run) if some else lambda: None)
            for place, row in group:
                yield Entry(table, row.key, place, row.name, parent, functools.partial(of_row, study, row, nested=bool(parent)))


def trainings(study: Study) -> list[tuple[str, str]]:
    """(kind, name) of everything that is trained: the backbones ("weights"), then the runs."""
    return [("weights", name) for name in study.backbones] + [("runs", name) for name in study.runs]


def of_training(study: Study, kind: str, name: str, checkpoint: bool = False) -> Content | None:
    """Settings, curves, machine and data of one training; None where it is not done."""
    folder = study.artifacts(kind, name)
    if (record := records.done(folder)) is None:
        return None
    stage = "pretrain" if kind == "weights" else "fetch" if study.runs[name].published else "train"
    provenance = record["provenance"]
    found = Content(params=dict(_flat(record["params"])), curves=curves.of(folder))
    found.started, found.ended = _times(record)
    found.metrics = {f"training/{key}": float(value) for key, value in record["metrics"].items()}
    found.metrics["training/seconds"] = float(provenance.get("seconds") or 0)
    found.tags = _tags(study, name, f"{stage}@{name}", provenance, kind=stage)
    file = folder / (records.WEIGHTS if kind == "weights" else records.MODEL)
    found.checkpoint = file if checkpoint and file.exists() else None
    scores = [f", {value:.2f} % {key} at its last validation" for key, value in record["metrics"].items()
              if key in ("miou", "top1_error")]
    found.tags["mlflow.note.content"] = (f"`{name}` at scale {study.scale}{''.join(scores)}. Again: `dvc repro {stage}@{name}`. "
                                         f"Network: `{file}`.")
    dataset = "imagenet" if kind == "weights" else study.runs[name].dataset
    if split := record["params"].get("training", {}).get("split"):
        found.datasets = inputs.describe(study, dataset, split, "training")
    return found


def of_row(study: Study, row: Row, nested: bool) -> Content | None:
    """One row of a table: its scores and how it was inferred, and the whole training unless that is its parent's."""
    if measure.status(study, row) != "measured":
        return None
    kind = "weights" if row.table == "table4" else "runs"
    found = of_training(study, kind, row.run)
    record = records.read(study.artifacts("facts" if kind == "runs" else kind, row.run))
    if nested:
        only = {key: value for key, value in found.params.items() if key.startswith("run.")}
        found = Content(params=only, started=found.started, ended=found.ended)
        if record["provenance"]:
            found.started, found.ended = _times(record)
    found.tags = _tags(study, row.run, row.stage, record["provenance"], kind="row", strategy=row.strategy or "")
    if nested:
        found.tags["mlflow.runType"] = "evaluation"  # MLflow's pages then open the parent
    for name in ("miou", "madds", "top1_error", "top5_error"):
        if isinstance(row.published.get(name), int | float):
            found.metrics[f"{name}_paper"] = row.published[name]
    if kind == "weights":
        found.metrics |= {name: found.metrics[f"training/{name}"] for name in ("top1_error", "top5_error", "parameters")
                          if f"training/{name}" in found.metrics}
    else:
        _evaluation(study, row, found)
    found.tags["mlflow.note.content"] = _note(study, row, found.metrics)
    return found


def _evaluation(study: Study, row: Row, found: Content) -> None:
    """Add what the run's facts say of the row's strategy."""
    found.params |= {f"strategy.{key}": str(value) for key, value in study.strategies[row.strategy].model_dump().items()}
    found.metrics |= measure.costs(study).get((row.run, row.strategy), {}) | measure.scores(study, row.run, row.strategy)
    for name, values in measure.trimap(study, row.run, row.strategy, intervals=row.table == "figure5").items():
        found.curves[name] = [(width, value, found.ended) for width, value in zip(TRIMAP_WIDTHS, values)]
    found.pictures = _pictures(study, row)
    dataset = study.runs[row.run].dataset
    found.datasets = found.datasets | inputs.describe(study, dataset, study.dataset(dataset).evaluate.split, "evaluation")


def _tags(study: Study, run: str, stage: str, provenance: dict, **more: str) -> dict[str, str]:
    own = study.runs.get(run)
    tags = {f"provenance.{key}": str(value) for key, value in provenance.items() if key not in ("started", "seconds")}
    tags |= {"run": run, "backbone": own.backbone if own else run, "dataset": own.dataset if own else "imagenet", **more}
    return tags | {"mlflow.source.name": f"dvc repro {stage}", "mlflow.source.type": "PROJECT",
                   "mlflow.source.git.commit": tags.get("provenance.commit", "")}


def _note(study: Study, row: Row, found: dict[str, float]) -> str:
    """The run's description, in Markdown."""
    name, unit = ("top1_error", "top-1 error") if row.table == "table4" else ("miou", "mIOU")
    ours = f"{found[name]:.2f} %" if name in found else "no number"
    if "miou_low" in found:
        ours += f" [{found['miou_low']:.2f}, {found['miou_high']:.2f}]"
    paper = f"the paper {found[f'{name}_paper']:.2f} %, " if f"{name}_paper" in found else ""
    return f"{row.name}: {paper}here {ours} {unit}, at scale {study.scale}. Again: `dvc repro {row.stage}`."


def _times(record: dict) -> tuple[int, int]:
    """When the stage started and ended, in ms since the epoch."""
    started = int(1000 * (record["provenance"].get("started") or 0))
    return started, started + int(1000 * (record["provenance"].get("seconds") or 0))


def _pictures(study: Study, row: Row) -> dict[str, bytes]:
    """Predicted label maps of the two best and the two worst images, where the run kept them for this strategy."""
    if not (kept := measure.label_maps(study, row.run, row.strategy)):
        return {}
    ranked = [name for name, _ in measure.ranked(study, row.run, row.strategy)]
    chosen = {name: f"worst-{place}" for place, name in enumerate(ranked[:2], 1)}
    chosen |= {name: f"best-{place}" for place, name in enumerate(ranked[:-3:-1], 1)}
    return {file_name(place, name): kept[name].as_py() for name, place in chosen.items()}


def file_name(words: str, image: str) -> str:
    """Of a picture of the image with this id, such as worst-2-ID.png. A long id is cut; a digest of it then tells it apart."""
    name = f"{words}{'-' if words else ''}{image.replace('/', '_')}.png"
    if len(written := os.fsencode(name)) <= LONGEST:
        return name
    end = f"-{files.digest(image)[:8]}.png"
    return written[:LONGEST - len(end)].decode(errors="ignore") + end  # no sign is cut in two


def _flat(values: dict, prefix: str = ""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
