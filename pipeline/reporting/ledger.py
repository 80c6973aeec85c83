"""The ledger: for each claim of the paper the difference that was measured, its interval, and the verdict that follows by one
rule."""
import math

import numpy as np
import pyarrow as pa

from pipeline import records
from pipeline.datasets.shards import Shard
from pipeline.evaluation import metrics
from pipeline.paper.claims import Claim, claims
from pipeline.study import Study
from pipeline.tracking.measure import classes, costs, read_facts, status
from pipeline.tracking.rows import Row

RULE = ("A claim holds when the whole 95 % interval of the measured difference lies where the claim is true, fails when the "
        "whole interval lies outside, and is undecided when the interval reaches across the border. Unless said otherwise a "
        "claim is true above 0. Intervals of mIOU come from a paired bootstrap over the evaluation images (10,000 resamples, "
        "the same draws for both sides); of error rates from the normal approximation; multiply-adds are exact counts of the "
        "paper's own network. They cover the choice of images, not the choice of the training's random seed: each network was "
        "trained once. Against several rivals, all must be beaten, and the closest one is shown.")
VERDICTS = {"holds": "✓", "fails": "✗", "undecided": "?",
            "not run": "–"}  # with their marks: a verdict is never told by colour alone
UNITS = {"miou": "points", "trimap1": "points", "trimap1-miou": "points", "madds": "B", "madds_saved": "%",
         "top1_error": "points"}
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "sentence", "where", "measure", "unit", "a", "b")]
                   + [(name, pa.float64()) for name in ("predicts", "effect", "low", "high", "at_least", "at_most")]
                   + [(name, pa.string()) for name in ("verdict", "reason", "scale")])


def build(study: Study) -> pa.Table:
    """One row a claim, in the order of `pipeline/paper/claims.yaml`: what the paper predicts, what was measured, the verdict."""
    lines = []
    for name, claim in claims().items():
        low, high = claim.bounds
        line = {"id": name, "sentence": claim.sentence, "where": claim.where, "measure": claim.measure,
                "unit": UNITS[claim.measure],
                "a": claim.a, "b": ", ".join(claim.b) or None, "predicts": claim.predicts, "scale": study.scale,
                "at_least": low if math.isfinite(low) else None, "at_most": high if math.isfinite(high) else None}
        lines.append(line | judge(study, claim))
    return pa.Table.from_pylist(lines, SCHEMA)


def judge(study: Study, claim: Claim) -> dict:
    """{"verdict": holds | fails | undecided | not run, "effect", "low", "high", "b", "reason"} of one claim."""
    if claim.status:
        return {"verdict": "not run", "reason": claim.status}
    missing = [reason for cell in (claim.a, *claim.b) if (reason := _missing(study, claim, cell))]
    if missing:
        return {"verdict": "not run", "reason": missing[0].removeprefix("not run: ")}
    found = [(*_difference(study, claim, rival), rival) for rival in claim.b]
    verdicts = {verdict(low, high, claim.bounds) for _, low, high, _ in found}
    effect, low, high, rival = min(found, key=lambda each: each[0])
    overall = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    return {"verdict": overall, "effect": effect, "low": low, "high": high, "b": rival}


def verdict(low: float, high: float, bounds: tuple[float, float]) -> str:
    """RULE for one interval. A border belongs to neither side, so a difference of exactly nothing is undecided."""
    if low > bounds[0] and high < bounds[1]:
        return "holds"
    return "fails" if high < bounds[0] or low > bounds[1] else "undecided"


def _missing(study: Study, claim: Claim, cell: str) -> str | None:
    run, _, strategy = cell.partition("/")
    if claim.measure.startswith("madds"):
        return None if (run, strategy) in costs(study) else "dvc repro cost has not been run yet"
    state = status(study, Row("table4" if claim.measure == "top1_error" else "own", {}, run, strategy or None))
    return None if state == "measured" else state


def _difference(study: Study, claim: Claim, rival: str) -> tuple[float, float, float]:
    """a - b with its interval: (effect, low, high)."""
    if claim.measure.startswith("madds"):
        ours, theirs = (costs(study)[tuple(cell.split("/"))]["madds_counted_as_paper"] for cell in (claim.a, rival))
        effect = ours - theirs if claim.measure == "madds" else 100 * (1 - ours / theirs)
        return effect, effect, effect
    if claim.measure == "top1_error":
        return _errors(study, claim.a, rival)
    if claim.measure == "trimap1-miou":
        near, whole = (_paired(study, claim.a, rival, bands) for bands in ((0,), None))
        return near[0] - whole[0], *metrics.interval(near[1] - whole[1])
    effect, sample = _paired(study, claim.a, rival, (0,) if claim.measure == "trimap1" else None)
    return effect, *metrics.interval(sample)


def _paired(study: Study, a: str, b: str, bands) -> tuple[float, np.ndarray]:
    """mIOU(a) - mIOU(b) in points, on all pixels or some bands, and its bootstrap sample. Draws depend on the number of images
    alone."""
    sides = []
    for cell in (a, b):
        run, strategy = cell.split("/")
        names, only = classes(study, run)
        sides.append(metrics.parts(metrics.confusion_by_image(read_facts(study, run), strategy, len(names), bands)))
    effect = metrics.mean_iou(sides[0].sum(0), only) - metrics.mean_iou(sides[1].sum(0), only)
    return float(effect), metrics.bootstrap(*sides, only=only)


def _errors(study: Study, a: str, b: str) -> tuple[float, float, float]:
    """Points of top-1 error that backbone a saves against b; normal approximation for two independent shares."""
    wrong = [records.read(study.artifacts("weights", name))["metrics"]["top1_error"] for name in (b, a)]
    images = len(Shard(study.artifacts("shards", "imagenet") / f"{study.settings.imagenet.evaluate.split}.arrow"))
    half = 1.96 * math.sqrt(sum(share * (100 - share) for share in wrong) / images)
    effect = wrong[0] - wrong[1]
    return effect, effect - half, effect + half
