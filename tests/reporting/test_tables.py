"""reports/tables against the paper's own tables: rows, order, columns, numbers."""
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import ndimage

from pipeline import paper, schema
from pipeline.datasets.shards import Shard
from pipeline.datasets.trimap import BANDS, TRIMAP_WIDTHS
from pipeline.evaluation import metrics
from pipeline.evaluation.measure import read_facts
from pipeline.paper.rows import Row
from pipeline.reporting import context, tables
from tests.reporting import fake_study
from tests.reporting.measured import measured


@pytest.fixture
def built(study):
    return tables.build(study, measured(study))


def test_one_row_per_row_of_the_paper_in_its_order(built):
    assert list(built) == [name for name in paper.tables() if name != "zoo"]  # which belongs to scale zoo
    for name, published in paper.tables().items():
        if name == "zoo":
            continue
        lines = built[name].to_pylist()
        if name == "figure5":
            expected = [(row["curve"], width, value) for row in published.rows for width,
                        value in zip(published.widths, row["miou"])]
            assert [(line["curve"], line["width"], line["miou_paper"]) for line in lines] == expected
            continue
        assert len(lines) == len(published.rows)
        for line, row in zip(lines, published.rows):
            assert line.get("miou_paper") == row.get("miou") and line.get("madds_paper") == row.get("madds")
            ours = {"miou", "top1_error", "top5_error", "strategy", "status", "note", "run"}
            assert all(line[key] == value for key, value in row.items() if key in line and key not in ours)
            assert all(line[f"{key}_paper"] == row[key] for key in ("top1_error", "top5_error") if key in row)
            assert line["status"] == "measured" or line["status"].startswith("not run: ") or line["status"] == row["status"]


def test_columns_that_people_rely_on(built):
    for name in ("table1", "table2", "table3", "table5", "table6", "table7a", "table7b"):
        assert {"run", "strategy", "miou_paper", "miou", "miou_low", "miou_high", "madds_paper", "madds_counted_as_paper",
                "madds_executed",
                "status"} <= set(built[name].column_names)
        assert str(built[name].schema.field("miou").type) == "double"  # also where no row is measured
        assert {str(built[name].schema.field(column).type) for column in ("run", "strategy", "note")} == {"string"}
    assert {"top1_error", "top1_error_paper", "top5_error", "top5_error_paper", "status"} <= set(built["table4"].column_names)
    assert len(built["figure5"]) == 4 * 14


def test_numbers_are_those_of_the_facts(study, built):
    line = built["table3"].to_pylist()[8]
    assert (line["run"], line["strategy"]) == ("t2-x2", "os8-ms")
    facts = metrics.Facts.read(study.artifacts("facts", "t2-x2") / "facts.parquet")
    assert line["miou"] == float(metrics.miou(metrics.confusion(facts, "os8-ms", len(fake_study.CLASSES))))
    assert line["miou_low"] < line["miou"] < line["miou_high"]
    near = built["figure5"].to_pylist()[14]
    assert (near["curve"], near["width"]) == ("ResNet-101 with decoder", 1)
    assert near["miou"] == float(metrics.miou_within(metrics.confusion(facts, "os16", len(fake_study.CLASSES), by="band"))[0])
    assert near["miou_low"] <= near["miou"] <= near["miou_high"]


def test_table4_has_the_errors_and_parameters_of_the_record(built):
    lines = [line for line in built["table4"].to_pylist() if line["status"] == "measured"]
    assert {line["backbone"] for line in lines} == {"resnet101", "xception65"}
    for line in lines:
        top1 = 41.5 if line["backbone"] == "resnet101" else 38.25
        assert (line["top1_error"], line["top5_error"], line["parameters_here"]) == (top1, 9.5, 0.3)  # fake_study._weights


def test_the_other_trimap_is_beside_figure5_and_on_the_page(study, built):
    lines = [line for line in built["figure5"].to_pylist() if line["curve"] == "ResNet-101 with decoder"]
    kept = pq.read_table(study.artifacts("facts", "t2-x2") / "labels.parquet")
    shard = Shard(study.artifacts("shards", "voc") / "val.arrow")
    hits, unions = (np.zeros((14, 256), np.int64) for _ in range(2))
    for name, png in zip(kept["image"].to_pylist(), kept["png"].to_pylist()):
        label, guess = shard[shard.ids.index(name)].label, np.asarray(Image.open(io.BytesIO(png)))
        for place, width in enumerate(TRIMAP_WIDTHS):
            near = ndimage.maximum_filter(label == 255, 2 * width + 1, mode="constant") & (label != 255)
            for kind in range(len(fake_study.CLASSES)):
                hits[place, kind] += ((label == kind) & (guess == kind) & near).sum()
                unions[place, kind] += (((label == kind) | (guess == kind)) & near).sum()
    for place, line in enumerate(lines):
        seen = unions[place] > 0
        assert line["miou_square"] == pytest.approx(100 * (hits[place][seen] / unions[place][seen]).mean())
    found = context._squares(built["figure5"].to_pylist())
    assert [network for network, *_ in found["gains"]] == ["ResNet-101", "Xception"] and found["narrow"] == 1
    other = next(line for line in built["figure5"].to_pylist() if line["curve"] == "ResNet-101 with BU")
    assert found["gains"][0][2] == pytest.approx(lines[0]["miou_square"] - other["miou_square"])
    assert context._squares([line | {"miou_square": None} for line in lines]) is None


