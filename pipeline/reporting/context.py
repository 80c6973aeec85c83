"""What the report says, as plain data for its templates: taken from reports/tables, the records and the facts."""
import functools
import statistics

from pipeline import paper, records
from pipeline.evaluation.measure import read_facts
from pipeline.paper import protocol
from pipeline.paper.rows import TITLES, Row
from pipeline.reporting import banner, columns, comparison, effects, figures, ledger, pictures, run_pages, runs, sheets, tables
from pipeline.study import Study, StudyError

DECODERS = {"ResNet-101": ("ResNet-101 with decoder", "ResNet-101 with BU"),
            "Xception": ("Xception with decoder", "Xception with BU")}  # of Figure 5's curves
ALBUM = {"voc": ("Figure 6", "VOC", ("t5-coco", "t5-dec")),  # the paper's best networks, first the best
         "cityscapes": ("Cityscapes", "as Figure 6 shows VOC", ("t7-x71", "t7-dec"))}


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
    limit = effects.limit_of(judged)
    shown = [_table(study, name, stored[name]) for name in [*paper.tables(), "own"] if name in stored and name != "figure5"]
    counted = [row for table in shown for row in table["rows"]]
    measured = {table["id"] for table in shown if table["measured"]}
    if apart := bool(measured) and measured <= {"own", "zoo"}:  # then they come first, and the others are folded
        shown.sort(key=lambda table: not table["measured"])
    trained = [runs.describe(study, name) for name, run in study.runs.items()
               if not (run.published and study.settings.trains and study.skipped(name))]
    sizes = {run["id"]: run["parameters"] for run in trained} | {
        name: record["metrics"].get("parameters") for name in study.backbones
        if (record := records.read(study.artifacts("weights", name)))}
    departing, data = protocol.departing(study), sheets.build(study)
    figure5, album = stored.get("figure5", []), _album(study)
    charts = {f"{kind}-{side}": chart for side in ("paper", "ours") for kind, chart in (
        ("figure5", figures.trimap(figure5, side == "ours")), ("cost", figures.cost(stored, side == "ours"))) if chart}
    return {
        "scale": study.scale,
        "generated": sheets.generated(study, "voc"),
        "longest": study.settings.voc.evaluate.canvas[1] if study.settings.voc else None,
        "banner": banner.build(study, sum(row["state"] == "missing" for row in counted), departing, data),
        "comparable": study.scale in columns.COMPARABLE,
        "claims": effects.lines(claims, limit, sizes, trained),
        "own_claims": effects.lines(own_claims, limit, sizes, trained),
        "axis": figures.scale_of_effects(limit),
        "trains": study.settings.trains,
        "rule": f"{ledger.RULE} {ledger.ONCE}" if study.settings.trains else ledger.RULE,
        "intervals": ledger.INTERVALS,
        "recounted": comparison.recounted(stored),
        "reached": comparison.reached(stored) if study.scale in columns.COMPARABLE else None,
        "verdicts": {name: [claim["measure"].startswith("madds") for claim in claims if claim["verdict"] == name]
                     for name in ledger.VERDICTS},  # of each claim whether it is a matter of counting
        "tables": shown,
        "terms": columns.terms("own" in stored),
        "apart": apart,
        "measured": sum(row["state"] == "measured" for row in counted),
        "runnable": sum(row["state"] != "nobody" for row in counted),
        "figure5": _figure5(figure5),
        "charts": charts,
        "album": album,
        "hero": next((case for page in album[:1] for cases in page["columns"].values() for case in cases), None),
        "runs": trained,
        "departing": departing,
        "classes": runs.by_class(study),
        "sheets": data,
        "provenance": [*runs.provenance(study, trained), ("Decoded images and labels", sheets.digests(data))],
        "elsewhere": runs.ELSEWHERE,
        "pages": run_pages.build(study, trained, stored, judged, departing),
    }


