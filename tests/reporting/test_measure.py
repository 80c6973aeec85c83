"""What was measured for a cell, against plain arithmetic on its facts; and when it is not measured."""
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import records, study as studies
from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.evaluation import measure, metrics
from pipeline.paper.rows import Row
from pipeline.reporting import runs
from pipeline.study import StudyError
from tests import changed, shipped
from tests.processes import proc
from tests.reporting import fake_study
from tests.reporting.measured import draws, score, scoring
from tests.shards import shard


def small(tmp_path, monkeypatch):
    """A study of one network in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    study = changed.of_runs(studies.load(), "t2-x2")
    fake_study.write(study, images=2, size=33)
    return study


def test_scores_curves_and_intervals_of_a_cell(study):
    """Also where the classes that count were changed since."""
    facts = metrics.Facts.read(study.artifacts("facts", "t2-x2") / "facts.parquet")
    sample = draws(len(facts.images))
    for classes in (None, ("background", "car", "boat")):
        told, only = scoring(study, classes), classes and [fake_study.CLASSES.index(name) for name in classes]

        def expected(strategy, bands=None, only=only):
            matrices = metrics.confusion(facts, strategy, len(fake_study.CLASSES), bands, by="image")
            return [score(matrices.sum(0), only), *np.percentile(score(np.tensordot(sample, matrices, 1), only), [2.5, 97.5])]
        for strategy in ("os16", "os8-ms"):
            found = measure.scores(told, "t2-x2", strategy)
            assert [found[name] for name in ("miou", "miou_low", "miou_high")] == pytest.approx(expected(strategy))
        curves = measure.trimap(told, "t2-x2", "os16", intervals=True)
        for place in range(len(TRIMAP_WIDTHS)):
            found = [curves[name][place] for name in ("trimap_miou", "trimap_low", "trimap_high")]
            assert found == pytest.approx(expected("os16", range(place + 1))), place
        assert measure.trimap(told, "t2-x2", "os16", intervals=False) == {"trimap_miou": curves["trimap_miou"]}


def test_a_trimap_that_begins_with_nothing_is_none(tmp_path, monkeypatch):
    study = small(tmp_path, monkeypatch)
    path = study.artifacts("facts", "t2-x2") / "facts.parquet"
    facts = pq.read_table(path)
    bands = pa.array([5] * len(facts), pa.uint8())
    pq.write_table(facts.set_column(facts.column_names.index("band"), "band", bands), path)
    assert measure.trimap(study, "t2-x2", "os16", intervals=True) == {}


def test_facts_without_their_run_are_not_measured(tmp_path, monkeypatch):
    """It is being trained again."""
    monkeypatch.chdir(tmp_path)
    study, row = shipped.study(), Row("own", {}, "t2-x2", "os16")
    records.write(study.artifacts("facts", "t2-x2"), status="done")
    assert measure.status(study, row) == "not run: dvc repro evaluate@t2-x2 has not been run yet"
    records.write(study.artifacts("runs", "t2-x2"), status="done")
    assert measure.status(study, row) == "measured"
    records.write(study.artifacts("runs", "t2-x2"), status="skipped", reason="its start is gone")
    assert measure.status(study, row) == "not run: its start is gone"


@pytest.mark.parametrize("started", [None, 1.0, 1e12], ids=["untimed", "brought back", "again"])
def test_facts_of_another_training_are_not_measured(tmp_path, monkeypatch, started):
    """Of a later one, or of an earlier one that DVC has brought back, as an edit was undone, before its facts."""
    study, row = small(tmp_path, monkeypatch), Row("own", {}, "t2-x2", "os16")
    assert measure.status(study, row) == "measured" and runs.evaluated(study, "t2-x2")
    folder = study.artifacts("runs", "t2-x2")
    records.write(folder, **records.read(folder) | {"provenance": {"started": started}})
    assert measure.status(study, row) == "not run: what was evaluated is another training of it: dvc repro evaluate@t2-x2"
    assert not runs.evaluated(study, "t2-x2")


def test_facts_from_before_they_said_of_which_training_are_measured(tmp_path, monkeypatch):
    """Else make report, after a git pull, replaced a study's report by one of nothing."""
    study = small(tmp_path, monkeypatch)
    record = records.read(folder := study.artifacts("facts", "t2-x2"))
    del record["params"]["trained"]
    records.write(folder, **record)
    assert measure.status(study, Row("own", {}, "t2-x2", "os16")) == "measured" and runs.evaluated(study, "t2-x2")


