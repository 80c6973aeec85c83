"""Mirroring again: nothing to do, what changed is replaced, and a deleted store comes back."""
import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from pipeline import records, study as studies
from pipeline.tracking import local, mirror, store
from stages import ui
from tests.reporting import fake_study
from tests.tracking.mirrored import WITHOUT, expected, runs


def python(code):
    environment = os.environ | {"PYTHONPATH": str(studies.ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=environment)


def finish(process):
    said, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, complaint
    return said.strip()


def test_a_second_time_changes_nothing(study):
    before = {key: [run.info.run_id for run in same] for key, same in runs(study).items()}
    assert mirror.mirror(study).changes == 0
    assert {key: [run.info.run_id for run in same] for key, same in runs(study).items()} == before


def test_a_changed_record_is_replaced_not_doubled(study):
    record = records.read(study.artifacts("runs", "t1-c8"))
    record["metrics"]["miou"] = 12.5
    records.write(study.artifacts("runs", "t1-c8"), **record)
    assert not mirror.current(study)
    assert mirror.mirror(study).changes == 4  # the row and the training: the old ones are deleted, the new ones written
    same = runs(study)["Table 1", "t1-c8/os16"]
    assert len(same) == 1 and same[0].data.metrics["training/miou"] == 12.5
    assert mirror.mirror(study).changes == 0


def test_a_run_that_is_gone_is_deleted_and_returns(study):
    shutil.move(study.artifacts("facts", "t1-c8"), "elsewhere")
    assert mirror.mirror(study).changes == 1
    assert ("Table 1", "t1-c8/os16") not in runs(study)
    shutil.move("elsewhere", study.artifacts("facts", "t1-c8"))
    assert mirror.mirror(study).changes == 1
    assert len(runs(study)["Table 1", "t1-c8/os16"]) == 1


def test_what_was_fetched_has_no_times_of_its_own(study):
    folder = study.artifacts("weights", "xception65")
    records.write(folder, **records.read(folder) | {"provenance": {}})
    before = int(1000 * time.time())
    assert mirror.mirror(study).changes > 0
    run, = runs(study)["Trainings", "xception65"]
    assert before <= run.info.start_time <= run.info.end_time <= 1000 * time.time()
    assert mirror.mirror(study).changes == 0


def test_a_log_that_was_cut_off_is_replaced(study):
    run = runs(study)["Table 1", "t1-c48/os16"][0]
    store.connect().update_run(run.info.run_id, "RUNNING")
    assert mirror.mirror(study).changes == 2
    assert [same.info.run_id != run.info.run_id for same in runs(study)["Table 1", "t1-c48/os16"]] == [True]


def test_another_scale_is_kept_apart(study):
    other = study.model_copy(update={"scale": "tiny"})
    shutil.copytree("artifacts/miniature", "artifacts/tiny")
    before = {key: [run.info.run_id for run in same] for key, same in runs(study).items()}
    assert mirror.mirror(other).changes == len(expected(other))
    assert {key: [run.info.run_id for run in same] for key, same in runs(study).items()} == before
    assert mirror.mirror(study).changes == 0


def test_a_deleted_store_comes_back_with_the_same_numbers(study):
    before = mirror.read_back(study, mirror.mirror(study).runs)
    assert before["figure5", "t2-x2/os16"]["curves"]["trimap_low"].keys() == set(range(1, 41, 3))
    shutil.rmtree(local.FOLDER)
    assert not mirror.current(study)
    # Processes of their own: MLflow keeps open what was deleted. Two at once: without the lock they break a fresh store.
    code = ("from pipeline.tracking import mirror; from tests import shipped; study = shipped.study(); "
            "found = mirror.mirror(study); print((found.changes, mirror.read_back(study, found.runs)))")
    both = [python(code) for _ in range(2)]
    written, found = zip(*(ast.literal_eval(finish(process)) for process in both))
    assert sorted(written) == [0, len(expected(study))] and found == (before, before)
    assert all(len(same) == 1 for same in runs(study).values()) and mirror.current(study)


@pytest.mark.parametrize("ask", [mirror.mirror, mirror.current, lambda study: ui.main(restore=True), lambda study: ui.main(port=5997)],
                         ids=["mirror", "current", "restore", "ui"])
def test_a_damaged_store_is_an_error_that_says_what_to_do(study, monkeypatch, ask):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    local.STORE.write_bytes(b"this is no database" * 100)
    with pytest.raises(studies.StudyError, match="delete mlruns and run this again"):
        ask(study)


@pytest.fixture
def looks(monkeypatch):
    """What happens before each further look of `ui`, which serves nothing and ends after the last."""
    found = []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(ui, "serve", lambda *_: SimpleNamespace(poll=lambda: None))
    monkeypatch.setattr(ui, "end", lambda server: None)
    monkeypatch.setattr(ui.time, "sleep", lambda seconds: found.pop(0)() if found else signal.raise_signal(signal.SIGINT))
    return found


def test_pages_open_beside_a_study_with_more_to_evaluate_and_follow_it(study, looks, monkeypatch, capsys):
    further = study.model_copy(update={"evaluate": study.evaluate | {"t1-c8": ("os16", "os8")}})
    load = lambda: further
    load.__wrapped__ = load
    monkeypatch.setattr(studies, "load", load)
    with pytest.raises(studies.StudyError, match="knows no strategy os8: dvc repro evaluate@t1-c8"):
        ui.main(restore=True)
    looks += [lambda: None, lambda: fake_study.write(further, images=4, size=49, missing=WITHOUT)]
    ui.main()
    said = capsys.readouterr()
    assert said.err.count("not mirrored yet: ") == 1 and "knows no strategy os8" in said.err and "MLflow at http://127.0.0.1:5000" in said.out
    assert ("Runs of your own", "t1-c8/os8") in runs(further)


def test_pages_of_a_server_that_is_not_there_are_not_promised(study, looks, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(studies.StudyError, match="MLflow's store http://127.0.0.1:1 cannot be used"):
        ui.main()
    assert "MLflow at" not in capsys.readouterr().out


def test_restore_does_not_import_mlflow_when_nothing_changed(study):
    assert mirror.current(study)
    code = ("import sys; from pipeline.tracking import mirror; from tests import shipped; assert mirror.current(shipped.study()); "
            "print([name for name in ('mlflow', 'pyarrow', 'torch') if name in sys.modules])")
    assert finish(python(code)) == "[]"


MAKE = """
import os
from sqlalchemy import event
from sqlalchemy.engine import Engine
from pipeline.tracking import local, store
@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *more):
    if "CREATE TABLE guardrails" in statement:
        os._exit(9)
with local.alone():
    store.connect().search_experiments()
"""


def test_a_store_whose_making_was_cut_off_is_made_by_the_next(study):
    """MLflow's migrations are no transaction in SQLite: what is half made can be neither used nor completed."""
    shutil.rmtree(local.FOLDER)
    cut = python(MAKE)
    cut.communicate(timeout=600)
    assert cut.returncode == 9
    (local.FOLDER / ".mlflow.db.part-journal").write_bytes(b"of a transaction that was cut off")
    assert finish(python("from pipeline.tracking import mirror; from tests import shipped; print(mirror.mirror(shipped.study()).changes)")
                  ).endswith(str(len(expected(study))))
    assert not [path for path in local.FOLDER.iterdir() if ".part" in path.name]


TWICE = ("from pipeline.tracking import mirror; from tests import shipped; study = shipped.study(); "
         "print(mirror.mirror(study).changes, mirror.mirror(study).changes)")


def test_a_store_lies_in_its_folder_whatever_that_is_called(study, tmp_path, monkeypatch):
    odd = tmp_path / "who? me=1&you %3F#"
    shutil.copytree(tmp_path / "study", odd / "study", ignore=lambda folder, names: {"mlruns"} & set(names))
    monkeypatch.chdir(odd / "study")
    assert finish(python(TWICE)).endswith(f"{len(expected(study))} 0")
    assert local.STORE.exists() and (local.FOLDER / "artifacts").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"study", odd.name} and [path.name for path in odd.iterdir()] == ["study"]


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_folder_that_was_moved_or_copied_writes_into_itself(study, tmp_path, monkeypatch, how):
    mirror.mirror(study)
    assert mirror.current(study)
    before = sorted(str(path) for path in (tmp_path / "study").rglob("*"))
    how(tmp_path / "study", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert not mirror.current(study)
    assert finish(python(TWICE)).endswith(f"{len(expected(study))} 0")
    pictures = list(local.ARTIFACTS.rglob("*.png"))
    assert pictures and mirror.current(study)
    assert sorted(str(path) for path in (tmp_path / "study").rglob("*")) == (before if how is shutil.copytree else [])
