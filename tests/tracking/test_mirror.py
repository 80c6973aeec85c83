"""What MLflow, a view of plain files, holds after mirroring: runs, curves, data sets, checkpoints, columns."""
import functools
import hashlib
import json
import os
import shutil

from pipeline import paper, records
from pipeline.paper.rows import TITLES
from pipeline.tracking import mirror, store
from tests.reporting import fake_study
from tests.tracking.mirrored import WITHOUT, expected, runs


def test_one_run_a_row_named_as_in_the_paper(study):
    found = runs(study)
    assert found.keys() == {(TITLES[table], key) for table, key in expected(study)}
    assert all(len(same) == 1 for same in found.values())
    run = found["Table 2", "t2-x2/os16"][0]
    assert run.info.run_name == "[1x1,48] [3x3,256]x2 Conv2"
    assert run.info.start_time == 1000 * fake_study.STARTED and run.info.end_time - run.info.start_time == 21500
    assert run.data.params["run.backbone"] == "resnet101" and run.data.params["strategy.flip"] == "False"
    assert run.data.metrics["miou_paper"] == 78.85 and 0 < run.data.metrics["iou/cat"] < 100
    assert run.data.metrics["miou_low"] < run.data.metrics["miou"] < run.data.metrics["miou_high"]
    client = store.connect()
    history = client.get_metric_history(run.info.run_id, "curve/loss")
    assert len(history) > 5 and history[0].timestamp == 1000 * fake_study.STARTED + 100 * history[0].step
    assert [point.step for point in client.get_metric_history(run.info.run_id, "trimap_miou")] == list(range(1, 41, 3))
    kept = [os.path.basename(each.path) for each in client.list_artifacts(run.info.run_id, "pictures")]
    assert sorted(name.rpartition("-")[0] for name in kept) == ["best-1", "best-2", "worst-1", "worst-2"]
    assert not client.list_artifacts(found["Table 3", "t2-x2/os8"][0].info.run_id)  # label maps are kept for os16 only
    assert "paper 78.85 %" in run.data.tags["mlflow.note.content"] and "evaluate@t2-x2" in run.data.tags["mlflow.note.content"]
    assert found["Table 3", "t2-x2/os8-ms-flip"][0].info.run_name == "OS 16 to 8, Decoder, MS, Flip"
    assert run.data.tags["provenance.commit"] == run.data.tags["mlflow.source.git.commit"] == "0" * 40
    said, score = (found["Trainings", "t2-x2"][0].data.tags["mlflow.note.content"],
                   records.read(study.artifacts("runs", "t2-x2"))["metrics"]["miou"])
    assert said.startswith(f"`t2-x2` at scale miniature, {score:.2f} % miou at its last validation. Again: `dvc repro train@t2-x2`")


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


def test_a_further_strategy_of_a_network_of_the_paper_is_there(study):
    further = study.model_copy(update={"evaluate": study.evaluate | {"t1-c48": ("os16", "os8")}})
    fake_study.write(further, images=4, size=49, missing=WITHOUT)
    mirror.mirror(further)
    (run,) = runs(further)["Runs of your own", "t1-c48/os8"]
    assert run.info.run_name == "t1-c48/os8" and run.data.metrics["miou_low"] < run.data.metrics["miou"]


def test_curves_of_the_machine_have_the_names_that_mlflow_shows_as_such(study):
    run = runs(study)["Trainings", "t2-x2"][0]
    assert run.data.metrics["system/images_per_second"] == 100 and "curve/images_per_second" not in run.data.metrics
    history = study.artifacts("runs", "t2-x2") / records.HISTORY
    grown = records.History()
    grown.rows = [(step, "gpu_memory_gb", 2.5, 1000 + step) for step in range(1, 1000)] + [(7, "gpu_utilisation", 93.0, 1007)]
    grown.save(history.parent)
    mirror.mirror(study)
    client, run = store.connect(), runs(study)["Trainings", "t2-x2"][0]
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


def test_a_store_is_current_for_the_code_the_papers_numbers_and_the_data_that_it_was_made_from(study, tmp_path, monkeypatch):
    """DVC calls a branch whose results are committed, too, up to date; and what is prepared alike makes no stage stale."""
    def begun_again():
        """As a process that begins now says; one that is open works with the code that it began with."""
        monkeypatch.setattr(mirror, "_code", functools.cache(mirror._code.__wrapped__))
        return mirror.current(study)
    assert mirror.current(study)
    for room in mirror.CODE:
        other = shutil.copytree(room, tmp_path / room.name)
        with max(other.glob("*.py")).open("a") as file:
            file.write("# a remark\n")
        with monkeypatch.context() as patch:
            patch.setattr(mirror, "CODE", [other if each == room else each for each in mirror.CODE])
            assert not begun_again(), room
        assert begun_again()
    (tmp_path / "tables.yaml").write_text(paper.TABLES.read_text().replace("77.61", "77.16"))
    with monkeypatch.context() as patch:
        patch.setattr(paper, "TABLES", tmp_path / "tables.yaml")
        assert not begun_again()
    assert begun_again()
    for path in (study.artifacts("shards", "voc") / "sheet.json", study.artifacts("data", "voc") / "source.json"):
        mirror.mirror(study)
        path.write_text(path.read_text() + " ")
        assert not mirror.current(study), path


def test_a_small_checkpoint_is_uploaded_and_of_a_large_one_the_hash_is_kept(study, tmp_path, monkeypatch):
    def kept(name):
        run = runs(study)["Trainings", name][0].info.run_id
        folder = store.connect().download_artifacts(run, "checkpoint")
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
    found = {each.name: each for each in store.connect().search_experiments()}
    assert "Table 6" not in found or found["Table 6"].tags  # none without rows, none without a description
    for title in ("Table 1", "Table 4", "Figure 5", "Trainings"):
        tags = found[title].tags
        view = json.loads(tags["mlflow.sharedViewState.paper"])  # what `?viewStateShareKey=paper` opens
        link = f"(#/experiments/{found[title].experiment_id}/runs?viewStateShareKey=paper&workflowType=machine_learning)"
        assert link in tags["mlflow.note.content"].splitlines()[0], "the first line is all that shows before one opens it"
        known = {f"metrics.`{name}`" for same in runs(study).values() for run in same for name in run.data.metrics}
        known |= {f"params.`{name}`" for same in runs(study).values() for run in same for name in run.data.params}
        known |= {f"tags.`{name}`" for same in runs(study).values() for run in same for name in run.data.tags}
        assert not set(view["selectedColumns"]) - known
        assert (view["orderByKey"], view["orderByAsc"]) == ("tags.`place`", True)
        assert f"tags.`{store.SCALE}`" in view["selectedColumns"], "what tells two scales' runs apart"
        assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "&compareRunsMode=CHART" in found["Trainings"].tags["mlflow.note.content"].splitlines()[0]
    made = [found[title].creation_time for title in ("Table 1", "Table 3", "Figure 5", "Trainings")]
    assert made == sorted(made, reverse=True), "MLflow lists first what was made last"
    places = {key: same[0].data.tags["place"] for (title, key), same in runs(study).items() if title == "Table 3"}
    # As in the paper, a training before its rows.
    assert sorted(places, key=places.get)[:2] == ["t3-os16-nodec", "t3-os16-nodec/os16"]
