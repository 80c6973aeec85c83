"""MLflow as a view: one experiment per table of the paper, one run per row, made from the plain files that the stages left.

Idempotent by a digest tag: a row that did not change is left alone, one that changed is replaced, one that is gone is deleted;
rows of other scales are not touched. Times are the original ones. Training never imports mlflow: DVC's run cache restores results
without running anything, so a stage that logs by itself loses its log, and processes that open a fresh SQLite store at the same
time break it.
"""
import contextlib
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path

from pipeline import paper, records
from pipeline.study import Study, StudyError
from pipeline.tracking.rows import EXPERIMENTS, Row, rows

FOLDER = Path("mlruns")
STORE = FOLDER / "mlflow.db"
SHOWN = FOLDER / "shown"  # the fingerprint of what the local store shows
DIGEST, ROW, SCALE = "digest", "row", "scale"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "WARNING",
         "GIT_PYTHON_REFRESH": "quiet"}
BATCH = 1000  # metrics that MLflow takes at once


def uri() -> str:
    """MLFLOW_TRACKING_URI, else the SQLite store in `mlruns` under the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{STORE.absolute()}"


def is_ours() -> bool:
    """Whether the store is the local one in `mlruns`."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def client():
    """An MlflowClient on `uri()`, without telemetry. Importing mlflow takes about 5 s: call late."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    return MlflowClient(uri())


@contextlib.contextmanager
def alone():
    """One process at a time, so that `compile` and `ui` never log the same row twice."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def current(study: Study) -> bool:
    """Whether the local store is there and shows the files as they are now. Needs no mlflow. A store elsewhere is never known to
    be."""
    return is_ours() and STORE.exists() and SHOWN.exists() and SHOWN.read_text() == fingerprint(study)


