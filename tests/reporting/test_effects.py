"""What a line of the ledger says besides its verdict: how much a network still learned, and that luck in training is in no interval."""
import pytest

from pipeline.reporting import columns, effects, latex, ledger, tables

CLAIM = {"effect": 1.0, "measure": "miou", "a": "one/os16", "decided_by": "other/os8", "than": None}


def run(name, *scores):
    return {"id": name, "done": True, "curves": {"miou": [(100 * place, score) for place, score in enumerate(scores, 1)]}}


@pytest.mark.parametrize("one, other, claim, words", [
    ((10, 40, 60), (50, 50), {}, "one gained 20.0 points in its last 100 steps"),
    ((10, 40, 60), (50, 70), {}, "one gained 20.0 points in its last 100 steps; other gained 20.0 points in its last 100 steps"),
    ((60, 64.9), (50, 45), {}, ""), ((60,), (), {}, ""), ((10, 60), (50, 70), {"measure": "madds"}, ""), ((10, 60), (50, 70), {"effect": None}, ""),
    ((60, 60), (10, 40), {"decided_by": "one/os8", "than": "one/os8, other/os8"}, "other gained 30.0 points in its last 100 steps"),
    ((10, 60), (50, 50), {"decided_by": "one/os8"}, "one gained 50.0 points in its last 100 steps")])
def test_a_network_that_still_learned_is_named(one, other, claim, words):
    late = {name: said for name, scores in (("one", one), ("other", other)) if (said := effects._late(run(name, *scores)))}
    assert effects._besides(CLAIM | claim, {}, late) == [words] * bool(words)


@pytest.mark.parametrize("low, high, words", [(0, None, "above 0"), (-.5, None, "above −0.5"), (None, -1, "below −1"), (15, 25, "between 15 and 25")])
def test_borders_have_a_minus_sign(low, high, words):
    assert columns.truth({"at_least": low, "at_most": high}) == words


@pytest.mark.parametrize("ours, theirs, words", [
    ("x", "y", "shown against x, the paper's against y"), ("x", "x", "shown against x"), ("x", None, "shown against x"), (None, "y", "")])
def test_which_of_several_rivals_the_numbers_are_against_is_said(ours, theirs, words):
    assert columns.against({"b": "x, y", "decided_by": ours, "predicts_against": theirs}) == words


def test_that_each_network_was_trained_once_is_said(reported):
    for name in ("index.html", "README.md"):
        assert ledger.ONCE in (reported / "reports" / name).read_text(), name


def test_an_interval_has_the_decimals_of_its_effect(reported):
    """With fewer, +0.14 stood in [+0.1, +0.1], and a claim that is true below 0 held at [-0.5, -0.0]."""
    measured = [line for line in tables.load(reported / "reports/tables")["claims"] if line["effect"] is not None and line["measure"][:5] != "madds"]
    for name, between, minus in (("index.html", "[{}, {}]", "−"), ("README.md", "{}\u00a0to\u00a0{}", "−"), ("tables/claims.tex", "{{[}}{}, {}{{]}}", "$-$")):
        text = (reported / "reports" / name).read_text()
        for line in measured:
            assert between.format(f"{line['low']:+.2f}", f"{line['high']:+.2f}").replace("-", minus) in text, (name, line["id"])
    assert len(measured) > 9


def test_where_a_claim_is_true_is_said_wherever_its_verdict_is(reported):
    """Below half a point, a small gain holds: without the border, nobody can tell why."""
    latex_rows = {row.split(" & ")[0]: row for row in (reported / "reports/tables/claims.tex").read_text().splitlines() if " & " in row}
    readme = (reported / "reports/README.md").read_text().splitlines()
    for line in tables.load(reported / "reports/tables")["claims"]:
        said = f"true {columns.truth(line)}"
        assert (latex.escape(said) in latex_rows[latex.escape(line["sentence"])]) == bool(line["a"]), line["id"]
        assert any(f"| {line['sentence']} |" in row and (said in row) == bool(line["a"]) for row in readme), line["id"]
