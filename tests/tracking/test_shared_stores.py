"""A store that others use too: equal rows are one, also at once, and its password is never shown."""
import contextlib
import os
import shutil
import sqlite3
from types import SimpleNamespace

import pytest

from pipeline import records, study as studies
from pipeline.paper.rows import TITLES
from pipeline.study import StudyError
from pipeline.tracking import local, mirror, store
from tests.tracking.mirrored import expected, runs


def test_on_a_shared_store_what_others_measured_stays_and_equal_rows_are_one(study, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    everything = len(expected(study))
    assert mirror.mirror(study).changes == everything
    shutil.copytree(tmp_path / "study", tmp_path / "colleague")
    monkeypatch.chdir(tmp_path / "colleague")
    assert store.writer() != runs(study)["Table 1", "t1-c8/os16"][0].data.tags["writer"]
    assert mirror.mirror(study).changes == 0  # the same numbers are there already
    record = records.read(study.artifacts("runs", "t1-c8"))
    records.write(study.artifacts("runs", "t1-c8"), **record | {"metrics": {"miou": 12.5}})
    theirs = mirror.mirror(study)
    assert theirs.changes == 2 and len(runs(study)["Table 1", "t1-c8/os16"]) == 2
    monkeypatch.chdir(tmp_path / "study")
    ours = mirror.mirror(study)
    assert ours.changes == 0 and ours.runs["table1", "t1-c8/os16"] != theirs.runs["table1", "t1-c8/os16"]
    for mirrored, value in ((ours, records.read(study.artifacts("runs", "t1-c8"))["metrics"]["miou"]), (theirs, 12.5)):
        assert mirror.read_back(study, mirrored.runs)["table1", "t1-c8/os16"]["metrics"]["training/miou"] == value
    store.connect().delete_run(ours.runs["figure5", "t2-x2/os16"])  # by somebody, just now
    assert "trimap_low" in mirror.read_back(study, ours.runs)["figure5", "t2-x2/os16"]["curves"]


def test_two_who_log_the_same_at_once_end_with_one_run_a_row(study, tmp_path, monkeypatch):
    """Both have looked before either writes: the slower one is stopped there and goes on when the other has finished."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    shutil.copytree(tmp_path / "study", tmp_path / "colleague")
    looked, existing = [], store.existing

    def first_look(client, wanted, table):
        found = existing(client, wanted, table)
        looked.append(table)
        if looked == list(TITLES):
            monkeypatch.chdir(tmp_path / "colleague")
            mirror.mirror(study)
            monkeypatch.chdir(tmp_path / "study")
        return found
    monkeypatch.setattr(store, "existing", first_look)
    monkeypatch.setattr(local, "alone", lambda: open(os.devnull))
    shown = mirror.mirror(study).runs
    found = runs(study)
    assert found.keys() == {(TITLES[table], key) for table, key in expected(study)} and len(shown) == len(found)
    assert {run.info.run_id for same in found.values() for run in same} == set(shown.values())
    for (title, key), (run,) in found.items():
        parent = run.data.tags.get("mlflow.parentRunId")
        assert parent is None or parent == found[title, key.partition("/")[0]][0].info.run_id


@pytest.mark.parametrize("address", ["postgresql://lab:s%40crt-w0rd@127.0.0.1:1/mlflow", "http://lab:s%40crt-w0rd@127.0.0.1:1",
                                     "postgresql://127.0.0.1:1/mlflow?user=lab&password=s%40crt-w0rd"])
def test_a_password_in_the_address_is_never_shown(study, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # not 100 seconds
    with pytest.raises(studies.StudyError) as caught:
        mirror.mirror(study)
    said = f"{store.masked()} {caught.value} {caught.value.__cause__} {caught.value.__suppress_context__}"
    assert "127.0.0.1:1" in said and "crt-w0rd" not in said and said.endswith("None True")
    assert not [path for path in local.FOLDER.rglob("*") if path.is_file() and b"crt-w0rd" in path.read_bytes()]


@pytest.mark.parametrize("address, shown", [
    ("postgresql://u:pa/s3cret@db/mlflow", "postgresql://u:***@db/mlflow"),
    ("postgresql://u:pa#s3cret@db/mlflow", "postgresql://u:***@db/mlflow"),
    ("postgresql://u:pa?s3cret@db/mlflow", "postgresql://u:***@db/mlflow"),
    ("postgresql://u:p:a[@s3cret@db/mlflow", "postgresql://u:***@db/mlflow"),
    ("postgresql://u@db:1/mlflow?password=s3cret/pa&x=y", "postgresql://u@db:1/mlflow?password=***&x=y"),
    ("postgresql://db:1/mlflow?user=u&sslpassword=s3cret&passwd=abc", "postgresql://db:1/mlflow?user=u&sslpassword=***&passwd=***"),
    ("https://dapi0123s3cret@host/a", "https://***@host/a"), ("https://dapi0123s3cret:@host", "https://***:@host"),
    ("https://host/a?token=s3cret", "https://host/a?token=***"), ("https://host/#jwt=s3cret", "https://host/#jwt=***")])
def test_a_password_with_signs_that_should_be_escaped_is_not_shown_either(monkeypatch, address, shown):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert store.masked() == shown
    assert "s3cret" not in store.masked(f"cannot connect to {address.split('@', 1)[-1]}")


def test_all_pages_of_a_large_store_are_read_and_complete_runs_come_first(study):
    def run(name, status):
        return SimpleNamespace(info=SimpleNamespace(run_id=name, status=status), data=SimpleNamespace(tags={"row": "key", "digest": "1"}))
    asked, pages = [], {None: ([run("a", "RUNNING"), run("c", "FINISHED")], "more"), "more": ([run("b", "FINISHED")], None)}

    class Page(list):
        token = None

    def search_runs(experiments, filter_string, max_results, page_token=None):
        asked.append(page_token)
        assert len(asked) < 3 and "tags.scale = 'miniature'" in filter_string
        page = Page(pages[page_token][0])
        page.token = pages[page_token][1]
        return page
    client = SimpleNamespace(search_runs=search_runs, get_experiment_by_name=lambda _: SimpleNamespace(
        lifecycle_stage="active", experiment_id="1"))
    assert [each.info.run_id for each in store.existing(client, study, "table1")["key"]] == ["b", "c", "a"]


def test_no_request_has_more_than_mlflow_takes_and_nothing_is_lost():
    sent = []
    client = SimpleNamespace(log_batch=lambda run, params, metrics: sent.append((params, metrics)))
    store.enter(client, "run", {f"p{number}": "1" for number in range(150)}, [("loss", 1.0, 0, step) for step in range(2500)])
    assert all(len(params) <= 100 and len(params) + len(metrics) <= 1000 for params, metrics in sent)  # MLflow's REST API
    assert [each.key for params, _ in sent for each in params] == [f"p{number}" for number in range(150)]
    assert [each.step for _, metrics in sent for each in metrics] == list(range(2500))


def test_the_environment_names_the_store(study, tmp_path, monkeypatch):
    shutil.move(local.STORE, tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    assert not mirror.current(study)  # nothing is known of a store that others may change
    assert mirror.mirror(study).changes == 0
    assert runs(study).keys() == {(TITLES[table], key) for table, key in expected(study)}
    assert not local.STORE.exists()


def test_a_disk_that_is_full_is_no_reason_to_delete_the_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with contextlib.closing(sqlite3.connect(":memory:")) as database, pytest.raises(StudyError) as caught, store.explained():
        database.execute("PRAGMA max_page_count = 1")
        database.execute("CREATE TABLE a (b)")
    assert "disk is full); make room and give the same command again" in str(caught.value) and "delete" not in str(caught.value)
