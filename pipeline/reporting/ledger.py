"""The ledger: the measured difference of each claim, its interval, and the verdict that follows by one rule."""
import itertools
import math

import numpy as np
import pyarrow as pa

from pipeline import paper, records
from pipeline.evaluation import metrics
from pipeline.evaluation.measure import classes, costs, read_facts, status
from pipeline.paper.claims import Claim, claims, problems
from pipeline.paper.rows import Row
from pipeline.reporting import error_rates
from pipeline.study import Study

RULE = ("A claim holds when the 95 % interval of the measured difference lies wholly where the claim is true, fails when it "
        "lies wholly outside, and is undecided when it reaches across the border.")
ONCE = ("Each network was trained once where no range over seeds is shown: another seed may move a difference by more than its "
        "interval is wide.")
INTERVALS = ("Unless said otherwise a claim is true above 0. An interval says how much the choice of images matters. That of "
             "mIOU comes from a paired bootstrap (10,000 resamples of the evaluation images, the same draws for all that a "
             "claim compares), which is too narrow where few images decide; that of an error rate is Wilson's, that of the "
             "difference of two is Newcombe's, which takes them as independent. Multiply-adds are exact counts of the paper's "
             "own network. Luck in training is not in an interval: where networks were trained with further seeds, the "
             "differences between all trainings of one side and all of the other give a range, and the claim holds or fails "
             "only if interval and range do so together. By luck alone a network is above an equal one in all pairings once in "
             "20 cases with three trainings each, once in 6 with two each, once in 4 with three against one. Against several "
             "rivals, all must be beaten; shown is the strongest of those that decide the verdict. Where the paper says "
             "similar, little, about or no help, the border is this study's and the claim says so. Nothing is corrected for the "
             "number of claims or rivals.")
VERDICTS = {"holds": "✓", "fails": "✗", "undecided": "?",
            "not run": "–"}  # with their marks: a verdict is never told by colour alone
UNITS = {"madds": "B", "madds_saved": "%"}  # all else is in points
TERMS = {"miou": {None: 1}, "trimap1": {(0,): 1}, "trimap1-miou": {(0,): 1, None: -1}}  # bands (None: all): sign
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "sentence", "where", "measure", "unit", "a", "b", "than")]
                   + [(name, pa.float64()) for name in ("predicts", "effect", "low", "high", "at_least", "at_most",
                                                   "seeds_low", "seeds_high")]
                   + [("pairings", pa.int64())]
                   + [(name, pa.string()) for name in ("decided_by", "predicts_against", "verdict", "reason", "scale")])


def build(study: Study) -> pa.Table:
    """One row a claim, in the order of `pipeline/paper/claims.yaml`: what the paper predicts, what was measured, the verdict."""
    lines = []
    for name, claim in claims().items():
        low, high = claim.bounds
        line = claim.model_dump(include={"sentence", "where", "measure", "a", "predicts"})
        line |= {"id": name, "unit": UNITS.get(claim.measure, "points"), "b": ", ".join(claim.b) or None,
                 "than": ", ".join(claim.than or ()) or None, "scale": study.scale, "predicts_against": _strongest(claim),
                 "at_least": low if math.isfinite(low) else None, "at_most": high if math.isfinite(high) else None}
        lines.append(line | judge(study, claim))
    return pa.Table.from_pylist(lines, SCHEMA)


def _strongest(claim: Claim) -> str | None:
    """The rival that is best in the paper's own tables, where there are several: `predicts` is against that one."""
    rows = (row for table in paper.tables().values() for row in table.rows)
    known = {f"{row.get('run')}/{row.get('strategy')}": row.get("miou") for row in rows}
    scored = [rival for rival in claim.b if known.get(rival) is not None]
    return max(scored, key=known.get) if claim.predicts is not None and claim.measure == "miou" and len(scored) > 1 else None


def judge(study: Study, claim: Claim) -> dict:
    """{"verdict": holds | fails | undecided | not run, "effect", "low", "high", "decided_by": the rival that they are against,
    "reason"} of one claim, and {"seeds_low", "seeds_high", "pairings"} where there are further seeds."""
    if claim.status:
        return _by_server(study, claim)
    reasons = problems(study, claim) or [reason for cell in claim.cells if (reason := _missing(study, claim, cell))]
    if reasons:
        return {"verdict": "not run", "reason": reasons[0].removeprefix("not run: ")}
    found = [{"decided_by": rival, **dict(zip(("effect", "low", "high"), _difference(study, claim, rival))),
              **_over_seeds(study, claim, rival)} for rival in claim.b]
    if not all(math.isfinite(each[key]) for each in found for key in ("effect", "low", "high")):
        return {"verdict": "not run", "reason": "it takes two evaluation images at least, and for a trimap labels with void"}
    judged = [each | {"verdict": _together(each, claim.bounds)} for each in found]
    low, high = claim.bounds
    return min(judged, key=lambda each: (("fails", "undecided", "holds").index(each["verdict"]),
                                         min(each["effect"] - low, high - each["effect"])))


