"""What the report says, as plain data for its templates: taken from reports/tables, the records and the facts."""
import functools

from pipeline import paper
from pipeline.paper.rows import TITLES
from pipeline.reporting import columns, figures, ledger, pictures, run_pages, runs, sheets, tables
from pipeline.study import Study, StudyError


def build(study: Study) -> dict:
    """Everything that the templates show; "pages" are the runs' own. StudyError where the tables have not been compiled."""
    stored = tables.load()
    if "claims" not in stored:
        raise StudyError(f"{tables.FOLDER} holds no compiled tables: run python -m stages.compile first")
    if others := {line["scale"] for table in stored.values() for line in table} - {study.scale}:
        raise StudyError(f"{tables.FOLDER} has tables of scale {', '.join(sorted(others))}, not of {study.scale}: make report")
    judged = stored.pop("claims")
    claims = [claim for claim in judged if claim["predicts"] is not None]
    own_claims = [claim for claim in judged if claim["predicts"] is None]
    limit = _limit(judged)
    shown = [_table(name, stored[name]) for name in [*paper.tables(), "own"] if name in stored and name != "figure5"]
    counted = [row for table in shown for row in table["rows"]]
    measured = {table["published"] for table in shown for row in table["rows"] if row["state"] == "measured"}
    if own_only := measured == {False}:  # then they come first, and the paper's tables are folded
        shown.sort(key=lambda table: table["published"])
    trained = [runs.describe(study, name) for name, run in study.runs.items() if not (run.published and study.settings.trains)]
    figure5, charts = stored.get("figure5", []), {}
    for side in ("paper", "ours"):
        charts |= {f"figure5-{side}": figures.trimap(figure5, side == "ours"),
                   f"cost-{side}": figures.cost(stored, side == "ours")}
    return {
        "scale": study.scale,
        "banner": _banner(study, counted),
        "comparable": study.scale in ("paper", "zoo"),  # the paper's data and networks: a difference in points means something
        "claims": _claims(claims, limit),
        "own_claims": _claims(own_claims, limit),
        "axis": figures.scale_of_effects(limit),
        "rule": ledger.RULE,
        "intervals": ledger.INTERVALS,
        "verdicts": {name: sum(claim["verdict"] == name for claim in claims) for name in ledger.VERDICTS},
        "tables": shown,
        "own_only": own_only,
        "measured": sum(row["state"] == "measured" for row in counted),
        "runnable": sum(row["state"] != "nobody" for row in counted),
        "figure5": _figure5(figure5),
        "charts": {name: chart for name, chart in charts.items() if chart},
        "album": _album(study),
        "runs": trained,
        "classes": runs.by_class(study),
        "sheets": sheets.build(study),
        "provenance": runs.provenance(study, trained),
        "pages": run_pages.build(study, trained, stored, judged),
    }


def _banner(study: Study, rows: list[dict]) -> dict | None:
    """Why these numbers are not the paper's experiment, or None where they are."""
    missing = sum(row["state"] == "missing" for row in rows)
    if study.scale == "paper":
        return {"short": "draft", "long": f"{missing} rows are not measured yet"} if missing else None
    source = study.settings.voc and study.settings.voc.source
    generated = source is not None and source.generate is not None
    why = "not the paper's data or networks, so not a result of the paper's experiment"
    if not study.settings.trains:
        why = "published networks, evaluated here; nothing was trained, so not a result of the paper's experiment"
    if generated:
        why = ("generated data and small networks, not a result. Its percentages are not comparable with the paper's; "
               "what can be compared is the order of the rows")
    return {"short": study.scale, "long": why}


def _table(name: str, lines: list[dict]) -> dict:
    published = paper.tables().get(name)
    kinds, measures, costs = columns.ROWS[name], columns.measures(name), columns.costs(name, lines)
    rows = []
    for line in lines:
        someone = line["backbone"] if name == "table4" else line["run"]  # None: a row that nobody outside can run
        state = "measured" if line["status"] == "measured" else "missing" if someone else "nobody"
        command = f"dvc repro {'pretrain' if name == 'table4' else 'evaluate'}@{someone}" if state == "missing" else None
        reason = "" if state == "measured" else line["status"].removeprefix("not run: ")
        rows.append({"cells": [line[key] for _, key in kinds], "label": line["label"], "state": state, "command": command,
                     "reason": "" if command and reason == f"{command} has not been run yet" else reason,
                     "run": line.get("run"), "note": line.get("note"),
                     "values": [_value(line, key, -1 if name == "table4" else 1) for _, key in measures],
                     "costs": [line[key] for _, key in costs]})
    return {"id": name, "number": TITLES[name], "title": published.title if published
            else "Runs and strategies that params.yaml evaluates and the paper lacks",
            "setting": published.setting if published else "", "section": published.section if published else None,
            "published": published is not None,
            "heads": [head for head, _ in kinds], "measures": [words for words, _ in measures],
            "costs": [words for words, _ in costs], "rows": rows, "digits": columns.digits(name),
            "runs": published is not None and any(row["run"] for row in rows),
            "notes": list(dict.fromkeys(row["note"] for row in rows if row["note"])), "order": _order(lines, measures[0][1])}


