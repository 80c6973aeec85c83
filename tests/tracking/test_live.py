"""Curves of a training that runs: what the loop writes, as MLflow shows it, through resumes, kills and the end."""
import json
import os
import shutil

import pytest

from pipeline import records, study as studies
from pipeline.tracking import live, local, mirror, store
from tests.reporting import fake_study
from tests.tracking.conftest import as_if_made_here


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A folder with a store in which nothing is: MLflow takes seconds to make one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("empty"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        local.FOLDER.mkdir()
        local.ensure()
    return folder


@pytest.fixture
def study(empty, tmp_path, monkeypatch):
    """One trained network, none in the store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty / local.FOLDER, local.FOLDER)
    as_if_made_here(empty)
    study = studies.load()
    fake_study.write(study, images=3, size=49, missing=[run for run in study.runs if run != "t1-c8"])
    return study


def write(study, name, steps, began=1_000_000, mode="w", end="\n"):
    path = live.path(study, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        for step in steps:
            file.write(json.dumps([step, "loss", 2 / step, began + 100 * step]) + "\n")
            file.write(json.dumps([step, "images_per_second", 50.0, began + 100 * step]) + end)


def drawn(study, name):
    """The training's run, and its points of the loss: (step, value, ms)."""
    run, = store.existing(store.connect(), study, "trainings")[name]
    points = store.connect().get_metric_history(run.info.run_id, "curve/loss")
    return run, [(point.step, point.value, point.timestamp) for point in points]


def test_points_appear_as_they_are_written_and_the_whole_run_takes_their_place(study):
    follower = live.Follower()
    assert follower.look(study) == 0
    write(study, "t1-c16", range(20, 61, 20))
    assert follower.look(study) == 6
    run, points = drawn(study, "t1-c16")
    assert points == [(20, .1, 1_002_000), (40, .05, 1_004_000), (60, 2 / 60, 1_006_000)]
    assert run.info.status == "RUNNING" and run.info.start_time == points[0][2] and run.data.metrics["system/images_per_second"] == 50
    assert run.data.params["run.low_level_channels"] == "16" and run.data.params["training.steps"] == "240"
    write(study, "t1-c16", [80], mode="a")
    assert follower.look(study) == 2 and follower.look(study) == 0
    assert mirror.mirror(study).changes > 0  # it keeps what is training
    again, points = drawn(study, "t1-c16")
    assert again.info.run_id == run.info.run_id and again.info.status == "RUNNING" and [step for step, *_ in points] == [20, 40, 60, 80]

    live.path(study, "t1-c16").unlink()
    shutil.copytree(study.artifacts("runs", "t1-c8"), study.artifacts("runs", "t1-c16"))
    assert mirror.mirror(study).changes == 2  # the unfinished run is deleted, the finished one written
    again, points = drawn(study, "t1-c16")
    assert again.info.status == "FINISHED" and again.info.run_id != run.info.run_id
    assert points[0][2] == 1000 * fake_study.STARTED + 100 * points[0][0]
    assert follower.look(study) == 0 and not follower.drawn


def test_a_line_that_is_being_written_waits_and_one_that_was_cut_is_left_out(study):
    follower = live.Follower()
    write(study, "t1-c16", [20], end="")
    assert follower.look(study) == 1
    write(study, "t1-c16", [], mode="a")
    with live.path(study, "t1-c16").open("a") as file:
        file.write("\n[40, \"lo\n")
    write(study, "t1-c16", [60], mode="a")
    assert follower.look(study) == 3
    assert [step for step, *_ in drawn(study, "t1-c16")[1]] == [20, 60]


def test_a_training_that_goes_on_from_its_checkpoint_draws_no_step_twice(study):
    follower = live.Follower()
    write(study, "t1-c16", range(20, 101, 20))
    follower.look(study)
    write(study, "t1-c16", [20, 40], began=1_000_000)  # the checkpoint's history ...
    write(study, "t1-c16", [60], began=9_000_000, mode="a")  # ... and what was computed again
    follower.look(study)
    assert [(step, ms) for step, _, ms in drawn(study, "t1-c16")[1]] == [(20, 1_002_000), (40, 1_004_000), (60, 9_006_000)]


def test_pages_that_are_opened_again_and_a_store_that_was_deleted_show_it_once(study, tmp_path, monkeypatch):
    write(study, "t1-c16", [20, 40])
    with live.path(study, "t1-c16").open("a") as file:
        file.write('[40, "gpu_memory_gb", 2.5, 1004000]\n')
    assert live.Follower().look(study) == 5 and live.Follower().look(study) == 5
    run, points = drawn(study, "t1-c16")
    assert len(points) == 2 and run.data.metrics["system/gpu_0_memory_usage_megabytes"] == 2500
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{local.STORE.absolute()}")
    (tmp_path / "colleague").mkdir()
    monkeypatch.chdir(tmp_path / "colleague")
    write(study, "t1-c16", [20])
    live.Follower().look(study)
    there = store.existing(store.connect(), study, "trainings")["t1-c16"]
    assert len(there) == 2 and run.info.run_id in [each.info.run_id for each in there], "what runs elsewhere stays"


def test_a_training_that_fell_silent_is_shown_as_stopped_until_it_goes_on(study):
    follower, path = live.Follower(), live.path(study, "resnet101")
    (study.artifacts("weights", "resnet101") / records.RECORD).unlink()  # DVC removes a result before it is made again
    write(study, "resnet101", [20])
    follower.look(study)
    os.utime(path, (path.stat().st_mtime - live.SILENT - 1,) * 2)
    follower.look(study)
    assert drawn(study, "resnet101")[0].info.status == "KILLED"
    write(study, "resnet101", [40], mode="a")
    follower.look(study)
    run, points = drawn(study, "resnet101")
    assert run.info.status == "RUNNING" and len(points) == 2 and run.data.tags["dataset"] == "imagenet"


def test_curves_of_a_training_whose_result_came_back_from_the_run_cache_are_none_of_one_that_runs(study):
    folder, path = study.artifacts("runs", "t1-c16"), live.path(study, "t1-c16")
    write(study, "t1-c16", [20])
    assert live.follows(study, "t1-c16")
    records.write(folder, status="done", params={})
    os.utime(folder / records.RECORD, (1, 1))  # as a link to a file of DVC's cache
    assert not live.follows(study, "t1-c16") and live.Follower().look(study) == 0
    os.utime(path, (path.stat().st_mtime + 2,) * 2)  # it is trained again, by hand
    assert live.follows(study, "t1-c16")


def test_a_file_that_belongs_to_no_training_is_forgotten(study):
    follower = live.Follower()
    write(study, "t1-c16", [20])
    follower.look(study)
    live.path(study, "t1-c16").unlink()
    assert follower.look(study) == 0
    mirror.mirror(study)
    assert "t1-c16" not in store.existing(store.connect(), study, "trainings")


def test_what_a_training_left_that_has_no_settings_any_more_is_passed_over(study):
    assert study.training("t6-test") is None
    write(study, "t6-test", [20])
    follower = live.Follower()
    assert follower.look(study) == 0 and not follower.drawn
    write(study, "t1-c16", [20])
    assert follower.look(study) == 2 and list(follower.drawn) == ["t1-c16"]
    later = study.model_copy(update={"runs": study.runs | {"t1-c16": study.runs["t6-test"]}})
    mirror.mirror(later)
    assert "t1-c16" not in store.existing(store.connect(), later, "trainings")


def test_what_the_loop_writes_is_what_is_read(study):
    """The writer's side, with the loop's own class: append, resume in a new process, remove."""
    from torch import nn  # which no other test here needs

    from pipeline.training.checkpoint import Checkpoint
    path = study.artifacts("checkpoints") / "t1-c16.pt"
    history, checkpoint = records.History(), Checkpoint(path, "inputs")
    history.log(20, loss=.5, learning_rate=.1)
    checkpoint.show(history)
    history.log(40, loss=.25)
    checkpoint.show(history)
    lines = [tuple(json.loads(line)) for line in live.path(study, "t1-c16").read_text().splitlines()]
    assert lines == history.rows and len(lines) == 3
    resumed, history.rows = Checkpoint(path, "inputs"), history.rows[:2]
    history.log(40, loss=.3)
    resumed.show(history)
    lines = [tuple(json.loads(line)) for line in live.path(study, "t1-c16").read_text().splitlines()]
    assert lines == history.rows
    resumed.live.unlink()
    resumed.live.mkdir()  # it cannot be written
    resumed.show(history)
    resumed.live.rmdir()
    resumed.show(history)
    resumed.finish(nn.Linear(1, 1), study.artifacts("runs", "t1-c16") / records.MODEL)
    assert not live.path(study, "t1-c16").exists()
