"""The claims against the paper's own numbers, and the ledger's verdicts against its rule."""
import math
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from pipeline import paper, study as studies
from pipeline.evaluation import metrics
from pipeline.paper import claims
from pipeline.reporting import effects, error_rates, ledger
from tests.reporting import conftest, fake_study, reader
from tests.reporting.measured import draws, score, scoring


def test_claims_predict_what_the_published_tables_say():
    published = {}
    for name, table in paper.tables().items():
        for row in table.rows:
            if name == "figure5":
                published[f"{row['run']}/{row['strategy']}", "trimap1"] = row["miou"][0]
            elif name == "table4":
                published |= {(row["backbone"], error): row[error] for error in ("top1_error", "top5_error")}
            elif "run" in row:
                published[f"{row['run']}/{row['strategy']}", "miou"] = row["miou"]
                published[f"{row['run']}/{row['strategy']}", "madds"] = row.get("madds")
    def effect(claim, measure):
        second = published[claim.than[0], measure] - published[claim.than[1], measure] if claim.than else 0
        return min(published[claim.a, measure] - published[b, measure] for b in claim.b) - second
    judged = []
    for name, claim in claims.claims().items():
        if claim.status or not {(cell, claim.measure.partition("-")[0].removesuffix("_saved")) for cell in claim.cells} <= set(published):
            continue  # or a claim of one's own
        judged.append(name)
        if claim.measure == "trimap1-miou":
            predicted = effect(claim, "trimap1") - effect(claim, "miou")
        elif claim.measure == "madds_saved":
            predicted = 100 * (1 - published[claim.a, "madds"] / published[claim.b[0], "madds"])
        else:
            predicted = effect(claim, claim.measure) * (-1 if claim.of_backbones else 1)
        assert claim.predicts == pytest.approx(predicted, abs=0.006), name
        assert claim.bounds[0] < claim.predicts < claim.bounds[1], f"{name}: the paper's own number would not satisfy it"
    assert len(judged) >= 29


@given(st.floats(-9, 9) | st.sampled_from([-1.0, 0.0, 2.0]), st.floats(0, 9), st.sampled_from([(0, math.inf), (-math.inf, 0.5), (-1, 2)]))
def test_verdict_is_the_printed_rule(low, width, bounds):
    high = low + width
    expected = "holds" if bounds[0] < low and high < bounds[1] else "fails" if high < bounds[0] or bounds[1] < low else "undecided"
    assert ledger.verdict(low, high, bounds) == expected


@pytest.mark.parametrize("more", [{}, {"a": "x/os16"}, {"a": "x/os16", "b": ("y/os16",), "status": "private"}])
def test_a_claim_can_be_tested_or_says_why_not(more):
    with pytest.raises(ValidationError, match="either a and b, or a status"):
        claims.Claim(sentence="", where="", measure="miou", **more)


@pytest.mark.parametrize("at_least, at_most, bounds", [(None, None, (0, math.inf)), (-.5, None, (-.5, math.inf)), (None, -1, (-math.inf, -1)), (-1, 2, (-1, 2))])
def test_unless_it_says_otherwise_a_claim_is_true_above_nothing(at_least, at_most, bounds):
    assert claims.Claim(sentence="", where="", measure="miou", a="x/os16", b=("y/os16",), at_least=at_least, at_most=at_most).bounds == bounds


def test_a_gain_that_the_paper_calls_none_or_little_is_one_below_half_a_point():
    """Below 0, as Conv3's was judged, it would have to harm: more than the paper says."""
    for name in ("conv3", "flip"):
        claim = claims.claims()[name]
        assert claim.bounds == (-math.inf, 0.5) and "less than half a point" in claim.sentence and "half a point, is ours" in claim.where


def test_ledger_of_a_study(study):
    lines = {line["id"]: line for line in ledger.build(study).to_pylist()}
    assert list(lines) == list(claims.claims())
    assert lines["jft"]["verdict"] == "not run" and "private" in lines["jft"]["reason"]
    assert lines["train-os32"]["verdict"] == "not run" and "evaluate@t3-os32-dec" in lines["train-os32"]["reason"]
    decoder = lines["decoder-xception"]
    facts = [metrics.Facts.read(study.artifacts("facts", run) / "facts.parquet") for run in ("t5-dec", "t5-nodec")]
    scores = [float(metrics.miou(metrics.confusion(each, "os16", len(fake_study.CLASSES)))) for each in facts]
    assert decoder["effect"] == pytest.approx(scores[0] - scores[1]) and decoder["low"] < decoder["effect"] < decoder["high"]
    for line in lines.values():
        if line["verdict"] != "not run":
            claim = claims.claims()[line["id"]]
            assert line["verdict"] == ledger.verdict(line["low"], line["high"], claim.bounds)
    assert lines["separable-cost"]["effect"] == pytest.approx(40) and lines["separable-cost"]["verdict"] == "holds"


