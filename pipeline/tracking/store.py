"""Where MLflow keeps its runs, and how an entry gets there. A password or token in MLFLOW_TRACKING_URI is never shown or written.

The local store belongs to this folder (local.py). A server is shared with other folders and people, who may write at the same
time: each writer replaces what it wrote itself and leaves alone what others measured.
"""
import contextlib
import hashlib
import json
import os
import platform
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from pipeline.paper.rows import TITLES
from pipeline.study import Study, StudyError
from pipeline.tracking import local
from pipeline.tracking.experiments import experiment, insist

if TYPE_CHECKING:  # pyarrow and numpy would cost those a second who only ask whether anything changed
    from pipeline.tracking.entries import Content, Entry

DIGEST, ROW, SCALE, WRITER, PARENT = "digest", "row", "scale", "writer", "mlflow.parentRunId"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "WARNING",
         "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
         "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}  # two lines a run, with the address
BATCH, MOST_PARAMS = 1000, 100  # entries, and parameters among them, that MLflow takes at once
COMPLAINERS = ("mlflow", "sqlalchemy", "alembic", "sqlite3", "psycopg2", "pymysql", "requests", "urllib3")
COPIED = 8_000_000  # bytes; a checkpoint up to this size is uploaded to a server. Else MLflow is told where it is, and its hash


class Unusable(StudyError):
    """MLflow's store cannot be used: nothing of the study is at fault."""


def uri() -> str:
    """MLFLOW_TRACKING_URI, else the local store. May hold a password: see `masked`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local.address()


def is_ours() -> bool:
    """Whether the store is the local one in `mlruns`."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def masked(text: str | None = None) -> str:
    """`text`, by default `uri()`, without what may be secret in MLFLOW_TRACKING_URI: the password, over http also a login alone,
    which may be a token, and what is behind ? and #, but for the user's name and values of up to three signs."""
    text, address = uri() if text is None else text, "" if is_ours() else uri()
    logins = re.findall("://[^:/@]*:(.*)@", address) + re.findall("^https?://([^:@]+):?@", address)
    secrets = [part for login in logins for part in (login, *re.split("[/?#@]", login))]  # unescaped, these end it for some
    secrets += [value for key, value in re.findall("[?&#](?:([^=&#]*)=)?([^&#]*)", address)
                if key != "user" and (len(value) > 3 or "pass" in key)]
    for secret in filter(None, secrets):
        for written in (secret, unquote(secret), unquote_plus(secret), quote(secret), quote_plus(secret)):
            text = text.replace(written, "***")
    return text


def connect():
    """An MlflowClient on `uri()`, without telemetry. Importing mlflow takes about 5 s: call late."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    if is_ours():
        local.ensure()
    return MlflowClient(uri())


@contextlib.contextmanager
def explained():
    """What MLflow, its database or the network complains about becomes an Unusable that says what to do, without a password."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in COMPLAINERS and not isinstance(error, ModuleNotFoundError):
            raise
        hint = "check MLFLOW_TRACKING_URI, or unset it: the study then goes on with mlruns here"
        if is_ours():
            full = "is full" in str(error) or "No space left" in str(error)  # so SQLite says it, so the system
            hint = "make room and give the same command again" if full else local.ADVICE
        if isinstance(error, ModuleNotFoundError) and error.name == "psycopg2":
            hint = "PostgreSQL needs a package more: pip install psycopg2-binary"
        said = masked(f"{type(error).__name__}: {error}".partition("\n(Background")[0])
        raise Unusable(f"MLflow's store {masked()} cannot be used ({said}); {hint}") from None  # the cause may show a password


def writer() -> str:
    """Who writes: this folder on this machine, as a digest."""
    return hashlib.sha256(f"{platform.node()}:{local.FOLDER.absolute()}".encode()).hexdigest()[:12]


