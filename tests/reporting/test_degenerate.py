"""Studies with too little to score: one image, labels without void, a network that diverged. They have a report, without nan."""
import importlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import records, study as studies
from pipeline.reporting import error_rates, ledger, page, run_charts, runs, tables
from pipeline.study import StudyError
from tests import changed
from tests.reporting import fake_study
from tests.reporting.measured import compiled, report
from tests.reporting.reader import Reader

RUNS = ("t2-x2", "t3-os16-nodec")


def written(tmp_path, monkeypatch, images):
    """A study of two networks in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    study = changed.of_runs(studies.load(), *RUNS)
    fake_study.write(study, images=images, size=49)
    return study


def judged(study):
    """The ledger's lines that compare both networks; after the whole report was written."""
    for path in report(study):
        if path.suffix in (".html", ".md"):
            assert " nan" not in (text := path.read_text()) and ">nan" not in text and "+nan" not in text, path
    return {line["id"]: line for line in tables.load()["claims"] if line["a"] == "t2-x2/os16"
            and line["b"] == "t3-os16-nodec/os16"}


def test_one_image_decides_nothing_and_has_no_interval(tmp_path, monkeypatch):
    study = written(tmp_path, monkeypatch, images=1)
    lines = judged(study)
    said = {name: (line["verdict"], line["reason"]) for name, line in lines.items() if line["measure"] != "madds"}
    assert {"decoder-resnet", "boundary-resnet"} <= said.keys()
    assert set(said.values()) == {("not run", "it takes two evaluation images at least, and for a trimap labels with void")}
    assert lines["decoder-cost"]["verdict"] != "not run"  # counted, not measured
    line = next(line for line in tables.load()["table3"] if line["run"] == "t2-x2")
    assert line["miou"] > 0 and line["miou_low"] is None and line["status"] == "measured"
    curve = [line for line in tables.load()["figure5"] if line["miou"] is not None]
    assert curve and all(line["miou_low"] is None for line in curve)
    scores = {cells[0]: cells[3] for cells in Reader((tmp_path / "reports/runs/t2-x2.html").read_text()).tables["scores"]}
    assert scores["os16"] == f"{line['miou']:.2f}"


def test_one_image_of_imagenet_decides_nothing(tmp_path, monkeypatch):
    study = written(tmp_path, monkeypatch, images=2)
    monkeypatch.setattr(error_rates.Shard, "__len__", lambda _: 1)
    found = ledger.judge(study, ledger.claims()["imagenet-xception"])
    assert found["verdict"] == "not run" and "two evaluation images" in found["reason"]


def test_labels_without_void_have_no_trimap(tmp_path, monkeypatch):
    study = written(tmp_path, monkeypatch, images=4)
    for run in RUNS:
        path = study.artifacts("facts", run) / "facts.parquet"
        facts = pq.read_table(path)
        facts = facts.set_column(facts.column_names.index("band"), "band", pa.array([14] * len(facts), pa.uint8()))
        pq.write_table(facts, path)
    lines = judged(study)
    assert lines["boundary-resnet"]["verdict"] == "not run" and "labels with void" in lines["boundary-resnet"]["reason"]
    assert lines["decoder-resnet"]["effect"] is not None


@pytest.mark.parametrize("values, drawn", [((float("nan"), 40.0, 50.0), 2), ((float("inf"), float("nan"), 50.0), 1)])
def test_a_network_that_has_diverged_is_drawn_where_it_has_numbers(tmp_path, monkeypatch, values, drawn):
    study = written(tmp_path, monkeypatch, images=3)
    history = records.History()
    for step, value in enumerate(values):
        history.log(step, miou=value, loss=1.0)
    history.save(study.artifacts("runs", "t2-x2"))
    judged(study)
    found = runs.history(study, "t2-x2")
    assert found["miou"] == list(enumerate(values))[-drawn:] and len(run_charts.learning(found)) == drawn


@pytest.mark.parametrize("skipped", [False, True])
@pytest.mark.parametrize("stage", ["compile", "report"])
def test_where_nothing_was_evaluated_the_report_that_is_there_stays(tmp_path, monkeypatch, stage, skipped):
    """A fresh clone has the committed one, and the evaluations that come first may be those that a scale skips."""
    monkeypatch.chdir(tmp_path)
    if skipped:
        records.write(studies.load().artifacts("facts", "own-mobilenet"), status="skipped", reason="no such backbone")
    before = len(list(tmp_path.rglob("*")))
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/index.html").write_text("the committed one")
    with pytest.raises(StudyError, match="nothing has been evaluated here at scale"):
        importlib.import_module(f"stages.{stage}").main()
    assert (tmp_path / "reports/index.html").read_text() == "the committed one" and len(list(tmp_path.rglob("*"))) == before + 2


def test_the_tables_of_another_scale_are_not_shown(tmp_path, monkeypatch):
    study = written(tmp_path, monkeypatch, 3)
    compiled(study)
    (tmp_path / "reports/index.html").write_text("the one of before")
    with pytest.raises(StudyError, match="reports/tables has tables of scale miniature, not of tiny: make report"):
        page.write(study.model_copy(update={"scale": "tiny"}))
    assert (tmp_path / "reports/index.html").read_text() == "the one of before"


def test_a_run_that_is_no_longer_evaluated_is_shown_as_trained(tmp_path, monkeypatch):
    study = written(tmp_path, monkeypatch, 3)
    report(study.model_copy(update={"evaluate": {"t2-x2": study.evaluate["t2-x2"]}}))
    page_of_it = (tmp_path / "reports/runs/t3-os16-nodec.html").read_text()
    assert "class=\"confusion" not in page_of_it and (tmp_path / "reports/index.html").exists()
