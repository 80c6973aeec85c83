"""The report: self-contained, the same bytes twice, every row and claim in it, marked as what it is."""
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline import paper, study as studies
from pipeline.evaluation import metrics
from pipeline.paper import claims
from pipeline.reporting import columns, figures, ledger, page, runs, tables
from tests import shipped
from tests.reporting import fake_study
from tests.reporting.measured import report
from tests.reporting.reader import Reader
from tests.reporting.test_pictures import says_what_it_is_not

WITHOUT = ("t1-c16", "t7-x71")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A study with two runs missing, its tables and its report."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("study")
        patch.chdir(folder)
        study = shipped.study()
        fake_study.write(study, images=6, size=49, missing=WITHOUT)
        report(study)
    return folder


@pytest.fixture
def index(home):
    return (home / "reports/index.html").read_text()


def test_self_contained_and_small(home, index):
    read = Reader(index)
    assert all(source.startswith("data:") for source in read.sources)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", index.split("<body>")[0] + index.split("<script>")[1])
    documents = {link for link in read.links if link.startswith("../docs/")}
    assert len(documents) == 5 and all((studies.ROOT / "reports" / link).is_file() for link in documents)
    assert {link for link in read.links if not link.startswith(("#", "runs/"))} - documents == {"https://arxiv.org/abs/1802.02611"}
    assert all((home / "reports" / link).exists() for link in read.links if link.startswith("runs/"))
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))
    assert (home / "reports/index.html").stat().st_size < 1.5e6


def test_every_row_of_the_paper_is_there_in_its_order(index):
    shown = Reader(index).tables
    for name, table in paper.tables().items():
        if name in ("figure5", "zoo"):  # a chart, and a table of scale zoo
            continue
        rows = shown[name][2:]  # two lines of headings
        assert len(rows) == len(table.rows)
        for cells, row in zip(rows, table.rows):
            digits = 1 if name in ("table6", "table7b") else 2  # as published
            assert f"{row.get('miou', row.get('top1_error')):.{digits}f}" in [cell.strip() for cell in cells]
    assert "not run yet: dvc repro evaluate@t1-c16" in " ".join(shown["table1"][3])
    assert "needs JFT-300M, which is private" in " ".join(shown["table5"][-1])


def test_the_rows_are_counted(home, index):
    lines = [line for name, table in tables.load(home / "reports/tables").items() if name not in ("figure5", "claims") for line in table]
    measured_rows = sum(line["status"] == "measured" for line in lines)
    runnable = sum((line["backbone"] if "top1_error" in line else line["run"]) is not None for line in lines)
    assert 0 < measured_rows < runnable < len(lines)
    assert f"<dt>runnable rows measured</dt><dd>{measured_rows} / {runnable}</dd>" in index
    assert f"{measured_rows} of the {runnable} rows that anyone can run are measured." in (home / "reports/README.md").read_text()


def test_every_claim_has_a_verdict_with_a_mark(index):
    rows = [cells for cells in Reader(index).tables["claims"][1:] if cells[0]]
    assert [cells[0] for cells in rows] == [ledger.VERDICTS[verdict] + verdict for verdict in (cells[0][1:] for cells in rows)]
    assert len(rows) == len(claims.claims()) and all(claim.sentence in cells[1] for claim,
                                                     cells in zip(claims.claims().values(), rows))
    assert ledger.RULE.split(",")[0] in index


def test_a_toy_number_never_passes_for_a_result(home, index):
    assert 'class="watermark"' in index and "miniature, not a result" in index and "generated data" in index
    assert "**MINIATURE**: generated data" in (home / "reports/README.md").read_text()
    for path in (home / "reports/runs").iterdir():
        text = path.read_text()
        assert "miniature, not a result" in text and '<aside class="banner"' in text and "generated data and small networks" in text, path.name
    for name in ("figure5", "cost"):
        ours, papers = ((home / f"reports/figures/{name}-{side}.svg").read_text() for side in ("ours", "paper"))
        words, = re.findall(r'<text [^>]*fill="var\(--muted\)">Scale miniature: not a result of the paper&#x27;s experiment</text>', ours)
        left, top, width, height = map(int, re.search(r'viewBox="(.*?)"', ours)[1].split())
        x, y = (int(re.search(rf'{axis}="(.*?)"', words)[1]) for axis in "xy")
        assert left <= x < left + width and top < y < 0, "inside the picture, above the chart"
        assert "not a result" not in papers
    assert "Scale miniature: not a result" not in index, "there the charts stand under the banner"
    pictures = [Image.open(path) for path in (home / "reports/figures").glob("*.png")]
    assert len(pictures) == 5 and all(says_what_it_is_not(picture) for picture in pictures)