def _by_server(study: Study, claim: Claim) -> dict:
    """A claim that nobody can test here, as `judge` has it: by the score of its test server where one is entered."""
    entered = study.test_scores.get(study.scale, {}).get(claim.test_server)
    if entered is None:
        return {"verdict": "not run", "reason": claim.status}
    servers = {row.get("test_server"): table.rows for table in paper.tables().values() for row in table.rows}
    best = max((row for row in servers[claim.test_server] if "test_server" not in row), key=lambda row: row["miou"])
    effect = entered.miou - best["miou"]
    return {"verdict": verdict(effect, effect, claim.bounds), "effect": effect, "reason": (
        f"no interval: the server's score of {entered.run}/{entered.strategy}, {entered.miou}, as entered in params.yaml, "
        f"against {best['method']}'s {best['miou']}")}


def _together(found: dict, bounds: tuple[float, float]) -> str:
    """The verdict of the interval and, where there is one, the range over seeds."""
    low, high = ([found[key], found[f"seeds_{key}"]] for key in ("low", "high"))
    return verdict(min(each for each in low if each is not None), max(each for each in high if each is not None), bounds)


def verdict(low: float, high: float, bounds: tuple[float, float]) -> str:
    """RULE for one interval. A border belongs to neither side, so a difference of exactly nothing is undecided."""
    if low > bounds[0] and high < bounds[1]:
        return "holds"
    return "fails" if high < bounds[0] or low > bounds[1] else "undecided"


def _missing(study: Study, claim: Claim, cell: str) -> str | None:
    run, _, strategy = cell.partition("/")
    if claim.measure.startswith("madds"):
        if (counted := costs(study).get((run, strategy))) is None:
            return "dvc repro cost has not been run yet"
        return None if "madds_counted_as_paper" in counted else f"scale paper has no {study.runs[run].backbone} to count"
    state = status(study, Row("table4" if claim.of_backbones else "own", {}, run, strategy or None))
    return None if state == "measured" else state


def seeds(study: Study, run: str) -> list[str]:
    """`run` and the runs that differ from it in nothing but the seed, their own or that of the run they start from."""
    def but_seed(name):
        wanted = study.runs[name]
        return wanted.model_dump(exclude={"seed", "start"}), but_seed(wanted.start_run) if wanted.start_run else wanted.start
    own = but_seed(run)
    return [run, *(name for name in study.runs if name != run and but_seed(name) == own)]


def _over_seeds(study: Study, claim: Claim, rival: str) -> dict:
    """The range of the effect over all pairings of the networks' trainings; of one network's strategies, training by training."""
    none = {"seeds_low": None, "seeds_high": None, "pairings": None}
    if not claim.of_images:
        return none
    cells = [cell.split("/") for cell in (claim.a, rival, *(claim.than or ()))]
    families = {run: seeds(study, run) for run, _ in cells}
    if any(other in families[run] for run, other in itertools.combinations(families, 2)):  # one network's seeds are compared
        return none
    effects = []
    for trainings in itertools.product(*families.values()):
        training = dict(zip(families, trainings))
        those = [(training[run], strategy) for run, strategy in cells]
        if all(strategy in study.evaluate.get(run, ()) for run, strategy in those):
            named = ["/".join(cell) for cell in those]
            if not any(_missing(study, claim, cell) for cell in named):
                effects.append(float(_gain(study, claim, *named, samples=0)[0]))
    return {"seeds_low": min(effects), "seeds_high": max(effects), "pairings": len(effects)} if len(effects) > 1 else none


def _difference(study: Study, claim: Claim, rival: str) -> tuple[float, float, float]:
    """a - b, less that of `than`, with its interval: (effect, low, high). Of errors it is b - a: what a saves."""
    if claim.measure.startswith("madds"):
        ours, theirs = (costs(study)[tuple(cell.split("/"))]["madds_counted_as_paper"] for cell in (claim.a, rival))
        effect = ours - theirs if claim.measure == "madds" else 100 * (1 - ours / theirs)
        return effect, effect, effect
    if claim.of_backbones:
        wrong = [records.read(study.artifacts("weights", name))["metrics"][claim.measure] for name in (rival, claim.a)]
        images = error_rates.images_of(study)
        return wrong[0] - wrong[1], *(error_rates.newcombe(*wrong, images, images) if images > 1 else (math.nan, math.nan))
    gain = _gain(study, claim, claim.a, rival, *(claim.than or ()))
    return float(gain[0]), *metrics.interval(gain[1:])


def _gain(study: Study, claim: Claim, *cells: str, samples: int = metrics.SAMPLES) -> np.ndarray:
    """a - b of two cells in points, (a - b) - (c - d) of four, then its paired bootstrap: float64 (1 + samples,). Draws depend on
    the number of images alone."""
    return sum(sign * side * _paired(study, *pair, bands, samples) for bands, sign in TERMS[claim.measure].items()
               for side, pair in ((1, cells[:2]), (-1, cells[2:])) if pair)


def _paired(study: Study, a: str, b: str, bands: tuple[int, ...] | None, samples: int) -> np.ndarray:
    """mIOU(a) - mIOU(b) in points, on all pixels or some bands, then its bootstrap sample: float64 (1 + samples,)."""
    sides = []
    for cell in (a, b):
        run, strategy = cell.split("/")
        names, only = classes(study, run)
        sides.append(metrics.tp_fp_fn(metrics.confusion(read_facts(study, run), strategy, len(names), bands, by="image")))
    effect = metrics.miou_of_counts(sides[0].sum(0), only) - metrics.miou_of_counts(sides[1].sum(0), only)
    return np.append(effect, metrics.bootstrap(*sides, only=only, samples=samples) if samples else [])
