"""The tables as LaTeX: whole environments, as many cells in each row as columns, nothing that LaTeX would take for a command."""
import re

import pytest
from hypothesis import given, strategies as st

from pipeline import paper, study as studies
from pipeline.reporting import latex, ledger, tables
from tests.reporting import fake_study
from tests.reporting.measured import measured

NAMES = [*(name for name in paper.tables() if name != "zoo"), "own", "claims"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Every table of a study with a run missing and a run of one's own whose name wants escaping, as reports/tables has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("study"))
        study = studies.load()
        own = study.runs["t2-x2"].model_copy(update={"low_level_channels": 24})
        study = study.model_copy(update={"runs": study.runs | {"50%_of_me": own},
                                         "evaluate": study.evaluate | {"50%_of_me": ("os16",)}})
        fake_study.write(study, images=3, size=49, missing=("t1-c16",))
        tables.save(tables.build(study, measured(study)) | {"claims": ledger.build(study)})
        return {path.stem: path.read_text() for path in tables.FOLDER.glob("*.tex")}, tables.load()


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
    assert [int(cells(row)[0]) for row in body] == list(paper.TRIMAP_WIDTHS)
    assert "not a result" in texts[0]["figure5"]
    assert r"50\%\_of\_me" in texts[0]["own"]


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_escaped_text_reads_as_it_was_written(text):
    found = latex.escape(text)
    bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[{}&%$#_]|\{[\[\]]\}", "", found)
    assert not re.search(r"[\\{}&%$#_~^<>\[\]]", bare)
    words = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}
    shown = re.sub(r"\\(\w+)\{\}|\\([{}&%$#_])|\{([\[\]])\}", lambda one: words.get(one[1]) or one[2] or one[3], found)
    assert shown == text