def test_facts_of_other_images_are_no_measurement(tmp_path, monkeypatch):
    """A paired bootstrap of one run on the images of before, another on those of now, would say something of neither."""
    study = small(tmp_path, monkeypatch)
    assert measure.scores(study, "t2-x2", "os16")
    others = [Example(f"other-{number}", np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), np.full((9, 9), 255, np.uint8))
              for number in range(3)]
    shard(Shard.of(study, "voc", "val").path, others, fake_study.CLASSES)
    with pytest.raises(StudyError, match="facts.parquet is of other images than voc has now .*: dvc repro evaluate@t2-x2"):
        measure.scores(study, "t2-x2", "os16")


def test_what_a_scale_cannot_train_is_not_advised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert measure.status(changed.at("own-data"), Row("table1", {}, "t1-c8", "os16")).startswith("not run: scale own-data has no resnet101")


@pytest.mark.parametrize("os16, os8", [("os16", "stride8"), ("os8", "os16")], ids=["renamed", "swapped"])
def test_a_strategy_is_known_by_what_it_is(study, os16, os8):
    """DVC sees no change where names change, so nothing is evaluated again."""
    names = {"os16": os16, "os8": os8}
    other = study.model_copy(update={"strategies": {names.get(name, name): how for name, how in study.strategies.items()}, "evaluate": {
        run: tuple(names.get(name, name) for name in some) for run, some in study.evaluate.items()}})
    assert measure.scores(other, "t2-x2", os8) == measure.scores(study, "t2-x2", "os8") != measure.scores(study, "t2-x2", "os16")
    assert measure.ranked(other, "t2-x2", os8) == measure.ranked(study, "t2-x2", "os8")
    assert measure.label_maps(other, "t2-x2", os16) == measure.label_maps(study, "t2-x2", "os16") and not measure.label_maps(other, "t2-x2", os8)
    assert not measure.outdated(other, "t2-x2")


def test_a_strategy_that_has_become_another_is_not_measured(study):
    other = study.model_copy(update={"strategies": study.strategies | {"os16": study.strategies["os16"].model_copy(update={"flip": True})}})
    with pytest.raises(StudyError, match="facts.parquet knows no strategy os16: dvc repro evaluate@t2-x2"):
        measure.read_facts(other, "t2-x2")


def test_facts_that_were_skipped_say_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = shipped.study()
    records.write(study.artifacts("runs", "t2-x2"), status="done")
    records.write(study.artifacts("facts", "t2-x2"), status="skipped", reason="no images")
    assert measure.status(study, Row("own", {}, "t2-x2", "os16")) == "not run: no images"


def test_facts_that_were_counted_again_are_read_again(tmp_path, monkeypatch):
    study = small(tmp_path, monkeypatch)
    path = study.artifacts("facts", "t2-x2") / "facts.parquet"
    before, facts = measure.scores(study, "t2-x2", "os16")["miou"], pq.read_table(path)
    pq.write_table(facts.set_column(4, "prediction", facts["target"]), path)
    assert before < measure.scores(study, "t2-x2", "os16")["miou"] == 100


def test_images_are_opened_once_and_again_when_they_are_others(tmp_path, monkeypatch):
    study, opened = small(tmp_path, monkeypatch), []
    monkeypatch.setattr(measure, "Shard", lambda path: opened.append(path) or Shard(path))
    for strategy in study.evaluate["t2-x2"]:
        measure.scores(study, "t2-x2", strategy)
    path, = opened
    with Writer(path, "voc", fake_study.CLASSES) as writer:
        writer.add(Example("other", np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)))
    with pytest.raises(StudyError, match="is of other images than voc has now"):
        measure.scores(study, "t2-x2", "os16")
    assert opened == [path, path]


@proc
def test_images_are_not_kept_open_by_a_mirror_that_lives_long(tmp_path, monkeypatch):
    """`make ui` reads scores: prepare deletes the shard that it makes anew, whose space the system frees when nobody has it open."""
    study, opened = small(tmp_path, monkeypatch), Path("/proc/self/maps")
    measure.scores(study, "t2-x2", "os16")
    assert str(tmp_path) not in opened.read_text()
    measure.shard(study, "t2-x2")  # for a report, which ends
    assert str(tmp_path) in opened.read_text()
