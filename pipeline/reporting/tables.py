"""The paper's tables with our numbers beside them, row by row: `reports/tables/TABLE.parquet`, `.csv` and `.tex`.

Measured numbers are read back through MLflow's search API, costs from the cost stage, the published ones from `pipeline/paper`.
Same inputs, same bytes: no times, no ids that change from run to run.
"""
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import files
from pipeline.datasets.trimap import TRIMAP_WIDTHS
from pipeline.evaluation import square_trimap
from pipeline.evaluation.measure import classes, costs, label_maps, shard, status
from pipeline.evaluation.metrics import miou_within
from pipeline.paper import OPTIONAL
from pipeline.paper.rows import Row, rows
from pipeline.reporting import error_rates, latex, ledger
from pipeline.study import Study

FOLDER = Path("reports/tables")
SCORES = ("miou", "miou_low", "miou_high")
SEEDS = ("miou_seeds_low", "miou_seeds_high")
COSTS = ("madds_counted_as_paper", "madds_executed", "madds_here", "parameters_paper", "parameters_here")


def build(study: Study, measured: dict[tuple[str, str], dict]) -> dict[str, pa.Table]:
    """table1 ... figure5, and "own" where params.yaml has more. `measured`: what `tracking.mirror.read_back` returns."""
    counted = costs(study)
    scores = {key: found["metrics"]["miou"] for (_, key), found in measured.items() if "miou" in found["metrics"]}
    of_paper = rows(study)
    squares = _squares(study, [row for row in of_paper["figure5"] if ("figure5", row.key) in measured])
    return {name: _typed([line for row in table for line in _lines(study, row, measured.get((name, row.key)), counted, scores,
                                                                   squares)])
            for name, table in of_paper.items() if table}


def save(tables: dict[str, pa.Table], folder: Path = FOLDER, draft: str = "") -> None:
    """Write each table as parquet, CSV and LaTeX (draft: as `latex.document` takes it), and all scores as metrics.json, which
    `dvc metrics` reads; tables of an earlier study that are not among them are removed."""
    for name, table in tables.items():
        with files.atomic(folder / f"{name}.parquet") as partial:
            pq.write_table(table, partial)
        with files.atomic(folder / f"{name}.csv") as partial:
            pa.csv.write_csv(table, partial)
        files.write_file(folder / f"{name}.tex", latex.document(name, table.to_pylist(), draft))
    files.write_file(folder / "metrics.json", json.dumps(dvc_metrics(tables), indent=1) + "\n")
    for path in folder.iterdir():
        if path.suffix in (".parquet", ".csv", ".tex") and path.stem not in tables:
            path.unlink()


def dvc_metrics(tables: dict[str, pa.Table]) -> dict[str, dict[str, float]]:
    """What was measured, each once, in percent: mIOU by run and strategy, "(test)" by a test server; errors by backbone."""
    found: dict[str, dict[str, float]] = {}
    for name, line in ((name, line) for name, table in tables.items() if name not in ("figure5", "claims")
                       for line in table.to_pylist()):
        test = " (test)" if name in ("table6", "table7b") else ""
        cells = [(line["run"], f"{line['strategy']}{test}", line["miou"])] if "miou" in line else [
            (line["backbone"], error, line[error]) for error in ("top1_error", "top5_error")]
        for one, column, score in cells:
            if score is not None:
                found.setdefault(one, {})[column] = round(score, 4)
    return found


def load(folder: Path = FOLDER) -> dict[str, list[dict]]:
    """Every table as a list of rows. A missing table is simply not there."""
    return {path.stem: pq.ParquetFile(path).read().to_pylist() for path in sorted(Path(folder).glob("*.parquet"))}


def summary(tables: dict[str, pa.Table]) -> str:
    """One line a table: how many of its rows are measured."""
    lines = []
    for name, table in tables.items():
        states = table["status"].to_pylist()
        lines.append(f"{name:8} {states.count('measured'):3} of {len(states):3} rows measured")
    return "\n".join(lines)


def _lines(study: Study, row: Row, measured: dict | None, counted: dict, known: dict[str, float],
           squares: dict[str, dict]) -> list[dict]:
    """One row of the paper as one line, a curve of Figure 5 as one line per width. known: mIOU (%) by RUN/STRATEGY; squares: as
    `_squares` gives them."""
    state = "measured" if measured else status(study, row)
    if state == "measured" and not measured:
        state = "not run: MLflow has no such run; run python -m stages.compile again"
    scores = measured["metrics"] if measured else {}
    if row.table == "figure5":
        return [line | {"scale": study.scale, "status": state} for line in _curve(row, measured, squares.get(row.key, {}))]
    if row.table == "table4":
        return [_errors(study, row, scores) | {"scale": study.scale, "status": state}]
    return [_scored(study, row, scores, state, counted, known)]


