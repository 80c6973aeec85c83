"""Lines of the ledger as the page shows them: the effect as a picture, and in words what else may have decided it."""
from pipeline.reporting import columns, figures, ledger

LEARNING = 5  # points of mIOU that a network gains at the end of its training while it still learns


def lines(claims: list[dict], limit: float, sizes: dict[str, int | None], trained: list[dict]) -> list[dict]:
    """The ledger's lines as the page shows them. limit: the axis' end; sizes: parameters by name; trained: `runs.describe`'s."""
    late = {run["id"]: words for run in trained if (words := _late(run))}
    return [claim | {"picture": figures.effect(claim, limit), "mark": ledger.VERDICTS[claim["verdict"]],
                     "truth": columns.truth(claim), "against": columns.against(claim), "besides": _besides(claim, sizes, late),
                     "cells": [claim[side].split(", ") if claim[side] else [] for side in ("a", "b", "than")]}
            for claim in claims]


def _late(run: dict) -> str | None:
    """That a run still learned much when its training ended: between its last two validations."""
    validations = run["curves"].get("miou", [])
    if len(validations) < 2:
        return None
    (before, first), (after, last) = validations[-2:]
    gain = last - first
    return f"{run['id']} gained {gain:.1f} points in its last {after - before} steps" if gain > LEARNING else None


def _besides(claim: dict, sizes: dict[str, int | None], late: dict[str, str]) -> list[str]:
    """What else may have decided between networks: that one has half as many parameters again, or how long they were trained."""
    if not claim["a"] or claim["effect"] is None or claim["measure"].startswith("madds"):
        return []
    runs = [cell.partition("/")[0] for cell in (claim["a"], claim["decided_by"], *(claim["than"] or "").split(", "))]
    ours, theirs = (sizes.get(run) for run in runs[:2])
    unlike = ours and theirs and max(ours, theirs) >= 1.5 * min(ours, theirs)
    said = [f"parameters here: {ours / 1e6:.2f} against {theirs / 1e6:.2f} million" if unlike else "",
            "; ".join(late[run] for run in dict.fromkeys(runs) if run in late)]
    return [words for words in said if words]


def limit_of(claims: list[dict]) -> float:
    """Where the ledger's axis of effects ends, on both sides."""
    return max(1.2 * abs(claim[key]) for claim in claims for key in ("predicts", "effect") if claim[key] is not None)
