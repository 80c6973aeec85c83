"""MLflow as a view of plain files, with a real MLflow on SQLite: written once, replaced when changed, back after it was
deleted."""
import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from pipeline import records, study as studies
from pipeline.tracking import mirror, store
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
        described("voc", study)
        study.artifacts("runs", "t1-c8").joinpath("model.safetensors").write_bytes(b"small")
        with study.artifacts("runs", "t1-c48").joinpath("model.safetensors").open("wb") as file:
            file.truncate(store.COPIED + 1)
        assert mirror.mirror(study).changes == len(expected(study))
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def study(home, tmp_path, monkeypatch):
    shutil.copytree(home, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return studies.load()


def described(dataset, study):
    """A data sheet, as stage prepare leaves it, and the listing of the native files."""
    sheet = {"dataset": dataset, "classes": fake_study.CLASSES, "splits": {"val": {"images": 4}, "train_aug": {"images": 9}}}
    study.artifacts("shards", dataset).joinpath("sheet.json").write_text(json.dumps(sheet))
    study.artifacts("data", dataset).mkdir(parents=True, exist_ok=True)
    study.artifacts("data", dataset).joinpath("source.json").write_text(json.dumps({"digest": "abc"}))


def expected(study):
    """(table, key) of the rows that were run, of the networks that several rows of Table 3 share, and of the trainings."""
    found = {(row.table, row.key) for table in rows(study).values() for row in table
             if row.run and (row.table == "table4" or row.run not in WITHOUT)}
    found |= {("table3", "t2-x2"), ("table3", "t3-os16-nodec")}
    return found | {("trainings", name) for name in ("resnet101", "xception65", "xception71", "t2-x2", "t1-c8", "t1-c48",
                                                     "t3-os16-nodec")}


def runs(study):
    """Active runs by (experiment, row), straight from MLflow."""
    client, found = store.client(), {}
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
    client = store.client()
    history = client.get_metric_history(run.info.run_id, "curve/loss")
    assert len(history) > 5 and history[0].timestamp == 1000 * fake_study.STARTED + 100 * history[0].step
    assert [point.step for point in client.get_metric_history(run.info.run_id, "trimap_miou")] == list(range(1, 41, 3))
    assert len(client.list_artifacts(run.info.run_id, "pictures")) == 4
    assert not client.list_artifacts(found["Table 3", "t2-x2/os8"][0].info.run_id)  # label maps are kept for os16 only
    assert "paper 78.85 %" in run.data.tags["mlflow.note.content"] and "evaluate@t2-x2" in run.data.tags["mlflow.note.content"]
    assert found["Table 3", "t2-x2/os8-ms-flip"][0].info.run_name == "train OS 16, eval OS 8, Decoder, MS, Flip"


def test_the_strategies_of_a_network_are_nested_under_it(study):
    found = {key: same[0] for (title, key), same in runs(study).items() if title == "Table 3"}
    parent, child = found["t2-x2"], found["t2-x2/os8-ms"]
    children = {key for key, run in found.items() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert children == {f"t2-x2/{name}" for name in study.evaluate["t2-x2"]}
    assert "curve/loss" in parent.data.metrics and "curve/loss" not in child.data.metrics  # once, not six times
    assert "miou" in child.data.metrics and child.data.params["run.decoder"] == "[3x3,256]x2"
    assert child.data.tags["mlflow.runType"] == "evaluation"  # what MLflow's pages open a parent for
    assert child.info.end_time - child.info.start_time == 2500  # of the evaluation
    alone, = (same[0] for (title, key), same in runs(study).items() if title == "Table 1" and key == "t1-c8/os16")
    assert "mlflow.parentRunId" not in alone.data.tags and {"miou", "curve/loss"} <= alone.data.metrics.keys()


def test_curves_of_the_machine_have_the_names_that_mlflow_shows_as_such(study):
    run = runs(study)["Trainings", "t2-x2"][0]
    assert run.data.metrics["system/images_per_second"] == 100 and "curve/images_per_second" not in run.data.metrics
    history = study.artifacts("runs", "t2-x2") / records.HISTORY
    grown = records.History()
    grown.rows = [(step, "gpu_memory_gb", 2.5, 1000 + step) for step in range(1, 1000)] + [(7, "gpu_utilisation", 93.0, 1007)]
    grown.save(history.parent)
    mirror.mirror(study)
    client, run = store.client(), runs(study)["Trainings", "t2-x2"][0]
    points = client.get_metric_history(run.info.run_id, "system/gpu_0_memory_usage_megabytes")
    assert 100 < len(points) <= 200 and {point.value for point in points} == {2500.0}
    assert [(point.step, point.timestamp) for point in points][-1] == (999, 1999)  # thinned, but the end is there
    assert run.data.metrics["system/gpu_0_utilization_percentage"] == 93.0


def test_data_sets_are_inputs_with_a_digest_of_their_content(study):
    def inputs(table, key):
        return {tag.value: each.dataset for each in runs(study)[table, key][0].inputs.dataset_inputs for tag in each.tags}
    before = inputs("Table 1", "t1-c8/os16")
    assert {context: data.name for context, data in before.items()} == {"training": "voc train_aug", "evaluation": "voc val"}
    assert json.loads(before["evaluation"].profile)["images"] == 4 and before["training"].digest != before["evaluation"].digest
    assert inputs("Trainings", "t1-c8").keys() == {"training"} and inputs("Table 3", "t2-x2/os8").keys() == {"evaluation"}
    (study.artifacts("data", "voc") / "source.json").write_text(json.dumps({"digest": "other files"}))
    assert mirror.mirror(study).changes > 0
    assert inputs("Trainings", "t1-c8")["training"].digest != before["training"].digest


def test_a_small_checkpoint_is_uploaded_and_of_a_large_one_the_hash_is_kept(study, tmp_path, monkeypatch):
    def kept(name):
        run = runs(study)["Trainings", name][0].info.run_id
        folder = store.client().download_artifacts(run, "checkpoint")
        reference = json.loads(open(f"{folder}/reference.json").read())
        path = study.artifacts("runs", name) / "model.safetensors"
        assert reference == {"path": str(path), "bytes": path.stat().st_size,
                             "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        return sorted(os.listdir(folder))
    assert kept("t1-c8") == ["reference.json"]  # the store is beside it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    mirror.mirror(study)
    assert kept("t1-c8") == ["model.safetensors", "reference.json"]
    assert kept("t1-c48") == ["reference.json"]


def test_experiments_bring_their_columns_and_order(study):
    found = {each.name: each for each in store.client().search_experiments()}
    assert "Table 6" not in found or found["Table 6"].tags  # none without rows, none without a description
    for title in ("Table 1", "Table 4", "Figure 5", "Trainings"):
        tags = found[title].tags
        view = json.loads(tags["mlflow.sharedViewState.paper"])  # what `?viewStateShareKey=paper` opens
        assert f"#/experiments/{found[title].experiment_id}/runs?viewStateShareKey=paper" in tags["mlflow.note.content"]
        known = {f"metrics.`{name}`" for same in runs(study).values() for run in same for name in run.data.metrics}
        known |= {f"params.`{name}`" for same in runs(study).values() for run in same for name in run.data.params}
        assert not set(view["selectedColumns"]) - known - {"attributes.`Dataset`"}
        assert tags["mlflow.experimentKind"] == "custom_model_development"
    places = {key: same[0].data.tags["place"] for (title, key), same in runs(study).items() if title == "Table 3"}
    assert sorted(places, key=places.get)[:2] == ["t3-os16-nodec", "t3-os16-nodec/os16"]  # as in the paper, a training before its rows


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
    store.client().delete_run(ours.runs["figure5", "t2-x2/os16"])  # by somebody, just now
    assert "trimap_low" in mirror.read_back(study, ours.runs)["figure5", "t2-x2/os16"]["curves"]


def test_two_who_log_the_same_at_once_end_with_one_run_a_row(study, tmp_path, monkeypatch):
    """Both have looked before either writes: the slower one is stopped there and goes on when the other has finished."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    shutil.copytree(tmp_path / "study", tmp_path / "colleague")
    looked, existing = [], store.existing

    def first_look(client, wanted, table):
        found = existing(client, wanted, table)
        looked.append(table)
        if looked == list(EXPERIMENTS):
            monkeypatch.chdir(tmp_path / "colleague")
            mirror.mirror(study)
            monkeypatch.chdir(tmp_path / "study")
        return found
    monkeypatch.setattr(store, "existing", first_look)
    monkeypatch.setattr(store, "alone", lambda: open(os.devnull))
    shown = mirror.mirror(study).runs
    found = runs(study)
    assert found.keys() == {(EXPERIMENTS[table], key) for table, key in expected(study)} and len(shown) == len(found)
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
    assert not [path for path in store.FOLDER.rglob("*") if path.is_file() and b"crt-w0rd" in path.read_bytes()]


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


def test_a_log_that_was_cut_off_is_replaced(study):
    run = runs(study)["Table 1", "t1-c48/os16"][0]
    store.client().update_run(run.info.run_id, "RUNNING")
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
    before = mirror.read_back(study)
    assert before["figure5", "t2-x2/os16"]["curves"]["trimap_low"].keys() == set(range(1, 41, 3))
    shutil.rmtree(store.FOLDER)
    assert not mirror.current(study)
    # Processes of their own: MLflow keeps open what was deleted. Two at once: without the lock they break a fresh store.
    code = ("from pipeline import study; from pipeline.tracking import mirror; study = study.load(); "
            "print((mirror.mirror(study).changes, mirror.read_back(study)))")
    both = [python(code) for _ in range(2)]
    written, found = zip(*(ast.literal_eval(finish(process)) for process in both))
    assert sorted(written) == [0, len(expected(study))] and found == (before, before)
    assert all(len(same) == 1 for same in runs(study).values()) and mirror.current(study)


def test_a_broken_store_is_an_error_that_says_what_to_do(study):
    store.STORE.write_bytes(b"this is no database" * 100)
    with pytest.raises(studies.StudyError, match="delete mlruns and run this again"):
        mirror.mirror(study)


def test_the_environment_names_the_store(study, tmp_path, monkeypatch):
    shutil.move(store.STORE, tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    assert not mirror.current(study)  # nothing is known of a store that others may change
    assert mirror.mirror(study).changes == 0 and runs(study).keys() == {(EXPERIMENTS[table], key) for table, key in expected(study)}
    assert not store.STORE.exists()


def test_restore_does_not_import_mlflow_when_nothing_changed(study):
    assert mirror.current(study)
    code = ("import sys; from pipeline import study; from pipeline.tracking import mirror; assert mirror.current(study.load()); "
            "print([name for name in ('mlflow', 'pyarrow', 'torch') if name in sys.modules])")
    assert finish(python(code)) == "[]"
