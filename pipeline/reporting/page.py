"""Write the report: `index.html` and a page a run in `runs/`, which need no network; `README.md`, and `figures/` for it."""
import base64
import html
import re
import shutil
from pathlib import Path

import jinja2

from pipeline.files import write_file
from pipeline.reporting import chart, context, figures, ledger, panels, runs
from pipeline.study import Study

TEMPLATES = Path(__file__).with_name("templates")


def write(study: Study, folder: Path = Path("reports")) -> list[Path]:
    """Write the report of what has been measured into `folder`; return the files. Same inputs, same bytes."""
    found = context.build(study)
    environment = _environment()
    written = _figures(found, folder / "figures")
    shutil.rmtree(folder / "runs", ignore_errors=True)
    shared = {name: found[name] for name in ("banner", "scale")}
    pages = {"index.html": found, "README.md": found}
    pages |= {f"runs/{run}.html": shared | page for run, page in found["pages"].items()}
    for name, content in pages.items():
        template = environment.get_template("run.html.j2" if name.startswith("runs/") else f"{name}.j2")
        write_file(folder / name, template.render(content))
        written.append(folder / name)
    return written


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined,
                                     autoescape=jinja2.select_autoescape(["html.j2"]), keep_trailing_newline=True)
    environment.filters |= {"number": number, "signed": signed, "data_url": data_url, "duration": runs.duration,
                            "words": runs.words, "spark": spark, "cell": cell, "markdown": markdown}
    environment.globals |= {"titles": titles, "marks": ledger.VERDICTS, "wrong": "#{:02x}{:02x}{:02x}".format(*panels.WRONG),
                            "light": chart.variables(False), "dark": chart.variables(True)}
    return environment


def number(value: float | None, digits: int = 2) -> str:
    """A number with thin spaces between thousands; nothing for None and nan."""
    return "" if value is None or value != value else f"{value:,.{digits}f}".replace(",", "\u2009")


def signed(value: float | None, digits: int = 2) -> str:
    """+1.23 or −1.23, with a real minus sign."""
    return "" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def cell(value) -> str:
    """A descriptor of a row: a tick for yes, nothing for no."""
    return "✓" if value is True else "" if value is None or value is False else str(value)


def markdown(text: str) -> str:
    """Text as Markdown shows it: no tag, code, bold or table cell of its own."""
    return re.sub(r"([\\`*|]|\](?=[(\[]))", r"\\\1", html.escape(text, quote=False))


def data_url(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data.startswith(b"RIFF") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def spark(run: dict, metric: str, colour: str, everyone: list[dict]) -> str:
    """The curve of one metric of one run, on the range that all runs of the data set need."""
    same = [value for other in everyone if other["dataset"] == run["dataset"] for _, value in other["curves"].get(metric, [])]
    return figures.spark(run["curves"].get(metric, []), chart.span(same), colour, f"{metric} of {run['id']}") if same else ""


def _figures(found: dict, folder: Path) -> list[Path]:
    """The charts as SVG and the pictures as PNG, for README.md. What was measured says itself in them what the banner says."""
    shutil.rmtree(folder, ignore_errors=True)
    mark = found["banner"]["mark"] if found["banner"] else ""
    files = {f"{name}.svg": one.svg(*titles(name), alone=True, mark=mark if name.endswith("-ours") else "").encode()
             for name, one in found["charts"].items()}
    files |= {f"{page['id']}-{heading.split()[0].lower()}.png": panels.strip(cases, 2, mark) for page in found["album"]
              for heading, cases in page["columns"].items() if cases}
    for name, data in files.items():
        write_file(folder / name, data)
    return [folder / name for name in files]


def titles(name: str) -> tuple[str, str]:
    """Title and text alternative of a chart."""
    kind, side = name.split("-")
    whose = "as published" if side == "paper" else "as measured here"
    return {"figure5": (f"Figure 5a, {whose}", "mIOU by width of the band around object boundaries; the numbers are in a table"),
            "cost": (f"mIOU against multiply-adds, {whose}",
                     "every row of Tables 3 and 5 that has both; the numbers are in those tables and on the runs' pages")}[kind]
