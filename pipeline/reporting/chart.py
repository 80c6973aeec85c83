"""Small charts as SVG text: sharp at any size, a few kB, the same bytes each time, in the page's light or dark colours."""
import math
from html import escape
from typing import NamedTuple

# Colours by name, light and dark; the page's style sheet uses the same. Marks differ in shape or dash too, never in colour alone.
COLOURS = {"ink": ("#1d1d1f", "#ececee"), "muted": ("#6b6b70", "#a0a0a8"), "rule": ("#dcdce0", "#3a3a40"),
           "paper": ("#ffffff", "#17171a"),
           "blue": ("#1f5fa8", "#7db4f0"), "orange": ("#b4530a", "#f2a65a"), "green": ("#2c7a4b", "#7fcf9f"),
           "purple": ("#7a3f9d", "#c99be6"),
           "red": ("#b3261e", "#f28b82"), "grey": ("#77777d", "#9a9aa2")}
MARK = 16  # pixels, of the line above a chart that says what it is not
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def variables(dark: bool) -> str:
    """The colours as CSS custom properties."""
    return "".join(f"--{name}:{pair[dark]};" for name, pair in COLOURS.items())


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high, roughly `about` of them."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / about))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= about)
    first = math.ceil(low / step - 1e-9)
    return [round((first + number) * step, 10) for number in range(int(high / step + 1e-9) - first + 1)]


def span(values) -> tuple[float, float]:
    """The range of `values` with some air; a range of its own around a single value."""
    low, high = min(values), max(values)
    air = 0.06 * (high - low or abs(high)) or 1
    return low - air, high + air


class Style(NamedTuple):
    """What a legend says of a curve, and how the curve and its marks are drawn."""
    words: str
    colour: str
    dash: bool
    hollow: bool
    shape: str


class Chart:
    """One set of axes, in data coordinates. `x`, `y`: their ranges; `log`: x is logarithmic. Colours are names in COLOURS."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], width: int, height: int,
                 margins: tuple[int, int, int, int], log: bool = False):
        self.x, self.y, self.width, self.height, self.log = x, y, width, height, log
        self.top, self.right, self.bottom, self.left = margins
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Data to pixels."""
        scale = (lambda value: math.log10(value)) if self.log else (lambda value: value)
        across = (scale(x) - scale(self.x[0])) / (scale(self.x[1]) - scale(self.x[0]))
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        wide, high = self.width - self.left - self.right, self.height - self.top - self.bottom
        return self.left + across * wide, self.height - self.bottom - up * high

    def axes(self, xlabel: str, ylabel: str, xticks: list[float] | None = None) -> "Chart":
        """Horizontal rules, tick labels and the two axis titles."""
        for value in ticks(*self.y):
            _, y = self.at(self.x[0], value)
            self.add(f'<line x1="{self.left}" x2="{self.width - self.right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--rule)"/>')
            self.text(self.left - 8, y + 4, f"{value:g}", anchor="end")
        for value in ticks(*self.x) if xticks is None else xticks:
            x, _ = self.at(value, self.y[0])
            self.text(x, self.height - self.bottom + 18, f"{value:g}", anchor="middle")
        self.text((self.left + self.width - self.right) / 2, self.height - self.bottom + 36, xlabel, anchor="middle")
        x, y = 12, (self.top + self.height - self.bottom) / 2
        self.add(f'<text x="{x}" y="{y:.1f}" transform="rotate(-90 {x} {y:.1f})" text-anchor="middle" fill="var(--muted)">'
                 f'{escape(ylabel)}</text>')
        return self

    def line(self, points, colour: str, dash: bool = False, width: float = 2, opacity: float = 1) -> "Chart":
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        dashes = ' stroke-dasharray="6 4"' if dash else ""
        self.add(f'<polyline points="{path}" fill="none" stroke="var(--{colour})" stroke-width="{width:g}" '
                 f'stroke-linejoin="round"{dashes} opacity="{opacity:g}"/>')
        return self

    def band(self, xs, low, high, colour: str) -> "Chart":
        """The area between two curves: an interval."""
        points = [*zip(xs, high), *reversed(list(zip(xs, low)))]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.add(f'<polygon points="{path}" fill="var(--{colour})" opacity="0.13"/>')
        return self

    def marks(self, points, colour: str, hollow: bool = False, shape: str = "circle", size: float = 4, titles=()) -> "Chart":
        """Marks of a `shape`: circle, square or diamond. `titles` are what a pointer held over each of them shows."""
        for number, point in enumerate(points):
            self._mark(*self.at(*point), colour, hollow, shape, size, titles[number] if number < len(titles) else "")
        return self

    def curve(self, style: Style, points, titles) -> "Chart":
        """A line with small marks; fainter where they are hollow. `titles`: as `marks` takes them."""
        self.line(points, style.colour, style.dash, opacity=0.6 if style.hollow else 1)
        return self.marks(points, style.colour, style.hollow, style.shape, size=3, titles=titles)

    def _mark(self, x: float, y: float, colour: str, hollow: bool, shape: str, size: float, title: str = "") -> None:
        """One mark at a pixel."""
        style = f'fill="var(--{"paper" if hollow else colour})" stroke="var(--{colour})" stroke-width="1.6"'
        words = f"<title>{escape(title)}</title>" if title else ""
        if shape == "circle":
            self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {style}>{words}</circle>')
            return
        turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == "diamond" else ""
        self.add(f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:g}" height="{2 * size:g}" {style}{turned}>'
                 f'{words}</rect>')

    def text(self, x: float, y: float, words: str, anchor: str = "start", colour: str = "muted") -> "Chart":
        """Words at a pixel."""
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--{colour})">{escape(words)}</text>')
        return self

    def legend(self, entries: list[Style], x: float, y: float, beside: float | None = None) -> "Chart":
        """Entries one below the other from the pixel (x, y); the second half from (beside, y), where that is given."""
        half = len(entries) if beside is None else -(-len(entries) // 2)
        for number, (words, colour, dash, hollow, shape) in enumerate(entries):
            left, row = (x, y + 18 * number) if number < half else (beside, y + 18 * (number - half))
            dashes = ' stroke-dasharray="6 4"' if dash else ""
            self.add(f'<line x1="{left}" x2="{left + 26}" y1="{row}" y2="{row}" stroke="var(--{colour})" '
                     f'stroke-width="2"{dashes}/>')
            self._mark(left + 13, row, colour, hollow, shape, 3.6)
            self.text(left + 34, row + 4, words, colour="ink")
        return self

    def svg(self, title: str, description: str, alone: bool = False, mark: str = "") -> str:
        """SVG with a text alternative. `alone`: with its colours, for a file of its own. `mark`: small words above the chart."""
        light, dark = (f"svg{{{variables(theme)}}}" for theme in (False, True))
        style = f"<style>{light}svg{{background:var(--paper)}}@media(prefers-color-scheme:dark){{{dark}}}</style>"
        head = MARK if mark else 0
        size = f'viewBox="0 {-head} {self.width} {self.height + head}" width="{self.width}" height="{self.height + head}"'
        words = f'<text x="{self.left}" y="-4" font-size="11" fill="var(--muted)">{escape(mark)}</text>' if mark else ""
        return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
                f'role="img" aria-label="{escape(title)}. {escape(description)}" font-family="{escape(FONT)}" font-size="12">'
                f'{style if alone else ""}<title>{escape(title)}</title><desc>{escape(description)}</desc>{words}'
                f'{"".join(self.parts)}</svg>')

    def add(self, part: str) -> None:
        """An element of SVG, in pixels."""
        self.parts.append(part)
