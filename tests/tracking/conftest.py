"""An unfinished study that is mirrored once, with a real MLflow on SQLite."""
import contextlib
import json
import shutil
import sqlite3

import pytest

from pipeline.tracking import local, mirror, store
from tests import shipped
from tests.reporting import fake_study
from tests.tracking.mirrored import WITHOUT, expected


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with an unfinished study at scale miniature, and a store made once; each test works on a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("study"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        study = shipped.study()
        fake_study.write(study, images=4, size=49, missing=WITHOUT)
        described("voc", study)
        study.artifacts("runs", "t1-c8").joinpath("model.safetensors").write_bytes(b"small")
        with study.artifacts("runs", "t1-c48").joinpath("model.safetensors").open("wb") as file:
            file.truncate(store.COPIED + 1)
        assert mirror.mirror(study).changes == len(expected(study))
    return folder


@pytest.fixture
def study(home, tmp_path, monkeypatch):
    shutil.copytree(home, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    as_if_made_here(home)
    return shipped.study()


def as_if_made_here(folder):
    """The store in the working directory, which is a copy of that in `folder`."""
    with contextlib.closing(sqlite3.connect(local.STORE)) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(folder), str(local.FOLDER.absolute().parent)))


def described(dataset, study):
    """A data sheet, as stage prepare leaves it, and the listing of the native files."""
    sheet = {"dataset": dataset, "classes": fake_study.CLASSES, "splits": {"val": {"images": 4}, "train_aug": {"images": 9}}}
    study.artifacts("shards", dataset).joinpath("sheet.json").write_text(json.dumps(sheet))
    study.artifacts("data", dataset).mkdir(parents=True, exist_ok=True)
    study.artifacts("data", dataset).joinpath("source.json").write_text(json.dumps({"digest": "abc"}))
