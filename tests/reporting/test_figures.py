"""The charts read back from their SVG: every mark where its numbers say, in the colour that the legend gives its name."""
import math
import re
import xml.etree.ElementTree as tree

import pytest

from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.reporting import chart, figures, run_charts

SVG = "{http://www.w3.org/2000/svg}"
TITLE = re.compile(r"(?P<name>.+?)[,;] (?P<rest>.+): (?P<score>[\d.]+) %.*")


def drawn(svg: str) -> list[tree.Element]:
    return list(tree.fromstring(svg))


def middle(mark: tree.Element) -> tuple[float, float]:
    if mark.tag == f"{SVG}circle":
        return float(mark.get("cx")), float(mark.get("cy"))
    return tuple(float(mark.get(at)) + float(mark.get(size)) / 2 for at, size in (("x", "width"), ("y", "height")))


def shape(mark: tree.Element) -> str:
    return "diamond" if "rotate(45" in mark.get("transform", "") else mark.tag


def marks(svg: str) -> list[tuple[str, tuple[float, float], str, str, bool]]:
    """(title, middle, colour, shape, hollow) of every mark that has words."""
    return [(each.find(f"{SVG}title").text, middle(each), each.get("stroke"), shape(each), each.get("fill") != each.get("stroke"))
            for each in drawn(svg) if each.find(f"{SVG}title") is not None and each.tag != f"{SVG}title"]


def legend(svg: str) -> dict[str, tuple[str, str, bool]]:
    """What a reader finds to the left of each name: (colour, shape, hollow) of the mark on its line."""
    parts, found = drawn(svg), {}
    for words in (each for each in parts if each.tag == f"{SVG}text" and each.get("fill") == "var(--ink)"):
        x, y = float(words.get("x")), float(words.get("y"))
        mark, = (each for each in parts if each.tag in (f"{SVG}circle", f"{SVG}rect")
                 and 0 < x - middle(each)[0] < 40 and abs(y - 4 - middle(each)[1]) < 0.2)
        line, = (each for each in parts if each.tag == f"{SVG}line"
                 and 0 < x - float(each.get("x2")) < 20 and abs(float(each.get("y1")) - (y - 4)) < 0.2)
        assert line.get("stroke") == mark.get("stroke")
        found[words.text] = mark.get("stroke"), shape(mark), mark.get("fill") != mark.get("stroke")
    return found


def of_figure5() -> list[dict]:
    """Four curves that nowhere meet, with their intervals."""
    return [{"curve": name, "width": width, "miou": 40.0 + 5 * number + width / 10, "miou_paper": 60.0 + 3 * number + width / 10,
             "miou_low": 39.0 + 5 * number + width / 10, "miou_high": 42.0 + 5 * number + width / 10}
            for number, name in enumerate(figures.CURVES) for width in TRIMAP_WIDTHS]


@pytest.mark.parametrize("ours", [True, False])
def test_figure_5a_has_each_curves_points_in_its_colour(ours):
    rows = of_figure5()
    chart = figures.trimap(rows, ours)
    svg = chart.svg("Figure 5a", "words")
    named, found = legend(svg), {}
    assert list(named) == list(figures.CURVES) and len(set(named.values())) == 4
    for title, at, *look in marks(svg):
        said = TITLE.fullmatch(title)
        width, score = int(said["rest"].removesuffix(" px")), float(said["score"])
        found[said["name"], width] = score
        assert at == pytest.approx(chart.at(width, score), abs=0.06) and tuple(look) == named[said["name"]]
        assert look[-1] == (not ours)
    assert found == {(row["curve"], row["width"]): pytest.approx(row["miou" if ours else "miou_paper"]) for row in rows}
    bands = [each for each in drawn(svg) if each.tag == f"{SVG}polygon"]
    assert len(bands) == 4 * ours
    for band, (number, _) in zip(bands, enumerate(figures.CURVES)):
        corners = [tuple(map(float, point.split(","))) for point in band.get("points").split()]
        mine = rows[number * len(TRIMAP_WIDTHS):][:len(TRIMAP_WIDTHS)]
        edges = [(row["width"], row["miou_high"]) for row in mine] + [(row["width"], row["miou_low"]) for row in reversed(mine)]
        assert corners == [pytest.approx(chart.at(*edge), abs=0.06) for edge in edges]


def test_figure_5a_leaves_out_a_curve_that_has_no_points():
    rows = [row | {"miou": None} if row["curve"] == "Xception with BU" else row for row in of_figure5()]
    svg = figures.trimap(rows, True).svg("Figure 5a", "words")
    assert list(legend(svg)) == [name for name in figures.CURVES if name != "Xception with BU"]
    assert figures.trimap([row | {"miou": None} for row in rows], True) is None