def existing(client, study: Study, table: str) -> dict[str, list]:
    """Active runs of this scale in an experiment, by key; complete ones first, then by id: all who look choose the same one."""
    known = client.get_experiment_by_name(TITLES[table])
    if known is None:
        return {}
    if known.lifecycle_stage != "active":
        client.restore_experiment(known.experiment_id)
    found, token = {}, None
    while True:
        page = client.search_runs([known.experiment_id], f"tags.{SCALE} = '{study.scale}'", max_results=1000,
                                 page_token=token)
        for run in page:
            if ROW in run.data.tags:
                found.setdefault(run.data.tags[ROW], []).append(run)
        token = page.token
        if not token:
            return {key: sorted(runs, key=lambda run: (not complete(run), run.info.run_id))
                    for key, runs in found.items()}


def begin(client, study: Study, table: str, key: str, name: str, started: int, tags: dict) -> str:
    """A new run with its tags; return its id."""
    experiment_id = experiment(client, table, local.ARTIFACTS if is_ours() else None)
    tags = tags | {SCALE: study.scale, ROW: key, WRITER: writer(), "table": TITLES[table]}
    return client.create_run(experiment_id, start_time=started, tags=tags, run_name=name).info.run_id


def enter(client, run_id: str, params: dict[str, str], points: list[tuple[str, float, int, int]]) -> None:
    """Enter parameters, and metrics as (name, value, timestamp in ms, step), in as few requests as MLflow allows."""
    from mlflow.entities import Metric, Param
    params = [Param(name, value[:6000]) for name, value in params.items()]
    points = [Metric(*point) for point in points]
    while params or points:
        some, params = params[:MOST_PARAMS], params[MOST_PARAMS:]
        room = BATCH - len(some)
        client.log_batch(run_id, params=some, metrics=points[:room])
        points = points[room:]


def log(client, study: Study, entry: "Entry", found: "Content", digest: str, parent: str | None) -> str:
    """Write one entry, nested under the run `parent`; return its id. What was fetched has no times: it is dated now."""
    place = f"{entry.place:03}{'.' if parent else ''}"  # a training stands before its rows
    tags = found.tags | {"place": place, DIGEST: digest} | ({PARENT: parent} if parent else {})
    now = int(1000 * time.time())
    run_id = begin(client, study, entry.table, entry.key, entry.name, found.started or now, tags)
    points = [(name, value, found.ended or now, 0) for name, value in found.metrics.items()]
    points += [(name, value, timestamp, step) for name, curve in found.curves.items() for step, value, timestamp in curve]
    enter(client, run_id, found.params, points)
    if found.datasets:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        used = [DatasetInput(Dataset(**fields), [InputTag("mlflow.data.context", context)])
                for context, fields in found.datasets.items()]
        insist(client.log_inputs, run_id, datasets=used)
    _files(client, run_id, found)
    client.set_terminated(run_id, end_time=found.ended or now)
    return run_id


def complete(run) -> bool:
    """Whether `log` came to its end: a run that was cut off has another status, or was never begun by `log`."""
    return run.info.status == "FINISHED" and DIGEST in run.data.tags


def _files(client, run_id: str, found: "Content") -> None:
    """Pictures; of the checkpoint where it is and its SHA-256, and on a server itself where it is small."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in found.pictures.items():
            path = Path(folder, "pictures", name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        if found.checkpoint:
            path = Path(folder, "checkpoint", "reference.json")
            path.parent.mkdir()
            with found.checkpoint.open("rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
            size = found.checkpoint.stat().st_size
            path.write_text(json.dumps({"path": str(found.checkpoint), "bytes": size, "sha256": sha}, indent=2) + "\n")
            if size <= COPIED and not is_ours():
                os.symlink(found.checkpoint.absolute(), path.with_name(found.checkpoint.name))
        if any(Path(folder).iterdir()):
            client.log_artifacts(run_id, folder)


def delete(client, runs: list) -> int:
    """Delete runs; return how many."""
    for run in runs:
        client.delete_run(run.info.run_id)
    return len(runs)
