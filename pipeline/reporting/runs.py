"""The trained networks as the report shows them: what each differs in, its curves, times and classes; and provenance."""
import math
from pathlib import Path

import numpy as np

from pipeline import files, records
from pipeline.evaluation import metrics
from pipeline.evaluation.measure import classes, outdated, read_facts
from pipeline.reporting import sheets
from pipeline.study import Study
from pipeline.written import read

ELSEWHERE = ("On another processor, with other threads a stage, or on a GPU, weights and mIOU differ by noise like another "
             "seed's; data, multiply-adds, parameters and the paper's columns do not")


def baseline(study: Study) -> str:
    """The run that the others are said to differ from: the first of params.yaml."""
    return next(iter(study.runs))


def describe(study: Study, name: str) -> dict:
    """One trained network: what it differs in from the baseline, its curves, its times."""
    run, first = study.runs[name], baseline(study)
    plain = study.runs[first].model_dump()
    expected = {"start": (None, f"weights/{run.backbone}"), "published": (run.published,)}  # follow from what else is said
    differs = [f"{key}: {words(value)}" for key, value in run.model_dump().items()
               if value != plain[key] and value not in expected.get(key, ())]
    differs += ["published, not trained here"] if run.published else []
    trained = records.read(study.artifacts("runs", name))
    evaluation = records.read(study.artifacts("facts", name))["provenance"] if evaluated(study, name) else {}
    done = trained is not None and trained["status"] == "done"
    return {"id": name, "dataset": run.dataset, "baseline": first,
            "differs": "the baseline" if name == first else "; ".join(differs) or "nothing",
            "done": done, "reason": None if done else (trained or {}).get("reason") or "not trained yet",
            "record": trained if done else None,
            "miou": trained["metrics"].get("miou") if done else None,
            "parameters": trained["metrics"].get("parameters") if done else None,
            "seconds": trained["provenance"].get("seconds") if done else None,
            "evaluation": evaluation, "evaluation_seconds": evaluation.get("seconds"),
            "curves": history(study, name) if done else {}}


def history(study: Study, run: str) -> dict[str, list[tuple[int, float]]]:
    """Curves of a trained run by metric: [(step, value)] without nan and infinity. Empty where it was not trained."""
    curves = {metric: [(step, value) for step, value, _ in points if math.isfinite(value)]
              for metric, points in records.history(study.artifacts("runs", run)).items()}
    return {metric: points for metric, points in curves.items() if points}


def words(value) -> str:
    """A setting's value as the report says it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else "–" if value is None else str(value)


def evaluated(study: Study, run: str) -> bool:
    """Whether the run is to be evaluated, and its facts are there, of the network that is there."""
    there = run in study.evaluate and all(records.done(study.artifacts(kind, run)) for kind in ("runs", "facts"))
    return there and not outdated(study, run)


def by_class(study: Study) -> list[dict]:
    """IoU per class of each evaluated run at its first strategy, by data set."""
    found: dict[str, list] = {}
    for run, strategies in study.evaluate.items():
        if evaluated(study, run):
            names, _ = classes(study, run)
            scores = metrics.per_class_iou(metrics.confusion(read_facts(study, run), strategies[0], len(names)))
            found.setdefault(study.runs[run].dataset, []).append((run, strategies[0], scores))
    tables = []
    for dataset, rows in found.items():
        names, _ = classes(study, rows[0][0])
        seen = np.flatnonzero(~np.isnan([scores for *_, scores in rows]).all(0))
        tables.append({"title": sheets.title(study, dataset), "names": [names[number] for number in seen],
                       "runs": [(run, strategy, scores[seen].tolist()) for run, strategy, scores in rows]})
    return tables


def provenance(study: Study, runs: list[dict]) -> list[tuple[str, str]]:
    """Where the numbers come from, from the records of all that was trained and evaluated and dvc.lock; no clock is read here."""
    made = [run["record"] for run in runs] + [records.read(study.artifacts("weights", name)) for name in study.backbones]
    ran = [one for one in (*(record["provenance"] for record in made if record), *(run["evaluation"] for run in runs)) if one]
    def all_of(key, digits=None):
        return ", ".join(sorted({str(one[key])[:digits] for one in ran if one.get(key) is not None})) or "unknown"
    def total(key):
        return sum(run[key] or 0 for run in runs)
    trains = study.settings.trains
    dirty = sum(bool(one.get("dirty")) for one in ran)
    packages = [f"{name} {all_of(name)}" for name in records.PACKAGES if all_of(name) != "unknown"]
    return [("Scale", study.scale), ("Commit", all_of("commit")
                                     + (f" (with uncommitted changes in {dirty} of {len(ran)} stages)" if dirty else "")),
            ("dvc.lock", lock_digest(study.scale) or "none: it has no results of this scale"),
            *([("Seeds", ", ".join(sorted({str(study.runs[run["id"]].seed) for run in runs if run["done"]})) or "none")]
              if trains else []),
            ("Python", all_of("python")), ("Packages", f"{', '.join(packages)}; requirements.txt {all_of('requirements', 12)}"),
            ("Device", all_of("device")),
            ("Machine", f"{all_of('processor')}, {all_of('machine')}, {all_of('cpus')} CPUs, threads a stage: {all_of('threads')}"
              .removeprefix("unknown, ").removesuffix(", threads a stage: unknown")),
            ("Networks trained" if trains else "Networks fetched",
             f"{sum(run['done'] for run in runs)} of {len(study.included)} that scale {study.scale} has"),
            *([("Training time, summed", duration(total("seconds")))] if trains else []),
            ("Evaluation time, summed", duration(total("evaluation_seconds"))),
            ("GPU-hours, pretraining and evaluation included", f"{gpu_hours(ran):.1f}" if gpu_hours(ran) else "none")]


def lock_digest(scale: str, path: Path = Path("dvc.lock")) -> str | None:
    """The first 12 digits of a SHA-256 over what dvc.lock says of every stage whose results the report shows: the hashes of code,
    settings, data and results. None where it says nothing of this scale: it knows the one that was studied last."""
    stages = ((read(path) or {}).get("stages") or {}) if path.exists() else {}  # a kill may leave it empty, or its end off
    above = {name: entry for name, entry in stages.items() if ("@" in name or name == "cost")
             and all(out["path"].startswith(f"artifacts/{scale}/") for out in entry.get("outs", ()))}
    return files.digest(above)[:12] if above else None


def gpu_hours(known: list[dict]) -> float:
    """Hours on GPUs, times how many, of stages with these provenances; device "2 x NVIDIA H100" is two."""
    total = 0.0
    for one in known:
        count, _, device = (one.get("device") or "CPU").rpartition(" x ")
        if device != "CPU":
            total += int(count or 1) * (one.get("seconds") or 0) / 3600
    return total


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return ""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
