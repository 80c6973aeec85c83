"""The local store: an SQLite file in `mlruns`, whole or not there; this folder's own, whose processes a lock keeps apart."""
import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from pipeline import files
from pipeline.study import StudyError

FOLDER = Path("mlruns")
STORE = FOLDER / "mlflow.db"
ARTIFACTS = FOLDER / "artifacts"
ADVICE = f"it is only a view: delete {FOLDER} and run this again"


def address(path: Path = STORE) -> str:
    """Of an SQLite store, as MLflow takes it."""
    path = path if "?" in str(path.absolute()) else path.absolute()  # what is behind a ? would be taken for options
    return f"sqlite:///{path}"


def alone():
    """One process of this folder at a time, so that `compile` and `ui` never log the same row twice."""
    return files.alone(FOLDER / ".lock")


def here() -> bool:
    """Whether the store is there and was made where this folder is now: MLflow notes for good where files go, and the folder may
    have been moved or copied. StudyError where it is damaged; of other troubles MLflow says what is wrong."""
    if not STORE.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(STORE)) as database:  # experiment 0 is MLflow's own
            found = database.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
    except sqlite3.Error as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise StudyError(f"MLflow's store {STORE} is damaged ({error}); {ADVICE}") from error
        return True
    return found == (str(FOLDER.absolute() / "0"),)


def ensure() -> None:
    """Make the store where it is not `here`. For one process at a time (`alone`).

    Made under another name first: one whose making was cut off, MLflow can neither use nor complete.
    """
    if here():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    shutil.rmtree(ARTIFACTS, ignore_errors=True)  # of runs that the new store does not have
    partial = FOLDER / ".mlflow.db.part"
    for left in FOLDER.glob(f"{partial.name}*"):  # of a process that was killed, with SQLite's journal
        left.unlink()
    SqlAlchemyStore(address(partial), str(FOLDER)).engine.dispose()
    os.replace(partial, STORE)
