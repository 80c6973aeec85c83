"""The page of each run: there for all of them, whole without a network, with the run's own numbers, and a way to run just it."""
import re
from urllib.parse import unquote

import pytest
import yaml

from pipeline import paper, records, schema, study as studies
from pipeline.evaluation import metrics
from pipeline.reporting import ledger, page, pictures, run_pages, tables
from pipeline.training import batch_norm
from tests.reporting import fake_study
from tests.reporting.conftest import with_own
from tests.reporting.measured import measured
from tests.reporting.reader import Reader


@pytest.fixture
def home(reported, monkeypatch):
    monkeypatch.chdir(reported)
    return reported


@pytest.fixture
def study(home):
    return with_own()


def read(home, run):
    return (home / f"reports/runs/{run}.html").read_text()


def test_every_run_has_a_small_page_and_every_row_of_the_report_leads_there(home, study):
    pages = {path.stem: path for path in (home / "reports/runs").iterdir()}
    trained = {name for name, run in study.runs.items() if not run.published}
    assert set(pages) == trained  # published networks are of scale zoo
    assert max(path.stat().st_size for path in pages.values()) < 250_000
    index = Reader((home / "reports/index.html").read_text())
    linked = {unquote(link)[5:-5] for link in index.links if link.startswith("runs/")}
    assert linked == trained
    for run, path in pages.items():
        found = Reader(path.read_text())
        assert all(source.startswith("data:") for source in found.sources)
        assert f"../index.html#run-{run}" in found.links and len(found.ids) == len(set(found.ids))
        for link in found.links:
            target, _, anchor = link.partition("#")
            ids = found.ids if not target else index.ids if target == "../index.html" else [anchor]
            assert (not target or (path.parent / unquote(target)).exists()) and anchor in ids, (run, link)


def test_the_heads_of_figure_5_lead_to_the_runs(home):
    index = (home / "reports/index.html").read_text()
    for row in paper.tables()["figure5"].rows:
        assert f'<a href="runs/{row["run"]}.html">{row["curve"]}</a></th>' in index