def judged(study, measure, a, *b):
    return ledger.judge(study, claims.claims()["decoder-xception"].model_copy(update={"measure": measure, "a": a, "b": b}))


@pytest.mark.parametrize("classes", [None, ("background", "car", "boat")])
def test_effects_and_paired_intervals_are_those_of_the_facts(study, classes):
    """mIOU on all pixels; on those within one pixel of void; how much more it gains there: the same draws for both sides."""
    told, only = scoring(study, classes), classes and [fake_study.CLASSES.index(name) for name in classes]
    cells, gains = ("t5-dec/os16", "t5-nodec/os16"), {}
    for where, bands in (("all", None), ("near", [0])):
        sides = []
        for run, strategy in (cell.split("/") for cell in cells):
            facts = metrics.Facts.read(study.artifacts("facts", run) / "facts.parquet")
            counts = metrics.confusion(facts, strategy, len(fake_study.CLASSES), bands, by="image")
            sides.append(score(np.concatenate([counts.sum(0)[None], np.tensordot(draws(len(counts)), counts, 1)]), only))
        gains[where] = sides[0] - sides[1]
    for measure, expected in (("miou", gains["all"]), ("trimap1", gains["near"]), ("trimap1-miou", gains["near"] - gains["all"])):
        found = judged(told, measure, *cells)
        assert [found[key] for key in ("effect", "low", "high")] == pytest.approx([expected[0], *np.percentile(expected[1:], [2.5, 97.5])]), measure
        claim = claims.Claim(sentence="", where="", measure=measure, a=cells[0], b=cells[1:])
        assert ledger._gain(told, claim, *cells, samples=0)[0] == pytest.approx(expected[0]), measure


def test_errors_saved_and_multiply_adds(study):
    """40 pictures; 41.5 % wrong with ResNet-101, 38.25 % with Xception-65. Costs: counted as the paper counts."""
    first, fifth = error_rates.newcombe(41.5, 38.25, 40, 40), error_rates.newcombe(9.5, 9.5, 40, 40)  # 9.5 % of both
    madds = [60 * times * 1.05 for times in (1, 3.3)]  # at output stride 16 and 8: fake_study._costs
    for measure, a, b, expected in (("top1_error", "xception65", "resnet101", (3.25, *first)),
                                    ("top5_error", "xception65", "resnet101", (0, *fifth)),
                                    ("madds", "t2-x2/os8", "t2-x2/os16", (madds[1] - madds[0],) * 3),
                                    ("madds_saved", "t2-x2/os16", "t2-x2/os8", (100 * (1 - 1 / 3.3),) * 3)):
        found = judged(study, measure, a, b)
        assert (found["effect"], found["low"], found["high"]) == pytest.approx(expected), measure


def test_a_claim_on_an_unknown_cell_is_named(study):
    broken = study.model_copy(update={"evaluate": study.evaluate | {"t2-x2": ("os16",)}})
    with pytest.raises(studies.StudyError, match="eval-os8: evaluate.t2-x2 in params.yaml lacks 'os8'"):
        claims.check(broken)
    other = study.model_copy(update={"runs": {name: run for name, run in study.runs.items() if name != "t2-x3"}, "evaluate": {
        name: some for name, some in study.evaluate.items() if name != "t2-x3"}})
    with pytest.raises(studies.StudyError, match=r"decoder-structure: there is no run 't2-x3' in params.yaml \(did you mean t2-x2\?\)"):
        claims.check(other)


@pytest.mark.parametrize("a, b, message", [
    ("t2-x2/os16", "coco-x65/os16", "both sides are evaluated on one data set: here t2-x2/os16 on voc, coco-x65/os16 on coco"),
    ("t2-x2", "t3-os16-nodec/os16", "t2-x2: write RUN/STRATEGY, such as t2-x2/os16"),
    ("t2-x2/os61", "t3-os16-nodec/os16", "evaluate.t2-x2 in params.yaml lacks 'os61'")])
