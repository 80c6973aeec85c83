"""What the report says, as plain data for its templates: taken from reports/tables, the records and the facts."""
import functools

import numpy as np

from pipeline import paper, records
from pipeline.evaluation import metrics
from pipeline.reporting import figures, ledger, pictures, tables
from pipeline.study import Study
from pipeline.tracking.measure import classes, read_facts
from pipeline.tracking.rows import EXPERIMENTS

COLUMNS = {  # what identifies a row: (heading, column)
    "table1": [("Channels", "channels")],
    "table2": [("Conv2", "conv2"), ("Conv3", "conv3"), ("3×3 conv structure", "conv")],
    "table3": [("Train OS", "train_os"), ("Eval OS", "eval_os"), ("Decoder", "dec"), ("MS", "ms"), ("Flip", "flip")],
    "table4": [("Model", "model")],
    "table5": [("Train OS", "train_os"), ("Eval OS", "eval_os"), ("Decoder", "dec"), ("MS", "ms"), ("Flip", "flip"), ("SC", "sc"), ("COCO", "coco"),
               ("JFT", "jft")],
    "table6": [("Method", "method")],
    "table7a": [("Backbone", "backbone"), ("Decoder", "dec"), ("ASPP", "aspp"), ("Image-level", "image_level")],
    "table7b": [("Method", "method"), ("Coarse", "coarse")],
    "own": [("Run", "run"), ("Strategy", "strategy")],
}
COSTS = [("paper", "madds_paper"), ("recounted", "madds_counted_as_paper"), ("executed", "madds_executed")]


def build(study: Study) -> dict:
    """Everything that the templates show."""
    stored = tables.load()
    claims = stored.pop("claims", [])
    shown = [_table(name, stored[name]) for name in [*paper.tables(), "own"] if name in stored and name != "figure5"]
    counted = [row for table in shown for row in table["rows"]]
    runs = [_run(study, name) for name in study.runs]
    album = _album(study)
    return {
        "study": study, "scale": study.scale, "banner": _banner(study, counted), "tables": shown, "figure5": _figure5(stored.get("figure5", [])),
        "claims": _claims(claims), "rule": ledger.RULE, "verdicts": {name: sum(claim["verdict"] == name for claim in claims) for name in ledger.VERDICTS},
        "measured": sum(row["state"] == "measured" for row in counted), "runnable": sum(row["state"] != "nobody" for row in counted),
        "rows": len(counted), "runs": runs, "album": album, "classes": _classes(study), "provenance": _provenance(study, runs),
        "charts": {f"{kind}-{side}": chart for side in ("paper", "ours") for kind, chart in (
            ("figure5", figures.trimap(stored.get("figure5", []), side == "ours")), ("cost", figures.cost(stored, side == "ours"))) if chart},
    }


def _banner(study: Study, rows: list[dict]) -> dict | None:
    """Why these numbers are not the paper's experiment, or None where they are."""
    missing = sum(row["state"] == "missing" for row in rows)
    if study.scale == "paper":
        return {"short": "draft", "long": f"{missing} rows are not measured yet"} if missing else None
    generated = study.settings.voc is not None and study.settings.voc.source is not None and study.settings.voc.source.generate is not None
    why = ("generated data and small networks, not a result. Its percentages are not comparable with the paper's; what compares is which row "
           "beats which" if generated else "not the paper's data or networks, so not a result of the paper's experiment")
    return {"short": study.scale, "long": why}


def _table(name: str, lines: list[dict]) -> dict:
    published = paper.tables().get(name)
    measures = [("top-1 error", "top1_error"), ("top-5 error", "top5_error")] if name == "table4" else [("mIOU", "miou")]
    costs = [(words, key) for words, key in COSTS if any(line.get(key) is not None for line in lines)]
    rows = []
    for line in lines:
        state = "measured" if line["status"] == "measured" else "missing" if line["run" if name != "table4" else "backbone"] else "nobody"
        stage = f"pretrain@{line['backbone']}" if name == "table4" else f"evaluate@{line['run']}"
        rows.append({
            "cells": [line[key] for _, key in COLUMNS[name]], "label": line["label"], "state": state, "status": line["status"],
            "command": f"dvc repro {stage}" if state == "missing" else None, "run": line.get("run"), "note": line.get("note"),
            "values": [_value(line, key, -1 if name == "table4" else 1) for _, key in measures], "costs": [line[key] for _, key in costs]})
    return {"id": name, "number": EXPERIMENTS[name], "title": published.title if published else "Evaluated runs of params.yaml that the paper lacks",
            "setting": published.setting if published else "", "section": published.section if published else None,
            "heads": [head for head, _ in COLUMNS[name]], "measures": [words for words, _ in measures], "costs": [words for words, _ in costs],
            "rows": rows}


