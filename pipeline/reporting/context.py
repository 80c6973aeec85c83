"""What the report says, as plain data for its templates: taken from reports/tables, the records and the facts."""
import functools

import numpy as np

from pipeline import paper
from pipeline.reporting import figures, ledger, pictures, runs, tables
from pipeline.study import Study, StudyError
from pipeline.tracking.rows import EXPERIMENTS

COLUMNS = {  # what identifies a row: (heading, column)
    "table1": [("Channels", "channels")],
    "table2": [("Conv2", "conv2"), ("Conv3", "conv3"), ("3×3 conv structure", "conv")],
    "table3": [("Train OS", "train_os"), ("Eval OS", "eval_os"), ("Decoder", "dec"), ("MS", "ms"), ("Flip", "flip")],
    "table4": [("Model", "model")],
    "table5": [("Train OS", "train_os"), ("Eval OS", "eval_os"), ("Decoder", "dec"), ("MS", "ms"), ("Flip", "flip"),
               ("SC", "sc"), ("COCO", "coco"),
               ("JFT", "jft")],
    "table6": [("Method", "method")],
    "table7a": [("Backbone", "backbone"), ("Decoder", "dec"), ("ASPP", "aspp"), ("Image-level", "image_level")],
    "table7b": [("Method", "method"), ("Coarse", "coarse")],
    "own": [("Run", "run"), ("Strategy", "strategy")],
}
COSTS = [("paper", "madds_paper"), ("recounted", "madds_counted_as_paper"), ("executed", "madds_executed")]


def build(study: Study) -> dict:
    """Everything that the templates show. StudyError where the tables have not been compiled."""
    stored = tables.load()
    if "claims" not in stored:
        raise StudyError(f"{tables.FOLDER} holds no compiled tables: run python -m stages.compile first")
    claims = stored.pop("claims")
    shown = [_table(name, stored[name]) for name in [*paper.tables(), "own"] if name in stored and name != "figure5"]
    counted = [row for table in shown for row in table["rows"]]
    trained = [runs.describe(study, name) for name in study.runs]
    figure5, charts = stored.get("figure5", []), {}
    for side in ("paper", "ours"):
        charts |= {f"figure5-{side}": figures.trimap(figure5, side == "ours"),
                   f"cost-{side}": figures.cost(stored, side == "ours")}
    return {
        "study": study,
        "scale": study.scale,
        "banner": _banner(study, counted),
        "claims": _claims(claims),
        "rule": ledger.RULE,
        "verdicts": {name: sum(claim["verdict"] == name for claim in claims) for name in ledger.VERDICTS},
        "tables": shown,
        "measured": sum(row["state"] == "measured" for row in counted),
        "runnable": sum(row["state"] != "nobody" for row in counted),
        "figure5": _figure5(figure5),
        "charts": {name: chart for name, chart in charts.items() if chart},
        "album": _album(study),
        "runs": trained,
        "classes": runs.by_class(study),
        "provenance": runs.provenance(study, trained),
    }


def _banner(study: Study, rows: list[dict]) -> dict | None:
    """Why these numbers are not the paper's experiment, or None where they are."""
    missing = sum(row["state"] == "missing" for row in rows)
    if study.scale == "paper":
        return {"short": "draft", "long": f"{missing} rows are not measured yet"} if missing else None
    source = study.settings.voc and study.settings.voc.source
    generated = source is not None and source.generate is not None
    why = "not the paper's data or networks, so not a result of the paper's experiment"
    if generated:
        why = ("generated data and small networks, not a result. Its percentages are not comparable with the paper's; "
               "what compares is which row beats which")
    return {"short": study.scale, "long": why}


