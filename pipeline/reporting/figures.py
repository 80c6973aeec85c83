"""The report's charts from its tables: Figure 5a, mIOU against multiply-adds, sparks, the ledger's intervals."""
import math

from pipeline.records import thinned
from pipeline.reporting.chart import Chart, Style, span

# Of curves: colour, dash, shape of the marks; of series the rows, too.
CURVES = {"Xception with decoder": ("orange", False, "circle"), "Xception with BU": ("orange", True, "square"),
          "ResNet-101 with decoder": ("blue", False, "circle"), "ResNet-101 with BU": ("blue", True, "square")}
SERIES = [("ResNet-101, BU", "blue", True, "square", {"table": "table3", "dec": False, "train_os": 16}),
          ("ResNet-101, decoder", "blue", False, "circle", {"table": "table3", "dec": True, "train_os": 16}),
          ("ResNet-101 (OS 32), BU", "grey", True, "square", {"table": "table3", "dec": False, "train_os": 32}),
          ("ResNet-101 (OS 32), decoder", "grey", False, "circle", {"table": "table3", "dec": True, "train_os": 32}),
          ("Xception, BU", "orange", True, "square", {"table": "table5", "dec": False}),
          ("Xception, decoder", "orange", False, "circle", {"table": "table5", "dec": True, "sc": False}),
          ("Xception, SC", "green", False, "diamond", {"table": "table5", "sc": True, "coco": False}),
          ("Xception, SC, COCO", "purple", False, "diamond", {"table": "table5", "coco": True, "jft": False}),
          ("Xception, SC, COCO, JFT", "red", True, "diamond", {"table": "table5", "jft": True})]
AXIS = (-20, -5, -1, 0, 1, 5, 20)  # of effects
WIDE = 540  # pixels, of the charts that stand two beside each other


def trimap(rows: list[dict], ours: bool) -> Chart | None:
    """One panel of Figure 5a, from the lines of its table: ours solid with intervals, the paper's hollow. None without points."""
    key = "miou" if ours else "miou_paper"
    points = {name: [row for row in rows if row["curve"] == name and row[key] is not None] for name in CURVES}
    ends = (key, "miou_low", "miou_high") if ours else (key,)
    values = [row[end] for line in points.values() for row in line for end in ends if row[end] is not None]
    if not values:
        return None
    chart = Chart((0, 41), span(values), width=WIDE, height=370, margins=(14, 14, 92, 46))
    chart.axes("trimap width (pixels)", "mIOU (%)", xticks=[1, 10, 20, 30, 40])
    entries = []
    for name, (colour, dash, shape) in CURVES.items():
        if not (line := points[name]):
            continue
        if ours and all(row["miou_low"] is not None for row in line):
            chart.band(*([row[column] for row in line] for column in ("width", "miou_low", "miou_high")), colour)
        entries.append(Style(name, colour, dash, not ours, shape))
        chart.curve(entries[-1], [(row["width"], row[key]) for row in line],
                    [f"{name}, {row['width']} px: {row[key]:.2f} %" for row in line])
    return chart.legend(entries, chart.left, chart.height - 38, beside=chart.left + 240)


def cost(tables: dict[str, list[dict]], ours: bool) -> Chart | None:
    """mIOU against multiply-adds of the rows of Tables 3 and 5, the paper's or those of networks here. None without points."""
    rows = [row | {"table": name} for name in ("table3", "table5") for row in tables.get(name, [])]
    score, price = ("miou", "madds_here") if ours else ("miou_paper", "madds_paper")
    rows = [row for row in rows if row[score] is not None and row[price] is not None]
    if not rows:
        return None
    prices = [row[price] for row in rows]
    low, high = min(prices) / 1.6, max(prices) * 1.6  # a tick is in it, be there one price: 2 to 5 is 2.5
    chart = Chart((low, high), span([row[score] for row in rows]), width=WIDE, height=420, log=True, margins=(14, 14, 148, 46))
    whose = "the network trained here" if ours else "the paper's network"
    chart.axes(f"multiply-adds of {whose} (B, log scale)", "mIOU (%)", xticks=[])
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    for value in (digit * 10.0 ** decade for decade in decades for digit in (1, 2, 5) if low <= digit * 10.0 ** decade <= high):
        x, y = chart.at(value, chart.y[0])
        chart.line([(value, end) for end in chart.y], "rule", width=1).text(x, y + 18, f"{value:g}", anchor="middle")
    entries = []
    for name, colour, dash, shape, wanted in SERIES:
        line = sorted((row for row in rows if wanted.items() <= row.items()), key=lambda row: row[price])
        if not line:
            continue
        chart.line([(row[price], row[score]) for row in line], colour, dash, width=1.2, opacity=0.6)
        chart.marks([(row[price], row[score]) for row in line], colour, hollow=not ours, shape=shape,
                    titles=[f"{name}; {row['label']}: {row[score]:.2f} % for {row[price]:.4g} B" for row in line])
        entries.append(Style(name, colour, dash, not ours, shape))
    return chart.legend(entries, chart.left - 20, chart.height - 92, beside=chart.left + 240)


