"""Our tables beside the paper's: ranks and pairs by a separate count, and the multiply-adds of the paper's own networks."""
import itertools

from hypothesis import example, given, strategies as st
from scipy.stats import rankdata

from pipeline import paper
from pipeline.models import cost
from pipeline.reporting import comparison, tables
from tests import changed

SCORES = st.none() | st.integers(0, 6).map(float)  # few values: equals occur


@given(st.lists(st.tuples(SCORES, SCORES), max_size=12), st.sampled_from([1, -1]))
def test_ranks_are_scipys_among_the_rows_that_have_both(scores, better):
    lines = [{"miou_paper": theirs, "miou": ours} for theirs, ours in scores]
    both = [place for place, pair in enumerate(scores) if None not in pair]
    ranks = zip(*(rankdata([-better * scores[place][side] for place in both], "min").tolist() for side in (0, 1)))
    expected = dict(zip(both, ranks))
    assert comparison.ranks(lines, "miou", better) == [expected.get(place) for place in range(len(lines))]


@given(st.lists(st.tuples(SCORES, SCORES, st.sampled_from("ab")), max_size=9))
@example([(1.0, 1.0, "a"), (2.0, 2.0, "a"), (3.0, 1.0, "a")])  # of one network
@example([(1.0, 1.0, "a"), (2.0, 2.0, "b"), (2.0, 0.0, "b")])  # of different ones alone
def test_pairs_in_the_papers_order_are_counted_apart_by_network(rows):
    lines = [{"miou_paper": theirs, "miou": ours, "run": run} for theirs, ours, run in rows]
    pairs = [(one, other) for one, other in itertools.combinations([row for row in rows if None not in row], 2) if one[0] != other[0]]
    def same(chosen):
        return sum((one[0] < other[0] and one[1] < other[1]) or (one[0] > other[0] and one[1] > other[1]) for one, other in chosen)
    said = comparison.order(lines, "miou")
    if len(pairs) > 1:
        assert f": {same(pairs)} of {len(pairs)} pairs" in said
        apart = [pair for pair in pairs if pair[0][2] != pair[1][2]]
        alike = [pair for pair in pairs if pair[0][2] == pair[1][2]]
        assert (f"{same(apart)} of {len(apart)} of different networks, {same(alike)} of {len(alike)} of one" in said) == bool(apart and alike)
    elif pairs:
        assert ("not in" in said) == (not same(pairs))
    else:
        assert said == ""


def test_the_multiply_adds_of_the_paper_are_met_but_for_its_two_suspect_cells(monkeypatch):
    """Counted here and now, on the paper's networks, beside the published cells of Tables 3 and 5."""
    networks = {row["run"] for name in ("table3", "table5") for row in paper.tables()[name].rows if "run" in row}
    study = changed.of_runs(changed.at("own-data"), *networks)  # a scale that has none of them: nothing is counted there
    counted = {(line["run"], line["strategy"]): line for line in cost.rows(study)}
    monkeypatch.setattr(tables, "costs", lambda study: counted)
    built = {name: table.to_pylist() for name, table in tables.build(study, {}).items()}
    found = comparison.recounted(built)
    assert (found["close"], found["cells"]) == (36, 38) and found["farthest"] < 0.35
    assert comparison.recounted({name: [line | {"madds_counted_as_paper": None} for line in table] for name, table in built.items()}) is None


def test_how_far_miou_is_from_the_published_counts_each_network_and_strategy_once():
    def row(run, ours, theirs, strategy="os16"):
        return {"run": run, "strategy": strategy, "miou": ours, "miou_paper": theirs}
    stored = {"table1": [row("a", 70.0, 71.0), row("b", None, 70.0)], "table2": [row("a", 70.0, 71.0), row("c", 80.5, 80.0), row("e", 79.9999, 80.0)],
              "table3": [row("c", 79.0, 79.25, "os8")], "table4": [{"top1_error": 1.0}], "own": [row("d", 1.0, None)],
              "table6": [row("a", 10.0, 87.8)], "table7b": [row("a", 10.0, 82.1)], "figure5": [row("a", 10.0, 60.0)]}
    assert comparison.reached(stored) == {"cells": 4, "low": -1.0, "high": 0.5, "median": -0.125}
    assert comparison.reached({"table1": [row("b", None, 70.0)]}) is None
