"""Which way round: what is better, best and worst, before and after, ours less theirs."""
import re
import statistics

import pytest

from pipeline.evaluation import measure
from pipeline.paper import protocol
from pipeline.paper.rows import Row
from pipeline.reporting import comparison, context, effects, latex, ledger, pictures, tables


@pytest.mark.parametrize("ours, better, good", [(20.0, -1, True), (24.0, -1, False), (20.0, 1, False), (24.0, 1, True), (22.0, 1, None), (21.9951, 1, None), (21.9949, 1, False), (None, 1, None)])
def test_more_is_better_or_less_is(ours, better, good):
    assert comparison.value({"it": ours, "it_paper": 22.0}, "it", better, None)["good"] is good


def test_of_errors_less_is_better(study):
    lines = [line | {"status": "measured"} | {name: line[f"{name}_paper"] - 1 for name in ("top1_error", "top5_error")}
             for line in tables.build(study, {})["table4"].to_pylist()]
    shown = [value for row in context._table(study, "table4", lines)["rows"] for value in row["values"]]
    assert [value["good"] for value in shown] == [True] * 4 and {value["rank"] for value in shown} == {(1, 1), (2, 2)}


def test_best_cases_are_the_best_and_decoders_gain_what_they_gain(study):
    (best, *_), (worst, *_) = pictures.cases(study, "t2-x2", 1)
    scores = dict(measure.ranked(study, "t2-x2", "os16"))
    assert (scores[best.image], scores[worst.image]) == (max(scores.values()), min(scores.values()))
    after, before = (dict(measure.ranked(study, run, study.evaluate[run][0])) for run in ("t5-dec", "t5-nodec"))
    page = next(page for page in context._album(study) if page["id"] == "figure5b")
    assert page["median"] == pytest.approx(statistics.median(after[name] - before[name] for name in after))


def test_the_largest_gain_stands_beside_the_median_with_its_sign(reported):
    """Where the decoder loses on most images, half of them did not "gain -0.4 points or more"."""
    assert re.search(r"the largest gain among 6 images; the median gain is [+−]\d+\.\d points\.", (reported / "reports/index.html").read_text())


def test_the_network_without_decoder_has_the_same_seed(study):
    again = study.model_copy(update={"runs": study.runs | {"again": study.runs["t2-x2"].model_copy(update={"seed": 1})}})
    assert pictures.without_decoder(again, "t2-x2") == "t3-os16-nodec" and pictures.without_decoder(again, "again") is None


def test_a_backbone_is_pretrained_and_a_run_evaluated():
    assert [Row(table, {}, "it", None).stage for table in ("table4", "table3")] == ["pretrain@it", "evaluate@it"]


@pytest.mark.parametrize("steps, said", [(2, ["steps 2, not 3 to 5"]), (3, []), (5, []), (6, ["steps 6, not 3 to 5"])])
def test_what_may_vary_has_two_ends(steps, said):
    assert protocol.departures({"steps": steps}, {"steps": [3, 5]}) == said


def test_latex_has_ours_less_the_papers_and_calls_exact_what_was_counted(study):
    lines = [line | {"miou": line["miou_paper"] + 1, "scale": "paper"} for line in tables.build(study, {})["table1"].to_pylist()]
    text = latex.document("table1", lines)
    assert text.count("+1.00") == len(lines) and "$-$1.00" not in text
    close = latex.document("table1", [line | {"miou": line["miou_paper"] - .004, "scale": "paper"} for line in lines])
    assert close.count("+0.00") == len(lines) and "$-$0.00" not in close
    claims = [line | {"effect": None, "low": None, "high": None} for line in ledger.build(study).to_pylist()]
    assert "& exact" not in latex.document("claims", claims)


def test_what_is_below_nothing_is_as_far_from_it():
    assert effects.limit_of([{"predicts": None, "effect": -5.0}, {"predicts": 2.0, "effect": None}]) == 6
    lines = [{"curve": "ResNet-101 with BU", "width": width, "miou": 50.0, "miou_square": 50.0 - gain} for width, gain in ((1, 2), (4, -1))]
    assert context._squares(lines) == {"moved": 2, "width": 1, "narrow": 1, "gains": []}
