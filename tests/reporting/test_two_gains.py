"""A claim that one gain is larger than another: effect, paired interval and range over seeds of a difference of differences."""
import itertools

import numpy as np
import pytest

from pipeline.evaluation import metrics
from pipeline.paper import claims
from pipeline.reporting import ledger, run_pages, tables
from tests.reporting import fake_study, reader
from tests.reporting.measured import draws, score

CELLS = ("t5-dec/os16", "t5-nodec/os16", "t5-dec/os8", "t5-nodec/os8")  # the first two's difference less the others'


def claim(measure="miou", cells=CELLS):
    return claims.Claim(sentence="", where="", measure=measure, a=cells[0], b=(cells[1],), than=cells[2:])


def sampled(study, bands):
    """mIOU of each of CELLS: (4, 1 + 10,000), of all images, then of each draw."""
    found = []
    for run, strategy in (cell.split("/") for cell in CELLS):
        facts = metrics.Facts.read(study.artifacts("facts", run) / "facts.parquet")
        counts = metrics.confusion(facts, strategy, len(fake_study.CLASSES), bands, by="image")
        found.append(score(np.concatenate([counts.sum(0)[None], np.tensordot(draws(len(counts)), counts, 1)]), None))
    return np.stack(found)


@pytest.mark.parametrize("measure", ["miou", "trimap1", "trimap1-miou"])
def test_effect_and_interval_are_of_the_same_draws_for_all_four(study, measure):
    scores = {"miou": lambda: sampled(study, None), "trimap1": lambda: sampled(study, [0]),
              "trimap1-miou": lambda: sampled(study, [0]) - sampled(study, None)}[measure]()
    expected = (scores[0] - scores[1]) - (scores[2] - scores[3])
    found = ledger.judge(study, claim(measure))
    assert [found[key] for key in ("effect", "low", "high")] == pytest.approx([expected[0], *np.percentile(expected[1:], [2.5, 97.5])])
    assert found["verdict"] == ledger.verdict(found["low"], found["high"], (0, np.inf)) and expected[0]


def test_what_the_second_gain_lacks_is_named(study):
    assert ledger.judge(study, claim(cells=(*CELLS[:2], "t3-os32-dec/os16", CELLS[3])))["reason"] == (
        "dvc repro evaluate@t3-os32-dec has not been run yet")
    for cell, words in (("t5-dec/os61", "evaluate.t5-dec in params.yaml lacks 'os61'"), ("t7-dec/os16", "on one data set")):
        assert words in ledger.judge(study, claim(cells=(*CELLS[:3], cell)))["reason"]


def test_seeds_are_paired_training_by_training(study, monkeypatch):
    """Both sides of the second gain are trainings of the first's networks: two and two seeds are four pairings, not sixteen."""
    again = {f"{run}-s1": study.runs[run].model_copy(update={"seed": 1}) for run in ("t5-dec", "t5-nodec")}
    told = study.model_copy(update={"runs": study.runs | again, "evaluate": study.evaluate | dict.fromkeys(again, ("os16", "os8"))})
    asked = []
    monkeypatch.setattr(ledger, "_missing", lambda *_: None)
    monkeypatch.setattr(ledger, "_gain", lambda study, claim, *cells, samples: asked.append(cells) or [float(len(asked))])
    found = ledger._over_seeds(told, claim(), CELLS[1])
    assert asked == [(f"{a}/os16", f"{b}/os16", f"{a}/os8", f"{b}/os8") for a, b in itertools.product(("t5-dec", "t5-dec-s1"), ("t5-nodec", "t5-nodec-s1"))]
    assert found == {"seeds_low": 1, "seeds_high": 4, "pairings": 4}


def test_the_claim_is_on_the_pages_of_all_four():
    assert run_pages._compared({"a": CELLS[0], "b": CELLS[1], "than": ", ".join(CELLS[2:])}) == {cell.partition("/")[0] for cell in CELLS}


def test_the_report_names_all_four(reported):
    name = "decoder-xception-os8"
    line = next(line for line in tables.load(reported / "reports/tables")["claims"] if line["id"] == name)
    assert line["than"] == "t5-dec/os8, t5-nodec/os8" and line["effect"] is not None
    rows = reader.Reader((reported / "reports/index.html").read_text()).tables["claims"]
    assert any("t5-dec/os16 against t5-nodec/os16, less t5-dec/os8 against t5-nodec/os8; true above 0" in " ".join(cells[1].split()) for cells in rows if len(cells) > 1)
    for file in ("README.md", "tables/claims.tex"):
        row = next(row for row in (reported / "reports" / file).read_text().splitlines() if line["sentence"] in row)
        assert f"{line['effect']:+.2f}".replace("-", "$-$" if file.endswith("tex") else "−") in row and line["verdict"] in row.replace("\u00a0", " ")