def fingerprint(study: Study) -> str:
    """What the mirror depends on, without reading it: sizes and times of the study's records, facts and costs, and the
    settings."""
    sha = hashlib.sha256(study.model_dump_json().encode())
    names = [(kind, name) for kind, group in (("weights", study.backbones), ("runs", study.runs), ("facts", study.evaluate))
             for name in group]
    for folder in [study.artifacts(kind, name) for kind, name in names] + [study.artifacts("costs")]:
        for name in (records.RECORD, records.HISTORY, "facts.parquet", "labels.parquet", "costs.parquet"):
            with contextlib.suppress(FileNotFoundError):
                found = (folder / name).stat()
                sha.update(f"{folder / name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return sha.hexdigest()


def mirror(study: Study) -> int:
    """Make MLflow show what the study has measured; return how many runs were written, replaced or deleted.

    Raises StudyError where the store cannot be opened.
    """
    from tqdm import tqdm

    from pipeline.tracking.measure import measure  # not above: pyarrow, numpy and mlflow would cost `current` a second
    with alone():
        before = fingerprint(study)
        try:
            store = client()
            existing = {name: _existing(store, study, title) for name, title in EXPERIMENTS.items()}
        except Exception as error:
            hint = f"it is only a view: delete {FOLDER} and run this again" if is_ours() else "check MLFLOW_TRACKING_URI"
            raise StudyError(f"MLflow's store {uri()} cannot be opened ({error}); {hint}") from error
        changes, everything = 0, [row for table in rows(study).values() for row in table if row.run]
        for row in tqdm(everything, desc="MLflow", unit="row", dynamic_ncols=True, mininterval=1):
            found = measure(study, row)
            kept = existing[row.table].pop(row.key, [])
            if found is not None and kept and kept[0].data.tags.get(DIGEST) == found.digest:
                kept = kept[1:]
            elif found is not None:
                _log(store, study, row, found)
                changes += 1
            changes += _delete(store, kept)
        changes += sum(_delete(store, kept) for table in existing.values() for kept in table.values())
        if is_ours():
            with records.atomic(SHOWN) as partial:
                partial.write_text(before)
        return changes


def read_back(study: Study) -> dict[tuple[str, str], dict]:
    """What MLflow has for this scale, by (table, row key): {"metrics": name -> value, "curves": name -> {width: value}}.

    Curves are only those of Figure 5: a search gives the last value of a metric, a curve is one more request.
    """
    store, found = client(), {}
    for name, title in EXPERIMENTS.items():
        for key, runs in _existing(store, study, title).items():
            run = runs[0]
            wanted = [curve for curve in run.data.metrics if curve.startswith("trimap_")] if name == "figure5" else []
            curves = {curve: {point.step: point.value for point in store.get_metric_history(run.info.run_id, curve)}
                      for curve in wanted}
            found[name, key] = {"metrics": dict(run.data.metrics), "curves": curves}
    return found


def _existing(store, study: Study, title: str) -> dict[str, list]:
    """MLflow's active runs of this scale in one experiment, by row key; complete ones first, so a log that was cut off loses."""
    experiment = store.get_experiment_by_name(title)
    if experiment is None:
        return {}
    if experiment.lifecycle_stage != "active":
        store.restore_experiment(experiment.experiment_id)
    found, token = {}, None
    while True:
        page = store.search_runs([experiment.experiment_id], f"tags.{SCALE} = '{study.scale}'", max_results=1000,
                                 page_token=token)
        for run in page:
            if ROW in run.data.tags:
                found.setdefault(run.data.tags[ROW], []).append(run)
        token = page.token
        if not token:
            return {key: sorted(runs, key=lambda run: DIGEST not in run.data.tags) for key, runs in found.items()}


def _log(store, study: Study, row: Row, found) -> None:
    """Write one row's Measurement. The digest comes last: a run without it was cut off and is replaced."""
    from mlflow.entities import Metric, Param, RunTag
    number = _experiment(store, row)
    stage = "pretrain" if row.table == "table4" else "evaluate"
    tags = found.tags | {SCALE: study.scale, ROW: row.key, "run": row.run, "strategy": row.strategy or "", "status": found.status,
                         "table": EXPERIMENTS[row.table], "mlflow.source.name": f"dvc repro {stage}@{row.run}",
                         "mlflow.source.git.commit": found.tags.get("provenance.commit", "")}
    number = store.create_run(number, start_time=found.started, tags=tags, run_name=row.name).info.run_id
    published = {f"{name}_paper": row.published[name] for name in ("miou", "madds", "top1_error", "top5_error")
                 if isinstance(row.published.get(name), int | float)}
    points = [Metric(name, value, found.ended, 0) for name, value in (found.metrics | published).items()]
    points += [Metric(name, value, timestamp, step) for name, curve in found.curves.items() for step, value, timestamp in curve]
    for start in range(0, len(points), BATCH):
        store.log_batch(number, metrics=points[start:start + BATCH])
    store.log_batch(number, params=[Param(name, value[:6000]) for name, value in found.params.items()])
    if found.pictures:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in found.pictures.items():
                Path(folder, name).write_bytes(data)
            store.log_artifacts(number, folder, "pictures")
    store.log_batch(number, tags=[RunTag(DIGEST, found.digest)])
    store.set_terminated(number, end_time=found.ended)


def _experiment(store, row: Row) -> str:
    title = EXPERIMENTS[row.table]
    experiment = store.get_experiment_by_name(title)
    if experiment is not None:
        return experiment.experiment_id
    folder = (FOLDER / "artifacts" / row.table).absolute()
    table = paper.tables().get(row.table)
    note = (f"{table.title}. {table.setting} (section {table.section})" if table
            else "Evaluated runs of params.yaml that are in no table of the paper")
    return store.create_experiment(title, folder.as_uri() if is_ours() else None, {"mlflow.note.content": note})


def _delete(store, runs: list) -> int:
    for run in runs:
        store.delete_run(run.info.run_id)
    return len(runs)