def _curve(row: Row, measured: dict | None, squares: dict[int, float]) -> list[dict]:
    """A curve of Figure 5, a line for each width."""
    curves = measured["curves"] if measured else {}
    ours, low, high = (curves.get(f"trimap_{name}", {}) for name in ("miou", "low", "high"))
    return [{"curve": row.published["curve"], "width": width, "run": row.run, "strategy": row.strategy, "miou_paper": paper,
             "miou": ours.get(width), "miou_low": low.get(width), "miou_high": high.get(width), "miou_square": squares.get(width)}
            for width, paper in zip(TRIMAP_WIDTHS, row.published["miou"])]


def _errors(study: Study, row: Row, scores: dict[str, float]) -> dict:
    """A backbone of Table 4: its error rates on ImageNet, each with its interval."""
    line = {"label": row.name, "model": row.published["model"], "backbone": row.published["backbone"]}
    for name in ("top1_error", "top5_error"):
        low, high = error_rates.wilson(scores[name], error_rates.images_of(study)) if name in scores else (None, None)
        line |= {f"{name}_paper": row.published[name], name: scores.get(name), f"{name}_low": low, f"{name}_high": high}
    return line | {"parameters_here": scores.get("parameters", 0) / 1e6 or None}


def _scored(study: Study, row: Row, scores: dict[str, float], state: str, counted: dict, known: dict[str, float]) -> dict:
    """A run at a strategy: mIOU, measured here or by a test server, and what it costs."""
    published, run, strategy, note = row.published, row.run, row.strategy, row.published.get("note")
    seeds = _over_seeds(study, row, known) if scores else (None, None)
    if submitted := study.test_scores.get(study.scale, {}).get(published.get("test_server")):
        run, strategy, state = submitted.run, submitted.strategy, "measured"
        scores, seeds = {"miou": submitted.miou}, (None, None)  # what the server said is all that there is
        if training := study.training(run):
            note = f"{run} was trained on the split {training.split}"
    line = {"label": row.name, "run": run, "strategy": strategy}
    line |= {key: value for key, value in published.items() if key not in OPTIONAL}
    line |= {"miou_paper": published.get("miou")} | {name: scores.get(name) for name in SCORES}
    if row.table != "own":
        line |= dict(zip(SEEDS, seeds))
    cost = counted.get((published.get("same_network_as", run), published.get("strategy", strategy)), {})
    line |= {"madds_paper": published.get("madds")} | {name: cost.get(name) for name in COSTS}
    return line | {"scale": study.scale, "status": state, "note": note}


def _over_seeds(study: Study, row: Row, known: dict[str, float]) -> tuple[float | None, float | None]:
    """The lowest and the highest mIOU (%) of the trainings of the row's network; None, None where there is one."""
    found = [known[key] for run in ledger.seeds(study, row.run) if (key := f"{run}/{row.strategy}") in known]
    return (min(found), max(found)) if len(found) > 1 else (None, None)


def _squares(study: Study, curves: list[Row]) -> dict[str, dict[int, float]]:
    """mIOU (%) by trimap width with a square structuring element, by the rows' keys; without those whose label maps were not
    kept. Curves on one data set are counted together, as they share the distances."""
    kept, found = {}, {}
    for row in curves:
        if maps := label_maps(study, row.run, row.strategy):
            kept.setdefault(study.runs[row.run].dataset, []).append((row, maps))
    for together in kept.values():
        run = together[0][0].run
        _, only = classes(study, run)
        for (row, _), bands in zip(together, square_trimap.recounted(shard(study, run), [maps for _, maps in together])):
            curve = zip(TRIMAP_WIDTHS, miou_within(bands, only).tolist())
            found[row.key] = {width: value for width, value in curve if value == value}
    return found


def _typed(lines: list[dict]) -> pa.Table:
    """Columns that are empty in every row still get their type: numbers are float64, text is string."""
    numbers = {*SCORES, *SEEDS, "miou_square", "miou_paper", "madds_paper", *COSTS,
               *(f"{error}{end}" for error in ("top1_error", "top5_error") for end in ("", "_low", "_high"))}
    names = list(dict.fromkeys(name for line in lines for name in line))
    columns = {name: [line.get(name) for line in lines] for name in names}
    def kind(name):
        if name in numbers:
            return pa.float64()
        return pa.string() if all(value is None or isinstance(value, str) for value in columns[name]) else None
    return pa.table({name: pa.array(column, kind(name)) for name, column in columns.items()})