def _table(study: Study, name: str, lines: list[dict]) -> dict:
    published = paper.tables().get(name)
    kinds, measures, costs = columns.ROWS[name], columns.measures(name), columns.costs(name, lines)
    better = -1 if name == "table4" else 1
    ranks = {key: comparison.ranks(lines, key, better) for _, key in measures}
    rows = []
    for place, line in enumerate(lines):
        someone = line["backbone"] if name == "table4" else line["run"]  # None: a row that nobody outside can run
        state = "measured" if line["status"] == "measured" else "missing" if someone else "nobody"
        runs_here = study.settings.trains or (someone in study.runs and study.runs[someone].published)
        command = f"dvc repro {Row(name, {}, someone, None).stage}" if state == "missing" and runs_here else None
        reason = "" if state == "measured" else line["status"].removeprefix("not run: ")
        rows.append({"cells": [line[key] for _, key in kinds], "label": line["label"], "state": state, "command": command,
                     "reason": "" if command and reason == f"{command} has not been run yet" else reason,
                     "run": line.get("run"), "note": line.get("note"),
                     "values": [comparison.value(line, key, better, ranks[key][place]) for _, key in measures],
                     "costs": [line[key] for _, key in costs]})
    return {"id": name, "number": TITLES[name], "title": published.title if published
            else "Runs and strategies that params.yaml evaluates and the paper lacks",
            "setting": published.setting if published else "", "section": published.section if published else None,
            "published": published is not None,
            "heads": [head for head, _ in kinds], "measures": [words for words, _ in measures],
            "costs": [words for words, _ in costs], "rows": rows, "digits": columns.digits(name),
            "runs": published is not None and any(row["run"] for row in rows),
            "notes": list(dict.fromkeys(row["note"] for row in rows if row["note"])),
            "order": comparison.order(lines, measures[0][1]),
            "measured": any(row["state"] == "measured" for row in rows)}


def _figure5(lines: list[dict]) -> dict:
    curves = {line["curve"]: line["run"] for line in lines}
    by_width = {line["width"]: {} for line in lines}
    for line in lines:
        by_width[line["width"]][line["curve"]] = line
    published = paper.tables()["figure5"]
    return {"title": published.title, "setting": published.setting, "section": published.section, "curves": curves,
            "rows": [(width, [line[curve] for curve in curves]) for width, line in by_width.items()],
            "squares": _squares(lines), "missing": sorted({line["status"] for line in lines} - {"measured"})}


def _squares(lines: list[dict]) -> dict | None:
    """How far a square element moves the curves, and the decoder's gain at the narrowest band by both; None without squares."""
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


def _album(study: Study) -> list[dict]:
    """Figure 5b's pictures where both networks are there, and Figure 6's for one run a data set. `columns`: heading -> cases."""
    pages, evaluated = [], functools.partial(runs.evaluated, study)
    better, worse = "t5-dec", "t5-nodec"  # Xception, as Figure 5's caption has it
    if evaluated(better) and evaluated(worse) and (cases := pictures.improved(study, better, worse)):
        found = pictures.gains(study, better, worse, study.evaluate[better][0], study.evaluate[worse][0])
        pages.append({"id": "figure5b", "number": "Figure 5b", "title": "where the decoder improves most", "run": better,
                      "rival": worse, "wide": False, "columns": {"Most improved": cases},
                      "median": statistics.median(after - before for _, before, after in found)})
    for dataset, (number, title, first) in ALBUM.items():
        run = next((name for name in dict.fromkeys([*first, *study.runs])
                    if evaluated(name) and study.runs[name].dataset == dataset and study.runs[name].decoder != "none"), None)
        if run:
            best, worst = pictures.cases(study, run)
            pages.append({"id": f"figure6-{dataset}", "number": number, "title": title, "run": run, "rival": None,
                          "wide": dataset == "cityscapes", "columns": {"Best cases": best, "Failures": worst}})
    return [page | {"key": pictures.palette_of(study, page["run"]), "images": len(read_facts(study, page["run"]).images)}
            for page in pages]