@pytest.mark.parametrize("ours", [True, False])
def test_costs_have_each_row_in_its_series_colour(ours):
    def line(number, table, **kind):
        return {"label": f"{table} {number}", "miou_paper": 70.0 + number, "madds_paper": 60.0 * (number + 1), "miou": 30.0 + 2 * number,
                "madds_here": 50.0 * (number + 1), **kind}
    lines = {"table3": [line(0, "table3", dec=False, train_os=16), line(1, "table3", dec=True, train_os=16),
                        line(2, "table3", dec=False, train_os=32), line(3, "table3", dec=True, train_os=32)],
             "table5": [line(4, "table5", dec=False, sc=False, coco=False, jft=False), line(5, "table5", dec=True, sc=False, coco=False, jft=False),
                        line(6, "table5", dec=True, sc=True, coco=False, jft=False), line(7, "table5", dec=True, sc=True, coco=True, jft=False),
                        line(8, "table5", dec=True, sc=True, coco=True, jft=True)]}
    names = ["ResNet-101, BU", "ResNet-101, decoder", "ResNet-101 (OS 32), BU", "ResNet-101 (OS 32), decoder", "Xception, BU",
             "Xception, decoder", "Xception, SC", "Xception, SC, COCO", "Xception, SC, COCO, JFT"]
    chart = figures.cost(lines, ours)
    svg = chart.svg("Costs", "words")
    named, found = legend(svg), {}
    assert list(named) == names and len(set(named.values())) == len(names)
    alike = ("Xception, decoder", "Xception, SC, COCO, JFT"), ("ResNet-101, decoder", "Xception, SC, COCO"), ("ResNet-101 (OS 32), decoder", "Xception, SC")
    assert all(named[one][1] != named[other][1] for one, other in alike), "to many men these colours are one"
    for title, at, *look in marks(svg):
        name = next(name for name in sorted(names, key=len, reverse=True) if title.startswith(f"{name}; "))
        number = int(re.search(r"table\d (\d)", title)[1])
        score, price = (30.0 + 2 * number, 50.0 * (number + 1)) if ours else (70.0 + number, 60.0 * (number + 1))
        assert at == pytest.approx(chart.at(price, score), abs=0.06) and tuple(look) == named[name]
        assert f": {score:.2f} % for {price:.0f} B" in title
        assert number not in found, "one row, one series"
        found[number] = name
    assert found == dict(enumerate(names))
    assert figures.cost({name: [row | {"miou": None, "miou_paper": None} for row in table] for name, table in lines.items()}, ours) is None


CLAIM = {"at_least": -0.5, "at_most": 3.0, "predicts": 1.5, "effect": 2.0, "low": 0.5, "high": 4.0, "unit": "points", "verdict": "holds"}


def across(value: float, limit: float) -> float:
    """Where `value` lies on the stretched axis of 220 pixels, 8 of them free at each end."""
    return 8 + (math.asinh(value) / math.asinh(limit) + 1) / 2 * 204


@pytest.mark.parametrize("price", [2.1, 3.2, 4.9, 0.03, 0.7, 14.0])
def test_one_price_alone_has_a_number_on_its_axis_too(price):
    row = {"label": "a", "dec": False, "train_os": 16, "miou": 30.0, "madds_here": price}
    chart = figures.cost({"table3": [row]}, ours=True)
    words = {each.text: float(each.get("x")) for each in drawn(chart.svg("Costs", "words")) if each.get("text-anchor") == "middle"}
    ticks = {float(text): x for text, x in words.items() if re.fullmatch(r"[\d.]+", text)}
    assert ticks and all(x == pytest.approx(chart.at(value, 30)[0], abs=0.06) for value, x in ticks.items())


@pytest.mark.parametrize("verdict, colour", [("holds", "green"), ("fails", "red"), ("undecided", "blue")])
def test_a_claims_row_shows_where_it_is_true_what_was_predicted_and_what_was_found(verdict, colour):
    parts = drawn(figures.effect(CLAIM | {"verdict": verdict}, 20))
    shaded = next(each for each in parts if each.tag == f"{SVG}rect")
    left = float(shaded.get("x"))
    assert (left, left + float(shaded.get("width"))) == pytest.approx((across(-0.5, 20), across(3.0, 20)), abs=0.11)
    rules = [float(each.get("x1")) for each in parts if each.tag == f"{SVG}line"]
    assert rules == pytest.approx([across(value, 20) for value in (-20, -5, -1, 0, 1, 5, 20)], abs=0.06), "where the axis has its numbers"
    predicted, found = (each for each in parts if each.tag == f"{SVG}circle")
    assert middle(predicted)[0] == pytest.approx(across(1.5, 20), abs=0.06) and predicted.get("fill") == "var(--paper)"
    assert middle(found)[0] == pytest.approx(across(2.0, 20), abs=0.06) and found.get("fill") == f"var(--{colour})"
    interval = [each for each in parts if each.tag == f"{SVG}polyline" and each.get("stroke") == f"var(--{colour})"][0]
    ends = [float(point.split(",")[0]) for point in interval.get("points").split()]
    assert ends == pytest.approx([across(0.5, 20), across(4.0, 20)], abs=0.06)
    assert next(each for each in parts if each.tag == f"{SVG}desc").text == "paper +1.50 points; ours +2.00, interval +0.50 to +4.00"


