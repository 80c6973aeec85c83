"""The charts on the page of one run: its learning curves, and its trimap curve beside its rivals."""
from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.records import thinned
from pipeline.reporting.chart import Chart, Style, span

LEARNING = {"loss": ("loss", "orange"), "miou": ("validation mIOU (%)", "blue"), "learning_rate": ("learning rate", "green"),
            "images_per_second": ("images a second", "purple"), "gpu_memory_gb": ("GPU memory (GB)", "grey"),
            "gpu_utilisation": ("GPU utilisation (%)", "grey")}  # metric of history.parquet -> words, colour; others: in its name
POINTS = 300  # of a curve at most: what a chart this wide can show


def learning(curves: dict[str, list[tuple[int, float]]]) -> list[tuple[str, str]]:
    """One chart a metric that was logged more than once: (title, SVG). curves: metric -> [(step, value)]."""
    found = []
    for metric in [*LEARNING, *sorted(set(curves) - set(LEARNING))]:
        points = curves.get(metric, [])
        if len(points) < 2:
            continue
        words, colour = LEARNING.get(metric, (metric.replace("_", " "), "grey"))
        kept = thinned(points, POINTS)
        values = [value for _, value in kept]
        chart = Chart((0, kept[-1][0]), span(values), width=380, height=220, margins=(10, 18, 42, 62))
        chart.axes("step", words).line(kept, colour)
        if len(kept) < 12:
            chart.marks(kept, colour, size=3, titles=[f"step {step}: {value:.4g}" for step, value in kept])
        title = f"{words[0].upper()}{words[1:]}"
        found.append((title, chart.svg(title, f"from {values[0]:.3g} at step {kept[0][0]} to {values[-1]:.3g} at step "
                                              f"{kept[-1][0]}")))
    return found


def trimap(ours: list[float], published: list[float] | None, other: tuple[str, list[float]] | None) -> str:
    """mIOU (%) by trimap width of one run, as SVG. published: the paper's curve; other: (run, curve) to compare with."""
    curves = {Style("this run", "blue", False, False, "circle"): ours}
    if other:
        curves[Style(f"{other[0]}, without decoder", "orange", True, False, "square")] = other[1]
    if published:
        curves[Style("the paper's", "grey", False, True, "circle")] = published
    below = 18 * len(curves)
    chart = Chart((0, 41), span([value for values in curves.values() for value in values]), width=460, height=280 + below,
                  margins=(14, 14, 46 + below, 46))
    chart.axes("trimap width (pixels)", "mIOU (%)", xticks=[1, 10, 20, 30, 40])
    for style, values in curves.items():
        points = list(zip(TRIMAP_WIDTHS, values))
        chart.curve(style, points, [f"{style.words}, {width} px: {value:.2f} %" for width, value in points])
    chart.legend(list(curves), chart.left, chart.height - below + 8)
    return chart.svg("mIOU by trimap width", f"from {ours[0]:.1f} % within 1 pixel to {ours[-1]:.1f} % within 40")
