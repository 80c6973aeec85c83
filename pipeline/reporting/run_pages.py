"""What the page of one run shows, as plain data for its template: settings, scores, curves, confusions, pictures, commands."""
import numpy as np
import yaml

from pipeline import paper
from pipeline.evaluation import metrics
from pipeline.evaluation.measure import classes, costs, read_facts, trimap
from pipeline.paper.rows import TITLES
from pipeline.reporting import pictures, run_charts, runs
from pipeline.reporting.tables import COSTS
from pipeline.study import Study

SIDE, COUNT = 224, 2  # pixels of a picture's longer side, pictures of each kind: a page stays under 250 kB
ORIGINS = ("commit", "dirty", "device", "processor", "machine", "cpus", "python", "torch")


def build(study: Study, trained: list[dict], stored: dict[str, list[dict]], claims: list[dict],
          departing: dict[str, list[str]]) -> dict[str, dict]:
    """The pages by run. Arguments as `runs.describe`, `tables.load`, the ledger and `protocol.departing` give them."""
    lines = [line | {"table": name, "number": TITLES[name]} for name, table in stored.items() for line in table
             if line.get("run")]
    shown = {}
    for run in trained:
        name = run["id"]
        own = [line for line in lines if line["run"] == name]
        about = [claim for claim in claims if name in _compared(claim)]
        page = {"run": run, "skipped": bool(study.skipped(name)), "settings": _settings(study, name),
                "how": (run["record"] or {}).get("params", {}), "family": study.backbones[study.runs[name].backbone],
                "departures": departing.get(name, []),
                "places": _places(own), "claims": about, "commands": commands(study, name),
                "origin": _origin(study, run), "scores": _scores(study, name, own),
                "learning": run_charts.learning(run["curves"])}
        shown[name] = page | (_evaluated(study, name) if runs.evaluated(study, name) else {"evaluated": False})
    return shown


def commands(study: Study, run: str) -> dict[str, str]:
    """{"yaml": the run's lines of params.yaml, written out, "made": the stage that makes it, "stage": the command}."""
    wanted = {key: list(value) if isinstance(value, tuple) else value for key, value in study.runs[run].model_dump().items()
              if value is not None}
    lines = {"zoo" if study.runs[run].published else "runs": {run: wanted}}
    text = yaml.safe_dump(lines, sort_keys=False, default_flow_style=None, width=120)
    if run in study.evaluate:
        text += f"evaluate:\n  {run}: [{', '.join(f'*{name}' for name in study.evaluate[run])}]\n"
    made = f"{'fetch' if study.runs[run].published else 'train'}@{run}"
    return {"yaml": text, "made": made,
            "stage": f"dvc repro {f'evaluate@{run}' if run in study.evaluate else made}"}


def _compared(claim: dict) -> set[str]:
    return {cell.partition("/")[0] for side in ("a", "b", "than") for cell in (claim[side] or "").split(", ")}


def _settings(study: Study, run: str) -> list[dict]:
    """Each field of the run, the baseline's, and whether they differ."""
    plain = study.runs[runs.baseline(study)].model_dump()
    return [{"name": key, "value": runs.words(value), "baseline": runs.words(plain[key]),
             "differs": run != runs.baseline(study) and value != plain[key]}
            for key, value in study.runs[run].model_dump().items() if (value, plain[key]) != (None, None)]


def _places(lines: list[dict]) -> list[dict]:
    """The tables that the run is in, in the paper's order: {"table", "number", "labels": its rows}."""
    found = {}
    for line in sorted(lines, key=lambda line: list(TITLES).index(line["table"])):
        place = found.setdefault(line["table"], {"table": line["table"], "number": line["number"], "labels": {}})
        place["labels"][line.get("label") or line.get("curve")] = None
    return list(found.values())


def _origin(study: Study, run: dict) -> list[tuple[str, str]]:
    """Where the trained network and its scores come from: (what, words), which say whose it is where the two differ."""
    made = "fetching" if study.runs[run["id"]].published else "training"
    sides = {made: (run["record"] or {}).get("provenance"), "evaluation": run["evaluation"]}
    known = {side: found for side, found in sides.items() if found}
    words = {"dirty": "Uncommitted changes", "cpus": "CPUs", "python": "Python", "torch": "PyTorch"}
    found = []
    for key in ORIGINS:
        values = {side: {True: "yes", False: "none"}[value] if isinstance(value, bool) else str(value)
                  for side, one in known.items() if (value := one.get(key)) is not None}
        same = len(values) == len(known) and len(set(values.values())) == 1
        said = next(iter(values.values())) if same else ", ".join(f"{value} ({side})" for side, value in values.items())
        found += [(words.get(key, key.capitalize()), said)] if values else []
    return found


def _scores(study: Study, run: str, lines: list[dict]) -> list[dict]:
    """One line a strategy: what it is, mIOU with interval, the paper's mIOU, the costs."""
    counted, found = costs(study), []
    for strategy in study.evaluate.get(run, ()):
        how = study.strategies[strategy]
        words = [f"output stride {how.output_stride}", f"{len(how.scales)} scales" if len(how.scales) > 1 else "one scale"]
        line = next((line for line in lines if line.get("strategy") == strategy and line["table"] != "figure5"), {})
        cost = counted.get((run, strategy), {})
        found.append({"strategy": strategy, "words": ", ".join([*words, "flipped too"] if how.flip else words),
                      "status": line.get("status", ""),
                      **{key: line.get(key) for key in ("miou", "miou_low", "miou_high", "miou_paper")},
                      **{key: cost.get(key) for key in (*COSTS, "activation_bytes_paper", "activation_bytes_here")}})
    return found


def _evaluated(study: Study, run: str) -> dict:
    """What the facts show: IoU of each class and strategy, the confusion matrix and the trimap curve at the first, pictures."""
    facts, first = read_facts(study, run), study.evaluate[run][0]
    names, _ = classes(study, run)
    confusion = metrics.confusion(facts, first, len(names))
    seen = np.flatnonzero(confusion.sum(0) + confusion.sum(1)).tolist()
    of_truth = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    scores = {name: metrics.per_class_iou(metrics.confusion(facts, name, len(names))) for name in study.evaluate[run]}
    rival = pictures.without_decoder(study, run) if study.runs[run].decoder != "none" else None
    rival = rival if rival and runs.evaluated(study, rival) else None
    best, worst = pictures.cases(study, run, COUNT, SIDE)
    better = pictures.improved(study, run, rival, COUNT, SIDE) if rival else []
    return {"evaluated": True, "first": first, "rival": rival, "images": len(facts.images),
            "key": pictures.palette_of(study, run), "names": [names[number] for number in seen],
            "confusion": [(names[row], int(confusion[row].sum()), [float(of_truth[row, column]) for column in seen])
                          for row in seen],
            "iou": [(names[number], [float(scores[name][number]) for name in scores]) for number in seen],
            "strategies": list(scores), "trimap": _trimap(study, run, first, rival),
            "album": {"Best": best, "Worst": worst, f"Most improved over {rival}": better}}


def _trimap(study: Study, run: str, strategy: str, rival: str | None) -> str | None:
    """The run's curve of Figure 5a, the paper's where it has one, the network's without decoder. None without void."""
    ours = trimap(study, run, strategy, intervals=False).get("trimap_miou")
    if ours is None:
        return None
    published = next((row["miou"] for row in paper.tables()["figure5"].rows if row.get("run") == run), None)
    other = trimap(study, rival, study.evaluate[rival][0], intervals=False).get("trimap_miou") if rival else None
    return run_charts.trimap(ours, published, (rival, other) if other else None)