def test_what_cannot_be_compared_is_not(study, a, b, message):
    study = study.model_copy(update={"evaluate": study.evaluate | {"coco-x65": ("os16",)}})
    found = judged(study, "miou", a, b)
    assert found["verdict"] == "not run" and message in found["reason"]
    if "data set" in message:  # multiply-adds pair no images
        assert message not in judged(study, "madds", a, b)["reason"]


def test_multiply_adds_of_a_backbone_that_the_paper_lacks_are_not_compared(study, monkeypatch):
    monkeypatch.setattr(ledger, "costs", lambda study: {("t2-x2", "os16"): {"madds_counted_as_paper": 80.0}, ("t2-x3", "os16"): {"madds_here": 1.0}})
    found = judged(study, "madds_saved", "t2-x3/os16", "t2-x2/os16")
    assert (found["verdict"], found["reason"]) == ("not run", "scale paper has no resnet101 to count")


def test_a_claim_of_ones_own_stands_apart_and_is_not_counted_as_the_papers(reported):
    text, readme = ((reported / "reports" / name).read_text() for name in ("index.html", "README.md"))
    shown = reader.Reader(text).tables
    _, axis, row, _ = shown["own-claims"]
    assert len(shown["own-claims"][0]) == len(axis) == len(row) == 4 and row[1].startswith(conftest.OWN.sentence)
    assert "my thesis" in row[1] and "true above −0.5" in row[1] and "points" in row[2]
    assert not any(conftest.OWN.sentence in cell for cells in shown["claims"] for cell in cells)
    counted = [int(number) for number in re.findall(r"<dt>claims .*?</dt><dd>(\d+)", text)]
    assert sum(counted) == len(claims.claims()) == len([cells for cells in shown["claims"][1:] if cells[0]])
    papers, own = readme.split("## Claims of your own")
    own = own.partition("## Table 1")[0]
    assert conftest.OWN.sentence in own and conftest.OWN.sentence not in papers and claims.claims()["decoder-resnet"].sentence in papers
    assert f"{row[2].split()[0]} points" in own and r"my thesis \| chapter 2" in own, "a cell of its own would move the others"
    assert "The paper's claims, and claims of your own." in (reported / "reports/tables/claims.tex").read_text()
    assert conftest.OWN.sentence in (reported / "reports/runs/mine.html").read_text()


GOOD = "mine: {sentence: a, where: b, measure: miou, a: t2-x2/os16, b: [t2-x3/os16]}\n"


@pytest.mark.parametrize("written, message", [
    ("mine: {sentence: a, measure: miou, predits: 1, a: t2-x2/os16, b: [t2-x3/os16]}\n",
     r"(?s)claims\.yaml: mine: where: this key is missing.*mine: predits: unknown key \(did you mean predicts\?\)"),
    ("# none\n", r"^claims\.yaml: entries by their names are wanted in it$"), ("- mine\n", r"^claims\.yaml: entries"),
    ("mine: 5\n", r"^claims\.yaml: mine: keys and values are wanted here"),
    (GOOD + GOOD, r"^claims\.yaml, line \d: mine is there twice$"),
    ("mine: {sentence: a\n  where: b}\n", r"^claims\.yaml, line 2: .*: look at indentation, quotes and brackets$"),
    (GOOD.replace("[t2-x3/os16]", "[t2-x3/os16, t2-x2/os16]"), "mine: t2-x2/os16 is compared with itself"),
    (GOOD.replace("[t2-x3/os16]", "t2-x3/os16"), r"mine: b: a list is wanted, in \[ \]"),
    (GOOD.replace("}", ", at_least: 3, at_most: 1}"), "mine: no difference is at least 3 and at most 1"),
    (GOOD.replace("miou,", "madds,").replace("}", ", than: [t2-x2/os8, t2-x3/os8]}"), "mine: than is for differences of mIOU, not of madds")])
def test_a_mistake_in_a_claim_is_named(tmp_path, monkeypatch, written, message):
    (tmp_path / "claims.yaml").write_text(written)
    monkeypatch.setattr(claims, "CLAIMS", tmp_path / "claims.yaml")
    with pytest.raises(studies.StudyError, match=message):
        claims.claims.__wrapped__()


def test_networks_of_which_one_is_half_as_large_again_are_said_to_be():
    claim = {"a": "large/os16", "decided_by": "small/os8", "than": None, "effect": 1.0, "measure": "miou"}
    assert effects._besides(claim, {"large": 3_000_000, "small": 2_000_000}, {}) == ["parameters here: 3.00 against 2.00 million"]
    assert effects._besides(claim, {"large": 2_900_000, "small": 2_000_000}, {}) == []