def _table(name: str, lines: list[dict]) -> dict:
    published = paper.tables().get(name)
    measures = [("top-1 error", "top1_error"), ("top-5 error", "top5_error")] if name == "table4" else [("mIOU", "miou")]
    costs = [(words, key) for words, key in COSTS if any(line.get(key) is not None for line in lines)]
    rows = []
    for line in lines:
        someone = line["backbone"] if name == "table4" else line["run"]  # None: a row that nobody outside can run
        state = "measured" if line["status"] == "measured" else "missing" if someone else "nobody"
        rows.append({
            "cells": [line[key] for _, key in COLUMNS[name]], "label": line["label"], "state": state, "status": line["status"],
            "run": line.get("run"), "note": line.get("note"),
            "values": [_value(line, key, -1 if name == "table4" else 1) for _, key in measures],
                     "costs": [line[key] for _, key in costs]})
    return {"id": name, "number": EXPERIMENTS[name], "title": published.title if published
            else "Evaluated runs of params.yaml that the paper lacks",
            "setting": published.setting if published else "", "section": published.section if published else None,
            "heads": [head for head, _ in COLUMNS[name]], "measures": [words for words, _ in measures],
            "costs": [words for words, _ in costs],
            "rows": rows}


def _value(line: dict, key: str, better: int) -> dict:
    """One measure of one row. `good`: whether ours is better than the paper's, None where equal or unknown."""
    ours, theirs = line.get(key), line.get(f"{key}_paper")
    difference = None if ours is None or theirs is None else ours - theirs
    return {"paper": theirs, "ours": ours, "low": line.get(f"{key}_low"), "high": line.get(f"{key}_high"),
            "difference": difference,
            "good": None if not difference else difference * better > 0}


def _figure5(lines: list[dict]) -> dict:
    curves = list(dict.fromkeys(line["curve"] for line in lines))
    by_width = {line["width"]: {} for line in lines}
    for line in lines:
        by_width[line["width"]][line["curve"]] = line
    published = paper.tables()["figure5"]
    return {"title": published.title, "setting": published.setting, "section": published.section, "curves": curves,
            "rows": [(width, [line[curve] for curve in curves]) for width, line in by_width.items()],
            "missing": sorted({line["status"] for line in lines} - {"measured"})}


def _claims(claims: list[dict]) -> list[dict]:
    points = [abs(claim[key]) for claim in claims if claim["unit"] == "points" for key in ("predicts", "effect")
              if claim[key] is not None]
    limit = float(np.ceil(max([*points, 2]) * 1.15))
    return [claim | {"picture": figures.effect(claim, limit if claim["unit"] == "points" else 60),
                     "mark": ledger.VERDICTS[claim["verdict"]],
                     "truth": _truth(claim), "axis": figures.scale_of_effects(limit)} for claim in claims]


def _truth(claim: dict) -> str:
    """The differences under which a claim is true, in words."""
    low, high = claim["at_least"], claim["at_most"]
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}"
    return f"above {low:g}".replace("-", "−") if low is not None else f"below {high:g}"


def _album(study: Study) -> list[dict]:
    """Figure 5b's pictures where both networks are there, and Figure 6's for one run a data set. `columns`: heading -> cases."""
    pages, scored = [], functools.partial(runs.scored, study)
    if scored("t2-x2") and scored("t3-os16-nodec"):
        pages.append({"id": "figure5b", "number": "Figure 5b", "title": "where the decoder improves most", "run": "t2-x2",
                      "columns": {"Most improved": pictures.improved(study, "t2-x2", "t3-os16-nodec")}})
    for dataset, title in (("voc", "VOC"), ("cityscapes", "Cityscapes")):
        run = next((name for name, run in study.runs.items() if run.dataset == dataset and run.decoder != "none"
                    and scored(name)), None)
        if run:
            best, worst = pictures.cases(study, run)
            pages.append({"id": f"figure6-{dataset}", "number": "Figure 6", "title": title, "run": run,
                          "columns": {"Best cases": best, "Failures": worst}})
    return [page | {"key": pictures.palette_of(study, page["run"])} for page in pages]
