"""The tables as LaTeX: whole environments, as many cells in each row as columns, nothing that LaTeX would take for a command."""
import re
import shutil
import subprocess

import pytest
from hypothesis import given, strategies as st

from pipeline import paper
from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.reporting import latex, tables
from tests import shipped
from tests.reporting import fake_study
from tests.reporting.measured import compiled

NAMES = [*(name for name in paper.tables() if name != "zoo"), "own", "claims"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Every table of a study with a run missing and a run of one's own whose name wants escaping, as reports/tables has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("study"))
        study = shipped.study()
        own = study.runs["t2-x2"].model_copy(update={"low_level_channels": 24})
        study = study.model_copy(update={"runs": study.runs | {"50%_of_me": own},
                                         "evaluate": study.evaluate | {"50%_of_me": ("os16",)}})
        fake_study.write(study, images=3, size=49, missing=("t1-c16",))
        compiled(study)
        return {path.stem: path.read_text() for path in tables.FOLDER.glob("*.tex")}, tables.load()


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """The same at scale paper, where nothing is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("study"))
        study = shipped.study().model_copy(update={"scale": "paper"})
        fake_study.write(study, images=3, size=49)
        compiled(study)
        return {path.stem: path.read_text() for path in tables.FOLDER.glob("*.tex")}


def columns_of(text: str) -> int:
    align = re.search(r"\\begin\{tabular\}\{((?:[lrc]|p\{[^}]*\})+)\}", text)[1]
    return len(re.findall(r"[lrc]|p\{[^}]*\}", align))


def cells(row: str) -> list[str]:
    """The cells of a row, one that spans n columns n times."""
    found = []
    for one in re.split(r"(?<!\\)&", row.removesuffix(r"\\")):
        span = re.match(r"\s*\\multicolumn\{(\d+)\}", one)
        found += [one.strip()] * (int(span[1]) if span else 1)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_whole_and_its_columns_agree(texts, name):
    text = texts[0][name]
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    opened = []
    for kind, environment in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        assert kind == "begin" or opened.pop() == environment
        opened += [environment] if kind == "begin" else []
    assert not opened
    plain = "\n".join(lines).replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"(?<!\\)[%#~^]|(?<!\\)_(?!\{)", "\n".join(lines)) and text.isascii()
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = [line for line in lines if line.endswith(r"\\")]
    assert {len(cells(row)) for row in rows} == {columns_of(text)}
    ranges = [[int(end) for end in ends] for ends in re.findall(r"\\cmidrule\(\w+\)\{(\d+)-(\d+)\}", text)]
    assert all(1 < start <= end <= columns_of(text) for start, end in ranges)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "figure5"])
def test_it_has_the_rows_and_numbers_of_the_parquet(texts, name):
    lines = texts[1][name]
    body = texts[0][name].split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
    assert len(body) == len(lines)
    for row, line in zip(body, lines):
        for key in ("miou", "miou_paper", "madds_executed", "top1_error", "predicts", "effect"):
            if line.get(key) is not None:
                digits = 1 if (key, name) in (("miou_paper", "table6"), ("miou_paper", "table7b")) else 2  # as published
                assert f"{line[key]:.{digits}f}".replace("-", "$-$") in row.replace("+", "")
    for line in lines:
        if line.get("status", "measured") != "measured":
            assert f"% {line['label']}: {line['status']}" in texts[0][name]


def test_figure5_has_a_row_a_width(texts):
    body = texts[0]["figure5"].split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
    assert [int(cells(row)[0]) for row in body] == list(TRIMAP_WIDTHS)
    assert r"50\%\_of\_me" in texts[0]["own"]


@pytest.mark.parametrize("name", NAMES)
def test_a_caption_says_that_it_is_no_result(texts, papers, name):
    caption = re.search(r"\\caption\{(.*)\}", texts[0][name])[1]
    assert "Scale miniature: not a result of the paper's experiment." in caption
    assert name == "own" or "not a result" not in papers[name]


def test_differences_are_shown_where_they_mean_something(texts, papers):
    assert not [name for name, text in texts[0].items() if "diff." in text]
    assert papers["table3"].count("& diff.") == 1 and papers["table4"].count("& diff.") == 2 and "diff." not in papers["figure5"]
    assert columns_of(papers["table4"]) == columns_of(texts[0]["table4"]) + 2


def test_the_notes_that_the_page_shows_stand_below_the_table(texts):
    shown = [line for line in texts[0]["table3"].split("\\end{tabular}")[1].splitlines() if not line.startswith("%")]
    note = next(row["note"] for row in paper.tables()["table3"].rows if "note" in row)
    assert len([line for line in shown if f"* {latex.escape(note)}." in line]) == 1
    starred = [line for line in texts[0]["table3"].splitlines() if r"\rlap{*}" in line]
    assert len(starred) == sum("note" in row for row in paper.tables()["table3"].rows) and all("101.28\\rlap{*} &" in line for line in starred)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.parametrize("name", NAMES)
def test_it_fits_on_the_page_of_an_article(texts, papers, name, tmp_path):
    for text in filter(None, (texts[0][name], papers.get(name))):
        packages = re.match(r"% (\\usepackage\{.*?\})", text)[1]
        (tmp_path / "a.tex").write_text("\n".join([r"\documentclass{article}", packages, r"\begin{document}", text, r"x\end{document}"]))
        said = subprocess.run(["pdflatex", "-draftmode", "-interaction=nonstopmode", "a.tex"], cwd=tmp_path, capture_output=True, text=True)
        assert said.returncode == 0 and not re.findall("(?m)^(?:!|Overfull|LaTeX Warning: Float).*", said.stdout)


def test_what_is_larger_than_the_page_is_shrunk(texts):
    for text in texts[0].values():
        assert text.index(r"\sbox0{\begin{tabular}") < text.index("\n".join([r"\end{tabular}}", *latex.FIT])) and "graphicx" in text.splitlines()[0]
    assert re.search(r"tabular\}\{p\{[^}]*\}p\{", texts[0]["claims"])


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_escaped_text_reads_as_it_was_written(text):
    found = latex.escape(text)
    bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[{}&%$#_]|\{[\[\]]\}", "", found)
    assert not re.search(r"[\\{}&%$#_~^<>\[\]]", bare)
    words = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}
    shown = re.sub(r"\\(\w+)\{\}|\\([{}&%$#_])|\{([\[\]])\}", lambda one: words.get(one[1]) or one[2] or one[3], found)
    assert shown == text
