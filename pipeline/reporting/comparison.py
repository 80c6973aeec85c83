"""Our tables beside the paper's: differences, and what can be said at any scale: the order of the rows, the multiply-adds."""
import statistics
from collections.abc import Iterable

from pipeline.reporting import columns

CLOSE = 0.005  # of a published count of multiply-adds: as near as rounding and what the paper leaves open can bring it


def value(line: dict, key: str, better: int, rank: tuple[int, int] | None) -> dict:
    """One measure of one row. `better`: 1 where more is, else -1. `good`: ours is better; None where equal or unknown."""
    ours, theirs = line.get(key), line.get(f"{key}_paper")
    apart = columns.difference(ours, theirs)
    return {"paper": theirs, "ours": ours, "low": line.get(f"{key}_low"), "high": line.get(f"{key}_high"),
            "seeds": (line.get(f"{key}_seeds_low"), line.get(f"{key}_seeds_high")),
            "difference": apart, "rank": rank, "good": None if not apart else apart * better > 0}


def ranks(lines: list[dict], key: str, better: int) -> list[tuple[int, int] | None]:
    """(rank in the paper, rank here) of each row among those that have both numbers, 1 the best; equals share one."""
    known = _both(lines, key)
    def rank(number, side):
        return 1 + sum(better * (other[side] - number) > 0 for _, *other in known)
    pairs = [(line.get(f"{key}_paper"), line.get(key)) for line in lines]
    return [None if theirs is None or ours is None else (rank(theirs, 0), rank(ours, 1)) for theirs, ours in pairs]


def order(lines: list[dict], key: str) -> str:
    """How many pairs of rows are in the paper's order here: a comparison that no scale spoils. Empty under two measured rows."""
    known = _both(lines, key)
    pairs = [(one.get("run") == other.get("run"), (theirs - other_theirs) * (ours - other_ours) > 0)
             for place, (one, theirs, ours) in enumerate(known) for other, other_theirs, other_ours in known[place + 1:]
             if theirs != other_theirs]
    if not pairs:
        return ""
    if len(pairs) == 1:
        return f"The two measured rows are {'in' if pairs[0][1] else 'not in'} the paper's order here."
    found = f"{sum(same for _, same in pairs)} of {len(pairs)} pairs of measured rows are in the paper's order here"
    alike, apart = ([same for one_run, same in pairs if one_run == wanted] for wanted in (True, False))
    if alike and apart:
        found += f", {sum(apart)} of {len(apart)} of different networks, {sum(alike)} of {len(alike)} of one network's strategies"
    return f"Which row beats which: {found}. Pairs share networks, so they are no independent trials."


def recounted(tables: dict[str, list[dict]]) -> dict | None:
    """How many of the multiply-adds published in Tables 3 and 5 our count of the paper's networks meets: {"close", "cells",
    "farthest": percent, of the close ones}. None before the cost stage has run."""
    rows = [line for name in ("table3", "table5") for line in tables.get(name, [])]
    apart = [abs(line["madds_counted_as_paper"] / line["madds_paper"] - 1) for line in rows
             if line["madds_paper"] and line["madds_counted_as_paper"]]
    close = [each for each in apart if each < CLOSE]
    return {"close": len(close), "cells": len(apart), "farthest": 100 * max(close)} if close else None


def reached(tables: dict[str, list[dict]]) -> dict | None:
    """How far mIOU on val is from the published, in points: {"cells", "low", "high", "median"} over every network and strategy
    once. None without any."""
    lines = (line for name, table in tables.items() if name not in ("figure5", "table6", "table7b") for line in table)
    apart = {(line["run"], line["strategy"]): columns.difference(ours, theirs)
             for line, theirs, ours in _both(lines, "miou")}.values()
    return {"cells": len(apart), "low": min(apart), "high": max(apart), "median": statistics.median(apart)} if apart else None


def _both(lines: Iterable[dict], key: str) -> list[tuple[dict, float, float]]:
    """(row, the paper's number, ours) of the rows that have both."""
    return [(line, line[f"{key}_paper"], line[key]) for line in lines
            if line.get(f"{key}_paper") is not None and line.get(key) is not None]