def test_without_void_there_is_no_other_trimap(study, monkeypatch):
    bands = np.zeros((1, BANDS, 9, 9), np.int64)
    bands[:, -1] = metrics.confusion(read_facts(study, "t2-x2"), "os16", 9)
    monkeypatch.setattr(tables.square_trimap, "recounted", lambda *_: bands)
    assert tables._squares(study, [Row("figure5", {}, "t2-x2", "os16")]) == {"t2-x2/os16": {}}


def test_rows_without_a_measurement_say_why(built):
    table1 = built["table1"].to_pylist()
    assert table1[1]["miou"] is None and table1[1]["status"] == "not run: dvc repro evaluate@t1-c16 has not been run yet"
    assert table1[0]["status"] == "measured"
    private = built["table5"].to_pylist()[-1]
    assert private["status"] == "needs JFT-300M, which is private" and private["run"] is None and private["miou"] is None
    assert private["madds_executed"] == built["table5"].to_pylist()[19]["madds_executed"]  # the same network: its cost is known
    assert {line["status"] for line in built["table7b"].to_pylist()} == {
        "another group's method", "the authors' earlier network", "test server: only the Cityscapes evaluation server can score it"}


def test_same_inputs_same_bytes_and_old_tables_go(built, tmp_path):
    for name in "ab":
        tables.save(built, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    (tmp_path / "a" / "own.parquet").write_bytes(b"of an earlier study")
    tables.save(built, tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"metrics.json"} | {f"{name}.{kind}" for name in built
                                                                                     for kind in ("parquet", "csv", "tex")}
    assert pq.read_table(tmp_path / "a/table1.parquet").equals(built["table1"])


def test_dvc_has_each_score_once_by_run_and_strategy(built, tmp_path):
    tables.save(built, tmp_path)
    found = json.loads((tmp_path / "metrics.json").read_text())
    lines = [line for name in ("table1", "table3", "table5", "table7a") for line in built[name].to_pylist() if line["miou"] is not None]
    assert len(lines) > 20
    for line in lines:
        assert found[line["run"]][line["strategy"]] == pytest.approx(line["miou"], abs=1e-4)
    errors = {line["backbone"]: {name: pytest.approx(line[name], abs=1e-4) for name in ("top1_error", "top5_error")}
              for line in built["table4"].to_pylist() if line["top1_error"] is not None}
    assert {name: scores for name, scores in found.items() if "top1_error" in scores} == errors != {}
    assert not {"t1-c16", "t3-os32-dec"} & set(found), "not measured"


def test_a_test_servers_score_stands_beside_that_of_val(study):
    score = schema.ServerScore(run="t7-x71", strategy="os16", miou=82.1)
    scored = study.model_copy(update={"test_scores": {study.scale: {"cityscapes": score}}})
    before, after = (tables.dvc_metrics(tables.build(one, measured(one)))["t7-x71"] for one in (study, scored))
    assert after == before | {"os16 (test)": 82.1} and before["os16"] != 82.1
    line = next(line for line in tables.build(scored, measured(scored))["table7b"].to_pylist() if line["run"])
    assert (line["miou"], line["miou_low"], line["miou_high"]) == (82.1, None, None), "val's interval is not the test set's"
    assert line["note"] == "t7-x71 was trained on the split train"


def test_what_is_measured_but_not_in_mlflow_says_so(study):
    built = tables.build(study, {})
    line = next(line for line in built["table2"].to_pylist() if line["run"] == "t2-x2")
    assert line["miou"] is None and line["status"].startswith("not run: MLflow has no such run")
    assert {(line["top1_error"], line["parameters_here"]) for line in built["table4"].to_pylist()} == {(None, None)}


def test_a_run_of_ones_own_has_a_table(study):
    runs = study.runs | {"mine": study.runs["t2-x2"].model_copy(update={"low_level_channels": 24})}
    own = study.model_copy(update={"runs": runs, "evaluate": study.evaluate | {"mine": ("os16",)}})
    (line,) = tables.build(own, {})["own"].to_pylist()
    assert (line["label"], line["run"]) == ("mine/os16", "mine")
    assert line["status"] == "not run: dvc repro evaluate@mine has not been run yet"