def spark(points: list[tuple[int, float]], y: tuple[float, float], colour: str, words: str) -> str:
    """A curve the size of a word. `y`: the range that all sparks of a column share, so that they compare."""
    if len(points) < 2:
        return ""
    chart = Chart((points[0][0], points[-1][0]), y, width=120, height=30, margins=(3, 5, 3, 3))
    chart.line(thinned(points, chart.width - chart.left - chart.right), colour, width=1.5).marks(points[-1:], colour, size=2)
    return chart.svg(words, f"from {points[0][1]:.3g} to {points[-1][1]:.3g}")


def effect(claim: dict, limit: float) -> str:
    """A row of the ledger: where the claim is true (shaded), the paper's effect, if any (hollow), ours with its interval (solid).

    The axis runs from -limit to limit, stretched around zero: half a point has to be seen beside thirty. What lies beyond is
    drawn at its end, with an arrow head.
    """
    end = math.asinh(limit)
    chart = Chart((-end, end), (-1, 1), width=220, height=34, margins=(2, 8, 2, 8))
    def inside(value):
        return max(-end, min(end, math.asinh(value)))
    low = -end if claim["at_least"] is None else inside(claim["at_least"])
    high = end if claim["at_most"] is None else inside(claim["at_most"])
    (left, top), (right, bottom) = chart.at(low, 1), chart.at(high, -1)
    chart.add(f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 1):.1f}" height="{bottom - top:.1f}" '
              'fill="var(--green)" opacity="0.10"/>')
    for x in (chart.at(math.asinh(value), 0)[0] for value in AXIS if abs(value) <= limit):
        chart.add(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="var(--rule)"/>')
    chart.line([(0, -1), (0, 1)], "muted", width=1)
    words = f"in {claim['unit']}"
    if claim["predicts"] is not None:
        chart.marks([(inside(claim["predicts"]), 0.42)], "grey", hollow=True, size=4)
        words = f"paper {claim['predicts']:+.2f} {claim['unit']}"
    if claim["effect"] is not None:
        colour = {"holds": "green", "fails": "red"}.get(claim["verdict"], "blue")
        ends = [] if claim["low"] is None else [(claim["low"], 5), (claim["high"], -5)]  # a test server gives a score alone
        if ends:
            chart.line([(inside(value), -0.42) for value, _ in ends], colour, width=2.2)
        for value, tip in ends:
            x, y = chart.at(inside(value), -0.42)
            if abs(value) <= limit:
                chart.line([(inside(value), -0.58), (inside(value), -0.26)], colour, width=1.4)
            else:
                chart.add(f'<path d="M{x:.1f} {y:.1f} l{tip} -4 v8 z" fill="var(--{colour})"/>')
        chart.marks([(inside(claim["effect"]), -0.42)], colour, size=3)
        if claim.get("pairings"):
            seeds = [(inside(claim[f"seeds_{end}"]), -0.88) for end in ("low", "high")]
            chart.line(seeds, colour, dash=True, width=1.2)
            for x, y in (chart.at(*end) for end in seeds):
                chart.add(f'<path d="M{x - 3:.1f} {y:.1f} l3 -3 l3 3 l-3 3 z" fill="var(--paper)" stroke="var(--{colour})"/>')
        words += f"; ours {claim['effect']:+.2f}"
        words += f", interval {claim['low']:+.2f} to {claim['high']:+.2f}" if ends else ""
        words += f"; over seeds {claim['seeds_low']:+.2f} to {claim['seeds_high']:+.2f}" if claim.get("pairings") else ""
    return chart.svg("Effect", words)


def scale_of_effects(limit: float) -> str:
    """The axis under the ledger's column of effects."""
    end = math.asinh(limit)
    chart = Chart((-end, end), (0, 1), width=220, height=18, margins=(0, 8, 16, 8))
    for value in (each for each in AXIS if abs(each) <= limit):
        x, _ = chart.at(math.asinh(value), 0)
        chart.text(x, 12, f"{value:+g}".replace("-", "−") if value else "0", anchor="middle")
    return chart.svg("Axis", f"from {-limit:g} to {limit:g}")