def test_a_claim_without_an_end_is_true_to_the_end_of_the_axis_and_beyond_it_are_arrows():
    parts = drawn(figures.effect(CLAIM | {"at_least": None, "at_most": None, "predicts": None, "low": -50.0, "high": 4.0}, 20))
    shaded = next(each for each in parts if each.tag == f"{SVG}rect")
    assert (float(shaded.get("x")), float(shaded.get("width"))) == pytest.approx((8, 204), abs=0.06)
    arrow, = (each for each in parts if each.tag == f"{SVG}path")
    assert arrow.get("d").startswith("M8.0 ") and " l5 -4 " in arrow.get("d"), "the tip is at the left end, the body to its right"
    assert len([each for each in parts if each.tag == f"{SVG}circle"]) == 1


def test_a_claim_that_is_not_measured_yet_shows_the_papers_effect_alone():
    parts = drawn(figures.effect(CLAIM | {"effect": None, "low": None, "high": None, "verdict": "not measured"}, 20))
    assert len([each for each in parts if each.tag == f"{SVG}circle"]) == 1 and len([each for each in parts if each.tag == f"{SVG}polyline"]) == 1


def test_a_runs_trimap_curves_are_named_and_are_where_their_numbers_are():
    values = {"this run": 50.0, "t2-other, without decoder": 40.0, "the paper's": 70.0}
    lines = {name: [base + width / 10 for width in TRIMAP_WIDTHS] for name, base in values.items()}
    svg = run_charts.trimap(lines["this run"], lines["the paper's"], ("t2-other", lines["t2-other, without decoder"]))
    named, heights = legend(svg), {}
    assert list(named) == list(values) and len(set(named.values())) == 3
    for title, (x, y), *look in marks(svg):
        name = next(name for name in values if title.startswith(f"{name}, "))
        width, score = re.fullmatch(r"(\d+) px: ([\d.]+) %", title.removeprefix(f"{name}, ")).groups()
        assert tuple(look) == named[name] and float(score) == pytest.approx(lines[name][TRIMAP_WIDTHS.index(int(width))])
        assert x == pytest.approx(46 + int(width) / 41 * 400, abs=0.06)
        heights[float(score)] = y
    ordered = sorted(heights)
    slopes = [(heights[b] - heights[a]) / (b - a) for a, b in zip(ordered, ordered[1:]) if b - a > 0.2]
    assert len(heights) == 42 and slopes == pytest.approx([slopes[0]] * len(slopes), rel=0.2) and slopes[0] < 0


def test_a_long_learning_curve_keeps_its_ends():
    points = [(step, float(step)) for step in range(1, 1002)]
    (title, svg), = run_charts.learning({"loss": points, "once": [(1, 1.0)]})
    line, = (each for each in drawn(svg) if each.tag == f"{SVG}polyline")
    xs = [float(point.split(",")[0]) for point in line.get("points").split()]
    assert title == "Loss" and len(xs) <= run_charts.POINTS + 1 and xs == sorted(xs)
    assert (xs[0], xs[-1]) == pytest.approx((62 + 300 / 1001, 362), abs=0.06)
    small = figures.spark(points, (0, 1001), "orange", "loss")
    assert small.count(",") <= 123 and "from 1 to 1e+03" in small, "a point a pixel: COCO's 15,000 were 150 kB of the page"


def test_charts_put_data_where_the_axes_say():
    one = chart.Chart((0, 10), (0, 100), width=200, height=100, margins=(10, 20, 30, 40))
    assert one.at(0, 0) == (40, 70) and one.at(10, 100) == (180, 10) and one.at(5, 50) == (110, 40)
    log = chart.Chart((1, 100), (0, 1), width=200, height=100, margins=(0, 0, 0, 0), log=True)
    assert log.at(10, 0)[0] == pytest.approx(100)
    assert chart.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1] and chart.ticks(49.9, 80.1) == [50, 60, 70, 80]
    text = one.marks([(5, 50)], "blue", titles=["<5 & 50>"]).svg("A & B", "words", alone=True)
    assert tree.fromstring(text).find(f".//{SVG}circle").get("cx") == "110.0"
