"""MLflow as a view of plain files, with a real MLflow on SQLite: written once, replaced when changed, back after it was
deleted."""
import ast
import os
import shutil
import subprocess
import sys

import pytest

from pipeline import records, study as studies
from pipeline.tracking import mirror
from pipeline.tracking.rows import EXPERIMENTS, rows
from tests.reporting import fake_study

WITHOUT = ("coco-x65", "t5-coco", "t1-c16", "t7-x71", "t7-noilf", "t7-dec", "t7-nodec", "t2-x3", "t2-128", "t2-1x1", "t2-conv3",
           "t5-dec", "t5-sc",
           "t5-nodec", "t3-os32-dec", "t3-os32-nodec", "t1-c64", "t1-c32")  # a study that is not finished: quick to mirror


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with an unfinished study at scale miniature, and a store made once; each test works on a copy."""
    folder = tmp_path_factory.mktemp("study")
    before = os.getcwd()
    os.chdir(folder)
    try:
        study = studies.load()
        fake_study.write(study, images=4, size=49, missing=WITHOUT)
        assert mirror.mirror(study) == len(expected(study))
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def study(home, tmp_path, monkeypatch):
    shutil.copytree(home, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return studies.load()


def expected(study):
    return {(row.table, row.key) for table in rows(study).values() for row in table
            if row.run and (row.table == "table4" or row.run not in WITHOUT)}


def runs(study):
    """Active runs by (experiment, row), straight from MLflow."""
    client, found = mirror.client(), {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], f"tags.scale = '{study.scale}'", max_results=1000):
            found.setdefault((experiment.name, run.data.tags["row"]), []).append(run)
    return found


def python(code):
    environment = os.environ | {"PYTHONPATH": str(studies.ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def finish(process):
    said, complaint = process.communicate(timeout=100)
    assert process.returncode == 0, complaint
    return said.strip()


def test_one_run_a_row_named_as_in_the_paper(study):
    found = runs(study)
    assert found.keys() == {(EXPERIMENTS[table], key) for table, key in expected(study)}
    assert all(len(same) == 1 for same in found.values())
    run = found["Table 2", "t2-x2/os16"][0]
    assert run.info.run_name == "[1x1,48] [3x3,256]x2 Conv2"
    assert run.info.start_time == 1000 * fake_study.STARTED and run.info.end_time - run.info.start_time == 21500
    assert run.data.params["run.backbone"] == "resnet101" and run.data.params["strategy.flip"] == "False"
    assert run.data.metrics["miou_paper"] == 78.85 and 0 < run.data.metrics["iou/cat"] < 100
    assert run.data.metrics["miou_low"] < run.data.metrics["miou"] < run.data.metrics["miou_high"]
    client = mirror.client()
    history = client.get_metric_history(run.info.run_id, "curve/loss")
    assert len(history) > 5 and history[0].timestamp == 1000 * fake_study.STARTED + 100 * history[0].step
    assert [point.step for point in client.get_metric_history(run.info.run_id, "trimap_miou")] == list(range(1, 41, 3))
    assert len(client.list_artifacts(run.info.run_id, "pictures")) == 4
    assert not client.list_artifacts(found["Table 3", "t2-x2/os8"][0].info.run_id)  # label maps are kept for os16 only
    assert found["Table 3", "t2-x2/os8-ms-flip"][0].info.run_name == "train OS 16, eval OS 8, Decoder, MS, Flip"


def test_a_second_time_changes_nothing(study):
    before = {key: [run.info.run_id for run in same] for key, same in runs(study).items()}
    assert mirror.mirror(study) == 0
    assert {key: [run.info.run_id for run in same] for key, same in runs(study).items()} == before


def test_a_changed_record_is_replaced_not_doubled(study):
    record = records.read(study.artifacts("runs", "t1-c8"))
    record["metrics"]["miou"] = 12.5
    records.write(study.artifacts("runs", "t1-c8"), **record)
    assert not mirror.current(study)
    assert mirror.mirror(study) == 2  # the old one is deleted, the new one written
    same = runs(study)["Table 1", "t1-c8/os16"]
    assert len(same) == 1 and same[0].data.metrics["training/miou"] == 12.5
    assert mirror.mirror(study) == 0


def test_a_run_that_is_gone_is_deleted_and_returns(study):
    shutil.move(study.artifacts("facts", "t1-c8"), "elsewhere")
    assert mirror.mirror(study) == 1
    assert ("Table 1", "t1-c8/os16") not in runs(study)
    shutil.move("elsewhere", study.artifacts("facts", "t1-c8"))
    assert mirror.mirror(study) == 1
    assert len(runs(study)["Table 1", "t1-c8/os16"]) == 1


def test_a_log_that_was_cut_off_is_replaced(study):
    run = runs(study)["Table 1", "t1-c48/os16"][0]
    mirror.client().delete_tag(run.info.run_id, mirror.DIGEST)
    assert mirror.mirror(study) == 2
    assert [same.info.run_id != run.info.run_id for same in runs(study)["Table 1", "t1-c48/os16"]] == [True]


def test_another_scale_is_kept_apart(study):
    other = study.model_copy(update={"scale": "tiny"})
    shutil.copytree("artifacts/miniature", "artifacts/tiny")
    before = {key: [run.info.run_id for run in same] for key, same in runs(study).items()}
    assert mirror.mirror(other) == len(expected(other))
    assert {key: [run.info.run_id for run in same] for key, same in runs(study).items()} == before
    assert mirror.mirror(study) == 0


def test_a_deleted_store_comes_back_with_the_same_numbers(study):
    before = mirror.read_back(study)
    assert before["figure5", "t2-x2/os16"]["curves"]["trimap_low"].keys() == set(range(1, 41, 3))
    shutil.rmtree(mirror.FOLDER)
    assert not mirror.current(study)
    # Processes of their own: MLflow keeps open what was deleted. Two at once: without the lock they break a fresh store.
    code = ("from pipeline import study; from pipeline.tracking import mirror; study = study.load(); "
            "print((mirror.mirror(study), mirror.read_back(study)))")
    both = [python(code) for _ in range(2)]
    written, found = zip(*(ast.literal_eval(finish(process)) for process in both))
    assert sorted(written) == [0, len(expected(study))] and found == (before, before)
    assert all(len(same) == 1 for same in runs(study).values()) and mirror.current(study)


def test_a_broken_store_is_an_error_that_says_what_to_do(study):
    mirror.STORE.write_bytes(b"this is no database" * 100)
    with pytest.raises(studies.StudyError, match="delete mlruns and run this again"):
        mirror.mirror(study)


def test_the_environment_names_the_store(study, tmp_path, monkeypatch):
    shutil.move(mirror.STORE, tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    assert not mirror.current(study)  # nothing is known of a store that others may change
    assert mirror.mirror(study) == 0 and runs(study).keys() == {(EXPERIMENTS[table], key) for table, key in expected(study)}
    assert not mirror.STORE.exists()


def test_restore_does_not_import_mlflow_when_nothing_changed(study):
    assert mirror.current(study)
    code = ("import sys; from pipeline import study; from pipeline.tracking import mirror; assert mirror.current(study.load()); "
            "print([name for name in ('mlflow', 'pyarrow', 'torch') if name in sys.modules])")
    assert finish(python(code)) == "[]"