def test_pages_of_runs_that_are_gone_go(home, study, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/gone.html").write_text("of an earlier study")
    page.write(study, tmp_path)
    assert not (tmp_path / "runs/gone.html").exists() and (tmp_path / "runs/mine.html").exists()


def test_the_yaml_of_a_page_is_the_run(home, study):
    raw = yaml.safe_load((studies.ROOT / "params.yaml").read_text())
    for run in ("t2-x2", "t2-conv3", "coco-x65", "mine", "mobilenetv2_coco_voc_trainaug"):
        lines = yaml.safe_load(run_pages.commands(study, run)["yaml"].replace("[*", "[").replace(", *", ", "))  # aliases of another part
        kind = "zoo" if run.startswith("mobilenet") else "runs"
        assert schema.Run.model_validate(lines[kind][run]) == study.runs[run]
        assert lines.get("evaluate", {}).get(run, ()) == list(study.evaluate.get(run, [])) or run == "coco-x65"
        studies.Study.model_validate(raw | {kind: raw[kind] | lines[kind]})
    assert "<code>dvc repro evaluate@mine</code>" in read(home, "mine")
    assert "<code>dvc repro train@coco-x65</code>" in read(home, "coco-x65")
    assert "evaluate@mobilenetv2_coco_voc_trainaug" in run_pages.commands(study, "mobilenetv2_coco_voc_trainaug")["stage"]
    assert run_pages.commands(study, "mobilenetv2_coco_voc_trainaug")["made"] == "fetch@mobilenetv2_coco_voc_trainaug"


def test_settings_say_what_differs(home):
    rows = {cells[0]: cells[1:] for cells in Reader(read(home, "t5-sc")).tables["settings"]}
    assert rows["● separable"] == ["yes", "no"] and rows["● backbone"] == ["xception65", "resnet101"]
    assert rows["output_stride"] == ["16", "16"]
    assert not [name for name in Reader(read(home, "t2-x2")).tables["settings"] if name[0].startswith("●")]


def test_numbers_are_those_of_the_facts(home, study):
    shown = Reader(read(home, "t2-x2")).tables
    facts = metrics.Facts.read(study.artifacts("facts", "t2-x2") / "facts.parquet")
    confusion = metrics.confusion(facts, "os16", len(fake_study.CLASSES))
    scores = {cells[0]: cells[3].split("[")[0] for cells in shown["scores"][1:]}
    assert list(scores.items()) == [(name, f"{float(metrics.miou(metrics.confusion(facts, name, len(fake_study.CLASSES)))):.2f}")
                                    for name in study.evaluate["t2-x2"]]
    start = next(place for place, cells in enumerate(shown["classes"]) if cells[0] == "Truth")
    heads, *matrix = shown["classes"][start:]
    assert len(matrix) == len(heads) - 2
    for cells in matrix:
        kind = fake_study.CLASSES.index(cells[0])
        share = 100 * confusion[kind, kind] / confusion[kind].sum()
        assert cells[heads.index(cells[0])] == (f"{share:.0f}" if share >= 0.5 else "")
        assert int(cells[-1].replace("\u2009", "")) == confusion[kind].sum()
    iou = {cells[0]: cells[1] for cells in shown["classes"][1:start]}
    assert iou["cat"] == f"{metrics.per_class_iou(confusion)[1]:.1f}"


def test_pictures_curves_and_where_it_is_found(home, study):
    text = read(home, "t2-x2")
    assert "Most improved over t3-os16-nodec" in text and "Most improved" not in read(home, "t1-c8")
    assert text.count("<figure><svg") == 5  # loss, mIOU, learning rate, images a second; trimap
    assert text.count(">errors</div>") == 3 * run_pages.COUNT
    assert pictures.without_decoder(study, "t5-dec") == "t5-nodec" and pictures.without_decoder(study, "t1-c8") is None
    assert "its rows in <i>Table 2</i>, <i>Table 3</i>, <i>Figure 5</i>" in text and "0" * 40 in text
    ledger_ids = re.findall(r"index.html#claim-([\w-]+)", text)
    assert "decoder-resnet" in ledger_ids and "decoder-xception" not in ledger_ids


def test_a_run_that_was_not_trained_says_so_and_how(home, study):
    assert study.skipped("own-mobilenet") and "at a scale that has what this one lacks, <code>dvc repro" in read(home, "own-mobilenet")
    assert f"<b>Not trained:</b> {study.skipped('own-mobilenet')}" in read(home, "own-mobilenet")
    assert "what this one lacks" not in read(home, "t1-c16")
    text = read(home, "t1-c16")
    assert "<b>Not trained:</b> not trained yet" in text and "dvc repro evaluate@t1-c16" in text
    assert "Confusion matrix" not in text and 'id="pictures"' not in text


def test_runs_and_strategies_of_ones_own_have_a_table_and_rows_not_run_their_command(home):
    index = (home / "reports/index.html").read_text()
    heads, _, *rows = Reader(index).tables["own"]
    assert heads[2] == "mIOU (%)", "nothing of the paper's, which has no such rows"
    assert [cells[:2] for cells in rows] == [["t1-c48", "os8"], ["mine", "os16"], ["mine", "os16-ms"]]
    assert all(re.fullmatch(r"\d\d\.\d\d\[.*\]", cells[2]) for cells in rows)
    section = index.partition('<section id="own"')[2].partition("</section>")[0]
    assert heads.count("Run") == 1 and section.count('<a href="runs/mine.html">mine</a></th>') == 2
    assert "Runs and strategies that params.yaml evaluates and the paper lacks" in index
    assert index.count('<div class="claim">24 channels are no worse than 48.') == 1, "a claim of one's own is none of the paper's"
    shown = {cells[0]: cells[3] for cells in Reader(read(home, "t1-c48")).tables["scores"]}
    assert shown["os8"] == rows[0][2] and "<i>Runs of your own</i>" in read(home, "t1-c48")
    assert "not run yet: <code>dvc repro evaluate@t1-c16</code>" in index


@pytest.mark.parametrize("baseline", [True, False])
def test_runs_of_ones_own_come_first_where_no_row_of_the_paper_is_measured(tmp_path, monkeypatch, baseline):
    monkeypatch.chdir(tmp_path)
    study = studies.load()
    runs = {"t2-x2": study.runs["t2-x2"], "mine": study.runs["t2-x2"].model_copy(update={"low_level_channels": 24})}
    study = study.model_copy(update={"runs": runs, "evaluate": dict.fromkeys(runs, study.evaluate["t2-x2"])})
    fake_study.write(study, images=3, size=49, missing=() if baseline else ("t2-x2",))
    built = tables.build(study, measured(study))
    tables.save({name: table for name, table in built.items() if name != "table4"} | {"claims": ledger.build(study)})
    page.write(study)
    text = (tmp_path / "reports/index.html").read_text()
    order = re.findall(r'<section id="(table\d\w?|own)"', text)
    assert order == (["table1", "table2", "table3", "table5", "table6", "table7a", "table7b", "own"] if baseline else
                     ["own", "table1", "table2", "table3", "table5", "table6", "table7a", "table7b"])
    readme = (tmp_path / "reports/README.md").read_text()
    for whole, claims_head, own in ((text, '<section id="claims"', '<section id="own"'), (readme, "## The paper's claims", "## Runs of your own")):
        assert whole.count(claims_head) == whole.count(own) == 1 and (whole.index(claims_head) < whole.index(own)) == baseline
    assert text.count("no row is measured at scale miniature</summary>") == (0 if baseline else 7)


def test_a_page_says_which_decays_were_used_and_how_much_memory_the_activations_take(home, study):
    text, family = read(home, "t2-x2"), study.backbones["resnet101"]
    steps = records.read(home / study.artifacts("runs", "t2-x2"))["params"]["training"]["steps"]
    for published in (study.training("t2-x2").batch_norm_decay, family.batch_norm_decay):
        assert f"<dd>{batch_norm.decay(published, steps):.6g} ({published}, or 1 − 9 / steps where that is less)" in text
    assert f"<dt>weight decay</dt><dd>{family.weight_decay}" in text and "at os16: 113 MB there, 10.0 MB here" in text
