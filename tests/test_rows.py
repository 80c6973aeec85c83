"""The paper's tables beside the settings: each row has its run and strategy, and the published numbers are the paper's."""
import pytest
import yaml

from pipeline import paper, study as studies
from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.paper import rows
from pipeline.study import ROOT, StudyError
from tests import shipped


def test_a_row_of_the_paper_without_its_run_or_strategy_is_named():
    study = studies.load()
    fewer = tuple(name for name in study.evaluate["t2-x2"] if name != "os16-ms")
    with pytest.raises(StudyError, match=r"tables\.yaml: table3\.rows\[5\]\.strategy: evaluate\.t2-x2 in params\.yaml lacks 'os16-ms'"):
        paper.check(study.model_copy(update={"evaluate": study.evaluate | {"t2-x2": fewer}}))
    without = {name: run for name, run in study.runs.items() if name != "t2-x3"}
    with pytest.raises(StudyError, match=r"table2\.rows\[2\]\.run: there is no run 't2-x3' in params\.yaml"):
        paper.check(study.model_copy(update={"runs": without}))


@pytest.mark.parametrize("row, message", [
    ({"channels": 24, "miou": 1.0, "run": "t2-x2"}, r"table1\.rows\[5\]\.strategy: evaluate\.t2-x2 in params\.yaml lacks None"),
    ({"chanels": 24, "run": "t2-x2", "strategy": "os16"}, r"table1\.rows\[5\]: unlike the table's first row, it has chanels, lacks channels"),
    ({"channels": 24, "run": "t2-x2", "strategy": "os16", "width": 1}, r"table1\.rows\[5\]: unlike .* it has width"),
])
def test_a_mistake_in_a_row_is_named(monkeypatch, row, message):
    tables, table = paper.tables(), paper.tables()["table1"]
    changed = tables | {"table1": table.model_copy(update={"rows": (*table.rows, row)})}
    monkeypatch.setattr(paper, "tables", lambda: changed)
    with pytest.raises(StudyError, match=message):
        paper.check(studies.load())


def test_a_table_that_the_paper_does_not_have_is_named(monkeypatch):
    changed = paper.tables() | {"mine": paper.tables()["table1"]}
    monkeypatch.setattr(paper, "tables", lambda: changed)
    with pytest.raises(StudyError, match="^tables.yaml: mine: no table of the paper"):
        rows.rows(studies.load())


def test_the_study_covers_the_paper_and_trains_each_network_once():
    study = studies.load()
    paper.check(study)
    named = {row["run"] for table in paper.tables().values() for row in table.rows if "run" in row}
    assert named | shipped.OTHERS <= set(study.runs)
    assert set(study.runs) - named - shipped.OTHERS <= set(study.evaluate), "a run that no table has, not even that of one's own"


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table5", "table7a"])
def test_a_row_is_measured_by_the_network_and_the_inference_that_it_names(name):
    """Else a row's number would be another network's. What a table's rows do not say, its caption does."""
    study, city, scales = studies.load(), name == "table7a", (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    for row in paper.tables()[name].rows:
        run, how = study.runs[row.get("run", row.get("same_network_as"))], study.strategies[row["strategy"]]
        start = study.runs[run.start_run].dataset if run.start_run else "imagenet"
        decoder = row.get("conv", "[3x3,256]" if name == "table1" else "[3x3,256]x2") if row.get("dec", True) else "none"
        backbone = {"X-71": "xception71", "X-65": "xception65"}[row["backbone"]] if city else "xception65" if name == "table5" else "resnet101"
        assert (run.dataset, run.backbone, run.output_stride) == ("cityscapes" if city else "voc", backbone, row.get("train_os", 16)), row
        assert (run.decoder, run.low_level_channels) == (decoder, row.get("channels", 48)), row
        assert run.low_level == (("conv2", "conv3") if row.get("conv3") else ("conv2",)), row
        assert (run.separable, run.image_level, run.atrous) == (row.get("sc", city), row.get("image_level", True), True), row
        assert (start, run.recipe) == (("coco", "fine_tune") if row.get("coco") else ("imagenet", "train")), row
        assert (how.output_stride, how.scales, how.flip) == (row.get("eval_os", 16), scales if row.get("ms") else (1.0,), row.get("flip", False)), row


def test_the_published_numbers_are_those_of_the_shared_transcript():
    path = ROOT.parent / "shared/paper/tables.yaml"
    if not path.exists():
        pytest.skip("the transcript of the paper's tables is not beside the project")
    shared, ours = yaml.safe_load(path.read_text()), paper.tables()
    for name, theirs in shared.items():
        table = name.split("_")[0]
        if table in ours and table != "figure5a":
            columns = {"top1_err": "top1_error", "top5_err": "top5_error"}
            for row, published in zip(ours[table].rows, theirs["rows"], strict=True):
                for key, value in published.items():
                    if key == "note":  # words of ours
                        continue
                    assert row[columns.get(key, key)] == value, (name, key)
    for row, published in zip(ours["zoo"].rows, shared["model_zoo"]["rows"], strict=True):
        miou = next(value for key, value in published.items() if key.startswith("miou"))
        scales = {"[1.0]": "1", "0.5:0.25:1.75": "0.5 to 1.75", "[0.75, 1.0, 1.25]": "0.75 to 1.25", "0.75:0.25:2": "0.75 to 2"}
        assert (row["model"], row["eval_os"], row["flip"], row["madds"], row["miou"], row["scales"]) == (
            published["ckpt"], published["eval_os"], published["flip"], published["madds"], miou, scales[str(published["scales"])])
    figure = shared["figure5a_trimap"]
    assert [list(row["miou"]) for row in ours["figure5"].rows] == [figure[key] for key in
            ("xception_decoder", "resnet101_decoder", "xception_bu", "resnet101_bu")]
    assert list(TRIMAP_WIDTHS) == figure["widths"] == list(ours["figure5"].widths)