def test_the_committed_report_is_of_the_scale_that_is_shipped():
    scale = yaml.safe_load(shipped.committed("params.yaml"))["scale"]
    text = shipped.committed("reports/index.html")
    assert scale == "miniature" and f"at scale <b>{scale}</b>" in text and f"{scale}, not a result" in text
    assert len(text.encode()) < 1.5e6


def test_readme_has_the_same_numbers_and_its_figures_exist(home, index):
    readme = (home / "reports/README.md").read_text()
    for cells in Reader(index).tables["table3"][2:]:
        ours = cells[6].split("[")[0].strip()
        assert f"**{ours}**" in readme
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", readme)
    assert len(pictures) >= 7 and all((home / "reports" / name).stat().st_size > 500 for name in pictures)


def test_names_are_text_in_markdown_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = studies.load()
    names = ("t2-x2", "<b>a|`b", "<i>later")
    study = study.model_copy(update={"runs": dict.fromkeys(names, study.runs["t2-x2"]),
                                     "evaluate": dict.fromkeys(names, study.evaluate["t2-x2"])})
    fake_study.write(study, images=3, size=49, missing=names[2:])
    report(study)
    readme = (tmp_path / "reports/README.md").read_text()
    assert not re.search("<[bi]>", readme) and "<code>dvc repro evaluate@&lt;i&gt;later</code>" in readme
    assert "| [&lt;b&gt;a\\|\\`b](runs/%3Cb%3Ea%7C%60b.html) | os16 |" in readme


def test_what_the_columns_of_a_table_are_called():
    assert columns.measures("table4") == [("top-1 error", "top1_error"), ("top-5 error", "top5_error")]
    line = {"madds_paper": 1, "madds_counted_as_paper": 2, "madds_executed": 3, "madds_here": 4}
    assert columns.costs("table3", [line]) == [("paper", "madds_paper"), ("recounted", "madds_counted_as_paper"), ("executed", "madds_executed")]
    assert columns.costs("own", [{"madds_paper": None, "madds_here": 4}]) == [("here", "madds_here")]


def test_iou_by_class_is_that_of_the_first_strategy(study):
    table = next(each for each in runs.by_class(study) if each["title"] == "Generated, in place of PASCAL VOC 2012")
    _, strategy, scores = next(each for each in table["runs"] if each[0] == "t2-x2")
    assert strategy == study.evaluate["t2-x2"][0]
    facts = metrics.Facts.read(study.artifacts("facts", "t2-x2") / "facts.parquet")
    matrix = metrics.confusion(facts, strategy, len(fake_study.CLASSES))
    kept = [fake_study.CLASSES.index(name) for name in table["names"]]
    hits, either = matrix.diagonal()[kept], (matrix.sum(0) + matrix.sum(1))[kept]
    assert scores == pytest.approx((100 * hits / (either - hits)).tolist())


def test_the_chart_of_costs_has_every_row_that_has_both_numbers():
    for ours in (False, True):
        rows = {name: [row | {"miou_paper": row["miou"], "madds_paper": row["madds"], "madds_here": row["madds"],
                              "label": f"row {number}"} for number, row in enumerate(paper.tables()[name].rows)]
                for name in ("table3", "table5")}
        drawn = "".join(figures.cost(rows, ours).parts).count("</title>")
        assert drawn == sum(len(table) for table in rows.values()) == 38


def test_same_inputs_same_bytes(home, monkeypatch):
    monkeypatch.chdir(home)
    page.write(shipped.study(), Path("again"))
    for path in (home / "again").rglob("*.*"):
        assert path.read_bytes() == (home / "reports" / path.relative_to(home / "again")).read_bytes(), path.name


def test_the_stage_is_quick_and_takes_no_torch(home):
    code = ("import sys; from stages import report; report.main(); "
            "assert not {'torch', 'torchvision', 'timm', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules)")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([sys.executable, "-c", code], cwd=home, env={"PYTHONPATH": str(studies.ROOT), "PATH": ""}, check=True,
                         capture_output=True)
    assert ran.stdout.startswith(b"reports/index.html: ")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # the time it takes alone: this machine may be busy with other tests
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20


def test_a_study_that_has_not_begun_has_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = studies.load()
    with pytest.raises(studies.StudyError, match="run python -m stages.compile first"):
        page.write(study)
    tables.save(tables.build(study, {}) | {"claims": ledger.build(study)})
    page.write(study)
    text = (tmp_path / "reports/index.html").read_text()
    assert text.count("not run yet: <code>dvc repro") > 40 and "No run has been evaluated yet" in text
