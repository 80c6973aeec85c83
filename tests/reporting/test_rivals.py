"""A claim against several rivals: which of them decides, and that none of them is lost."""
import pytest

from pipeline.paper import claims
from pipeline.reporting import latex, ledger, tables
from tests.reporting import reader


def judged(study, *b):
    return ledger.judge(study, claims.claims()["decoder-xception"].model_copy(update={"b": b}))


def test_the_rival_shown_is_the_one_that_decides(study):
    rivals = ("t5-nodec/os16", "t5-dec/os8", "t5-dec/os8-ms")
    effects = {rival: judged(study, rival)["effect"] for rival in rivals}
    found = judged(study, *rivals)
    assert len(set(effects.values())) == 3 and found["effect"] == effects[found["decided_by"]]


@pytest.mark.parametrize("differences, expected", [
    ([(-1, -3, 1), (-.5, -.9, -.1), (-.4, -.6, -.2)], ("fails", 1)),  # the first is stronger, but might be beaten
    ([(2, 1, 3), (1, -1, 3), (.5, .2, .8)], ("undecided", 1)), ([(2, 1, 3), (1, .5, 3)], ("holds", 1)),
    ([(-1, -2, -.5), (-.5, -.9, -.1)], ("fails", 0))])
def test_of_several_rivals_one_that_decides_is_shown(study, monkeypatch, differences, expected):
    claim = claims.claims()["decoder-xception"].model_copy(update={"b": ("t5-nodec/os16",) * len(differences)})
    left = iter(differences)
    monkeypatch.setattr(ledger, "_difference", lambda *_: next(left))
    found = ledger.judge(study, claim)
    assert (found["verdict"], (found["effect"], found["low"], found["high"])) == (expected[0], differences[expected[1]])
    assert ledger.verdict(found["low"], found["high"], claim.bounds) == found["verdict"]


@pytest.mark.parametrize("bounds, expected", [({"at_least": None, "at_most": 0}, 1), ({"at_least": -9, "at_most": 0}, 1), ({"at_least": -1.05, "at_most": 9}, 0)])
def test_the_strongest_rival_is_the_one_nearest_to_a_bound(study, monkeypatch, bounds, expected):
    differences = [(-1, -1.01, -.99), (-.5, -.9, -.1)]
    claim = claims.Claim(sentence="", where="", measure="miou", a="t5-dec/os16", b=("t5-nodec/os16",) * 2, **bounds)
    left = iter(differences)
    monkeypatch.setattr(ledger, "_difference", lambda *_: next(left))
    found = ledger.judge(study, claim)
    assert found["verdict"] == "holds" and found["effect"] == differences[expected][0]


def test_all_are_kept_and_the_one_shown_is_named(reported):
    lines = {line["id"]: line for line in tables.load(reported / "reports/tables")["claims"]}
    assert lines["channels-48"]["predicts_against"] == "t1-c32/os16" and lines["decoder-resnet"]["predicts_against"] is None
    several, one = lines["decoder-structure"], lines["decoder-resnet"]
    rivals = claims.claims()["decoder-structure"].b
    assert several["b"].split(", ") == list(rivals) and several["decided_by"] in rivals and one["decided_by"] == one["b"]
    said = f"shown against {several['decided_by']}"
    for name in ("reports/index.html", "reports/README.md", "reports/tables/claims.tex"):
        text = (reported / name).read_text()
        assert (latex.escape(said) if name.endswith("tex") else said) in text and f"shown against {one['b']}" not in text, name
    row = next(cells for cells in reader.Reader((reported / "reports/index.html").read_text()).tables["claims"] if said in cells[1])
    assert all(rival in row[1] for rival in rivals)
    for rival in rivals:
        assert "#claim-decoder-structure" in (reported / f"reports/runs/{rival.partition('/')[0]}.html").read_text(), rival