def _value(line: dict, key: str, better: int) -> dict:
    """One measure of one row. `good`: whether ours is better than the paper's, None where equal or unknown."""
    ours, theirs = line.get(key), line.get(f"{key}_paper")
    difference = None if ours is None or theirs is None else ours - theirs
    return {"paper": theirs, "ours": ours, "low": line.get(f"{key}_low"), "high": line.get(f"{key}_high"), "difference": difference,
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
    points = [abs(claim[key]) for claim in claims if claim["unit"] == "points" for key in ("predicts", "effect") if claim[key] is not None]
    limit = float(np.ceil(max([*points, 2]) * 1.15))
    return [claim | {"picture": figures.effect(claim, limit if claim["unit"] == "points" else 60), "mark": ledger.VERDICTS[claim["verdict"]],
                     "truth": _truth(claim), "axis": figures.scale_of_effects(limit)} for claim in claims]


def _truth(claim: dict) -> str:
    """The differences under which a claim is true, in words."""
    low, high = claim["at_least"], claim["at_most"]
    return f"between {low:g} and {high:g}" if low is not None and high is not None else f"above {low:g}" if low is not None else f"below {high:g}"


def _record(folder) -> dict | None:
    try:
        return records.read(folder)
    except FileNotFoundError:
        return None


def _run(study: Study, name: str) -> dict:
    """One trained network: what it differs in from the first run of params.yaml, its curves, its times."""
    run, (first, baseline) = study.runs[name], next(iter(study.runs.items()))
    plain, other = baseline.model_dump(), run.model_dump()
    differs = [f"{key}: {', '.join(value) if isinstance(value, tuple) else value}" for key, value in other.items()
               if value != plain[key] and not (key == "start" and value == f"weights/{run.backbone}")]
    trained, evaluated = _record(study.artifacts("runs", name)), _record(study.artifacts("facts", name))
    done = trained is not None and trained["status"] == "done"
    return {"id": name, "dataset": run.dataset, "differs": "the baseline" if name == first else "; ".join(differs) or "nothing", "done": done,
            "reason": None if done else (trained or {}).get("reason") or "not trained yet", "record": trained if done else None,
            "miou": trained["metrics"].get("miou") if done else None, "parameters": trained["metrics"].get("parameters") if done else None,
            "seconds": trained["provenance"].get("seconds") if done else None,
            "evaluation_seconds": evaluated["provenance"].get("seconds") if evaluated and evaluated["status"] == "done" else None,
            "evaluated": name in study.evaluate, "curves": figures.history(study, name) if done else {}}


def _scored(study: Study, run: str) -> bool:
    record = _record(study.artifacts("facts", run))
    return record is not None and record["status"] == "done"


def _classes(study: Study) -> list[dict]:
    """IoU per class of each evaluated run at its first strategy, by data set."""
    found: dict[str, dict] = {}
    for run, strategies in study.evaluate.items():
        if not _scored(study, run):
            continue
        names, _ = classes(study, run)
        scores = metrics.per_class_iou(metrics.confusion(read_facts(study, run), strategies[0], len(names)))
        found.setdefault(study.runs[run].dataset, {"names": names, "runs": []})["runs"].append((run, strategies[0], scores.tolist()))
    for dataset, table in found.items():
        seen = [number for number in range(len(table["names"])) if any(scores[number] == scores[number] for _, _, scores in table["runs"])]
        table |= {"dataset": dataset, "names": [table["names"][number] for number in seen],
                  "runs": [(run, strategy, [scores[number] for number in seen]) for run, strategy, scores in table["runs"]]}
    return list(found.values())


def _album(study: Study) -> list[dict]:
    """Figure 5b's pictures where both networks are there, and Figure 6's for one run a data set. `columns`: heading -> cases."""
    pages, scored = [], functools.partial(_scored, study)
    if scored("t2-x2") and scored("t3-os16-nodec"):
        pages.append({"id": "figure5b", "number": "Figure 5b", "title": "where the decoder improves most", "run": "t2-x2",
                      "columns": {"Most improved": pictures.improved(study, "t2-x2", "t3-os16-nodec")}})
    for dataset, title in (("voc", "VOC"), ("cityscapes", "Cityscapes")):
        run = next((name for name, run in study.runs.items() if run.dataset == dataset and run.decoder != "none" and scored(name)), None)
        if run:
            best, worst = pictures.cases(study, run)
            pages.append({"id": f"figure6-{dataset}", "number": "Figure 6", "title": title, "run": run,
                          "columns": {"Best cases": best, "Failures": worst}})
    return [page | {"key": pictures.palette_of(study, page["run"])} for page in pages]


def _provenance(study: Study, runs: list[dict]) -> list[tuple[str, str]]:
    """Where the numbers come from, from the records of what was trained; no clock is read here."""
    known = [run["record"]["provenance"] for run in runs if run["record"]]
    def each(key):
        return ", ".join(sorted({str(one[key]) for one in known if one.get(key) is not None})) or "unknown"
    def total(key):
        return sum(run[key] or 0 for run in runs)
    dirty = sum(bool(one.get("dirty")) for one in known)
    return [("Scale", study.scale), ("Commit", each("commit") + (f" (with uncommitted changes in {dirty} of {len(known)} runs)" if dirty else "")),
            ("Seeds", ", ".join(sorted({str(study.runs[run["id"]].seed) for run in runs if run["done"]})) or "none"),
            ("Python", each("python")), ("PyTorch", each("torch")), ("Device", each("device")), ("Machine", f"{each('machine')}, {each('cpus')} CPUs"),
            ("Networks trained", f"{sum(run['done'] for run in runs)} of {len(runs)}"),
            ("Training time, summed", duration(total("seconds"))), ("Evaluation time, summed", duration(total("evaluation_seconds")))]


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return ""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
