"""Curves of trainings that run now. The training loop appends them to a file beside its checkpoint (`Checkpoint.show`); here they
are read and drawn in MLflow's experiment "Trainings", until the training is done and `mirror` puts the whole run in their place.
"""
import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline import records
from pipeline.paper.rows import TRAININGS
from pipeline.schema import Training
from pipeline.study import Study
from pipeline.tracking import curves, local, store

SILENT = 1800  # seconds without a new point after which a training counts as stopped


def path(study: Study, name: str) -> Path:
    """Where the training of run or backbone `name` writes its curves while it lasts: lines of [step, metric, value, ms]."""
    return study.artifacts("checkpoints") / f"{name}.jsonl"


def settings(study: Study, name: str) -> Training | None:
    """What run or backbone `name` trains with, None where this scale has no such settings."""
    return study.training(name) if name in study.runs else study.settings.imagenet and study.settings.imagenet.train


def follows(study: Study, name: str) -> bool:
    """Whether run or backbone `name` is drawn: it left curves, trains at this scale, and has no newer result (perhaps of DVC)."""
    drawn = path(study, name)
    record = study.artifacts("runs" if name in study.runs else "weights", name) / records.RECORD
    if not drawn.exists() or settings(study, name) is None:
        return False
    return not record.exists() or record.lstat().st_ctime < drawn.stat().st_mtime  # a link into DVC's cache has its old mtime


@dataclass
class Drawn:
    """One training in MLflow: its run, what of its file is drawn there, and the status MLflow shows."""
    run: str
    content: bytes
    status: str = "RUNNING"


class Follower:
    """Draws what is new at each `look`."""

    def __init__(self):
        self.drawn: dict[str, Drawn] = {}

    def look(self, study: Study) -> int:
        """Bring MLflow up to date with the trainings that run; return how many points were new. Imports mlflow only where there
        are any. Raises StudyError where the store cannot be used."""
        names = {name: path(study, name) for name in (*study.backbones, *study.runs) if follows(study, name)}
        self.drawn = {name: drawn for name, drawn in self.drawn.items() if name in names}
        if not names:
            return 0
        with local.alone(), store.explained():
            client = store.connect()
            return sum(self._draw(client, study, name, file) for name, file in names.items())

    def _draw(self, client, study: Study, name: str, file: Path) -> int:
        try:
            content = file.read_bytes()
            silent = time.time() - file.stat().st_mtime > SILENT
        except FileNotFoundError:  # it ended just now
            return 0
        content = content[:content.rfind(b"\n") + 1]  # the last line may still be written
        drawn = self.drawn.get(name)
        known = (drawn is not None and content.startswith(drawn.content)
                 and client.get_run(drawn.run).info.lifecycle_stage == "active")  # `mirror` deletes it when the training is done
        points = _points(content[len(drawn.content):] if known else content)
        if not known:
            if not points:
                return 0
            drawn = self.drawn[name] = Drawn(_begin(client, study, name, points[0][3]), b"")
        store.enter(client, drawn.run, {}, [(name, value * factor, timestamp, step) for step, metric, value, timestamp in points
                                            for name, factor in [curves.named(metric)]])
        drawn.content = content
        status = "KILLED" if silent and not points else "RUNNING"
        if status != drawn.status:
            client.update_run(drawn.run, status)
            drawn.status = status
        return len(points)


def _points(content: bytes) -> list[list]:
    """The points of a file, or a part of it, in its order: [step, metric, value, ms]."""
    points = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError):  # cut short by a full disk
            points.append(json.loads(line))
    return points


def _begin(client, study: Study, name: str, started: int) -> str:
    """A new run for a training, in place of one of ours that was not finished (the page was closed, the training began again)."""
    there = store.existing(client, study, TRAININGS).get(name, [])
    store.delete(client, [run for run in there if not store.complete(run)
                          and run.data.tags.get(store.WRITER) == store.writer()])
    own, kind = study.runs.get(name), "train" if name in study.runs else "pretrain"
    dataset = own.dataset if own else "imagenet"
    training = settings(study, name)
    tags = {"run": name, "kind": kind, "dataset": dataset, "backbone": own.backbone if own else name, "place": "000",
            "mlflow.source.name": f"dvc repro {kind}@{name}", "mlflow.source.type": "PROJECT",
            "mlflow.note.content": f"Training `{name}` at scale {study.scale}, {training.steps} steps: it runs, or was stopped; "
            f"then the same command goes on: `dvc repro {kind}@{name}`."}
    params = {f"run.{key}": str(value) for key, value in (own.model_dump(mode="json") if own else {}).items()}
    params |= {f"training.{key}": str(value) for key, value in training.model_dump(mode="json").items()}
    run = store.begin(client, study, TRAININGS, name, name, started, tags)
    store.enter(client, run, params, [])
    return run
