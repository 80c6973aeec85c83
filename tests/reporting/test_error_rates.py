"""Intervals of error rates: published values, properties, and that Table 4 shows them everywhere."""
import pytest
from hypothesis import given, strategies as st

from pipeline.reporting import error_rates, ledger, tables
from tests.reporting.reader import Reader

COUNTS = st.integers(1, 2000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images)))


@pytest.mark.parametrize("hits, images, expected", [  # Newcombe, Statistics in Medicine 17 (1998), pages 857-872, Table I, method 3
    (81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))])
def test_one_share_as_published(hits, images, expected):
    assert [end / 100 for end in error_rates.wilson(100 * hits / images, images)] == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("one, other, expected", [  # the same volume, pages 873-890, Table II, method 10
    ((56, 70), (48, 80), (0.0524, 0.3339)), ((9, 10), (3, 10), (0.1705, 0.8090)), ((6, 7), (2, 7), (0.0582, 0.8062)),
    ((5, 56), (0, 29), (-0.0381, 0.1926)), ((0, 10), (0, 20), (-0.1611, 0.2775)), ((0, 10), (0, 10), (-0.2775, 0.2775)),
    ((10, 10), (0, 20), (0.6791, 1)), ((10, 10), (0, 10), (0.6075, 1))])
def test_a_difference_as_published(one, other, expected):
    found = error_rates.newcombe(*(100 * hits / images for hits, images in (one, other)), one[1], other[1])
    assert [end / 100 for end in found] == pytest.approx(expected, abs=6e-5)


@given(COUNTS, COUNTS)
def test_an_interval_holds_its_estimate_and_is_no_point(one, other):
    shown = [100 * hits / images for hits, images in (one, other)]
    low, high = error_rates.wilson(shown[0], one[1])
    assert 0 <= low <= shown[0] + 1e-9 and shown[0] - 1e-9 <= high <= 100 and high - low > 0.1
    low, high = error_rates.newcombe(*shown, one[1], other[1])
    assert -100 - 1e-9 <= low < high <= 100 + 1e-9 and low - 1e-9 <= shown[0] - shown[1] <= high + 1e-9 and high - low > 0.1
    assert error_rates.newcombe(*reversed(shown), other[1], one[1]) == pytest.approx((-high, -low))


def test_the_ledger_says_whose_intervals_they_are():
    assert "Wilson" in ledger.INTERVALS and "Newcombe" in ledger.INTERVALS


def test_table_4_has_them_in_every_form(reported):
    index, readme, latex = ((reported / "reports" / name).read_text() for name in ("index.html", "README.md", "tables/table4.tex"))
    shown = Reader(index).tables["table4"]
    lines = tables.load(reported / "reports/tables")["table4"]
    header, *rows = (reported / "reports/tables/table4.csv").read_text().splitlines()
    for line, row, cells in zip(lines, rows, shown[2:], strict=True):
        for error in ("top1_error", "top5_error"):
            ends = [line[f"{error}_low"], line[f"{error}_high"]]
            assert ends == pytest.approx(error_rates.wilson(line[error], 40))  # fake_study's pictures
            said = "{:.1f}, {:.1f}".format(*ends)
            assert f"[{said}]" in " ".join(cells) and said in latex
            assert f"[{said}]".replace(" ", "\u00a0") in readme, "in one piece, however narrow the column"
            csv = dict(zip(header.split(","), row.split(",")))
            assert [float(csv[f'"{error}_{end}"']) for end in ("low", "high")] == pytest.approx(ends)