def _order(lines: list[dict], key: str) -> str:
    """How many pairs of rows are in the paper's order here: a comparison that no scale spoils. Empty under two measured rows."""
    known = [(line[f"{key}_paper"], line[key]) for line in lines if line.get(f"{key}_paper") is not None
             and line.get(key) is not None]
    pairs = [(one[0] - other[0], one[1] - other[1]) for place, one in enumerate(known) for other in known[place + 1:]]
    pairs = [(theirs, ours) for theirs, ours in pairs if theirs]
    same = sum(theirs * ours > 0 for theirs, ours in pairs)
    if not pairs:
        return ""
    if len(pairs) == 1:
        return f"The two measured rows are {'in' if same else 'not in'} the paper's order here."
    return f"Which row beats which: {same} of {len(pairs)} pairs of measured rows are in the paper's order here."


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
            "squares": _squares(lines), "missing": sorted({line["status"] for line in lines} - {"measured"})}


DECODERS = {"ResNet-101": ("ResNet-101 with decoder", "ResNet-101 with BU"),
            "Xception": ("Xception with decoder", "Xception with BU")}  # of Figure 5's curves


def _squares(lines: list[dict]) -> dict | None:
    """What a square structuring element changes: how far the curves move, and the decoder's gain at the narrowest band by both
    definitions. None where no curve has both."""
    both = [line for line in lines if line.get("miou_square") is not None and line["miou"] is not None]
    if not both:
        return None
    def moved(width):
        return max(abs(line["miou_square"] - line["miou"]) for line in both if line["width"] == width)
    narrow = {line["curve"]: line for line in both if line["width"] == both[0]["width"]}
    gains = [(network, *(narrow[better][key] - narrow[worse][key] for key in ("miou", "miou_square")))
             for network, (better, worse) in DECODERS.items() if {better, worse} <= set(narrow)]
    widths = list(dict.fromkeys(line["width"] for line in both))
    farthest = max(widths, key=moved)
    return {"moved": moved(farthest), "width": farthest, "narrow": widths[0], "gains": gains}


def _claims(claims: list[dict], limit: float) -> list[dict]:
    return [claim | {"picture": figures.effect(claim, limit), "mark": ledger.VERDICTS[claim["verdict"]], "truth": _truth(claim)}
            for claim in claims]


def _limit(claims: list[dict]) -> float:
    """Where the ledger's axis of effects ends, on both sides."""
    return max(1.2 * abs(claim[key]) for claim in claims for key in ("predicts", "effect") if claim[key] is not None)


def _truth(claim: dict) -> str:
    """The differences under which a claim is true, in words."""
    low, high = claim["at_least"], claim["at_most"]
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}"
    return f"above {low:g}".replace("-", "−") if low is not None else f"below {high:g}"


def _album(study: Study) -> list[dict]:
    """Figure 5b's pictures where both networks are there, and Figure 6's for one run a data set. `columns`: heading -> cases."""
    pages, evaluated = [], functools.partial(runs.evaluated, study)
    if evaluated("t2-x2") and evaluated("t3-os16-nodec") and (cases := pictures.improved(study, "t2-x2", "t3-os16-nodec")):
        pages.append({"id": "figure5b", "number": "Figure 5b", "title": "where the decoder improves most", "run": "t2-x2",
                      "rival": "t3-os16-nodec", "wide": False,
                      "columns": {"Most improved": cases}})
    for dataset, number, title in (("voc", "Figure 6", "VOC"), ("cityscapes", "Cityscapes", "as Figure 6 shows VOC")):
        run = next((name for name, run in study.runs.items() if run.dataset == dataset and run.decoder != "none"
                    and evaluated(name)), None)
        if run:
            best, worst = pictures.cases(study, run)
            pages.append({"id": f"figure6-{dataset}", "number": number, "title": title, "run": run, "rival": None,
                          "wide": dataset == "cityscapes",
                          "columns": {"Best cases": best, "Failures": worst}})
    return [page | {"key": pictures.palette_of(study, page["run"])} for page in pages]
