"""Lines of the ledger as the page shows them: the effect as a picture, and in words what else may have decided it."""
from pipeline.reporting import columns, figures, ledger

LEARNING = 5  # points of mIOU that a network gains at the end of its training while it still learns


def lines(claims: list[dict], limit: float, sizes: dict[str, int | None], trained: list[dict]) -> list[dict]:
    """The ledger's lines with their pictures, their borders in words, and what else may have decided. limit: where the axis of
    effects ends; sizes: parameters of each network; trained: as `runs.describe` gives them."""
    gained = {run["id"]: _last_gain(run) for run in trained if run["done"]}
    return [claim | {"picture": figures.effect(claim, limit), "mark": ledger.VERDICTS[claim["verdict"]],
                     "truth": columns.truth(claim),
                     "cells": [claim[side].split(", ") if claim[side] else [] for side in ("a", "b", "than")],
                     "sizes": _sizes(claim, sizes), "against": columns.against(claim), "learning": _learning(claim, gained)}
            for claim in claims]


def _last_gain(run: dict) -> tuple[float, int]:
    """By how many points a run's mIOU grew between its last two validations, and how many steps lie between them; (0, 0) where
    there were fewer."""
    validations = run["curves"].get("miou", [])
    if len(validations) < 2:
        return 0.0, 0
    (before, first), (after, last) = validations[-2:]
    return last - first, after - before


def _learning(claim: dict, gained: dict[str, tuple[float, int]]) -> str:
    """Which of the networks compared still learned much when their training ended: how long it was may then decide."""
    if not claim["a"] or claim["effect"] is None or claim["measure"].startswith("madds"):
        return ""
    cells = [claim["a"], claim["decided_by"], *(claim["than"] or "").split(", ")]
    names, late = dict.fromkeys(cell.partition("/")[0] for cell in cells), []
    for name in names:
        gain, steps = gained.get(name, (0.0, 0))
        if gain > LEARNING:
            late.append(f"{name} gained {gain:.1f} points in its last {steps} steps")
    return "; ".join(late)


def _sizes(claim: dict, sizes: dict[str, int | None]) -> str:
    """How big the two networks are here, where one has half as many parameters again: on a small scale that may decide."""
    if not claim["a"] or claim["effect"] is None or claim["measure"].startswith("madds"):
        return ""
    ours, theirs = (sizes.get(cell.partition("/")[0]) for cell in (claim["a"], claim["decided_by"]))
    if not ours or not theirs or max(ours, theirs) < 1.5 * min(ours, theirs):
        return ""
    return f"parameters here: {ours / 1e6:.2f} against {theirs / 1e6:.2f} million"


def limit_of(claims: list[dict]) -> float:
    """Where the ledger's axis of effects ends, on both sides."""
    return max(1.2 * abs(claim[key]) for claim in claims for key in ("predicts", "effect") if claim[key] is not None)
