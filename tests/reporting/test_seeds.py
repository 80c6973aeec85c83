"""Further seeds of a run in the ledger: which runs count as such, the range they give, and what it does to a verdict."""
import itertools
import re

import pytest
import yaml

from pipeline import study as studies
from pipeline.evaluation import metrics
from pipeline.paper import claims
from pipeline.reporting import ledger, page
from tests.reporting import fake_study
from tests.reporting.measured import compiled, report


def seeded():
    """The study with lines such as  t2-x2-s1: {<<: *decoder, seed: 1}  for both sides of a claim, and for COCO's pretraining."""
    raw = yaml.safe_load((studies.ROOT / "params.yaml").read_text())
    for run, seed in (("t2-x2", 1), ("t2-x2", 2), ("t3-os16-nodec", 1), ("t2-128", 1)):
        raw["runs"][f"{run}-s{seed}"] = raw["runs"][run] | {"seed": seed}
        raw["evaluate"][f"{run}-s{seed}"] = raw["evaluate"][run]
    raw["runs"]["coco-again"] = raw["runs"]["coco-x65"] | {"seed": 7}
    raw["runs"]["t5-coco-again"] = raw["runs"]["t5-coco"] | {"start": "runs/coco-again"}
    return studies.Study.model_validate(raw)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("study"))
        fake_study.write(seeded(), images=5, size=49, missing=("t2-128-s1",))
    return folder


@pytest.fixture
def study(home, monkeypatch):
    monkeypatch.chdir(home)
    return seeded()


def test_runs_that_differ_in_the_seed_alone(study):
    assert ledger.seeds(study, "t2-x2") == ["t2-x2", "t2-x2-s1", "t2-x2-s2"]
    assert ledger.seeds(study, "t2-x2-s1") == ["t2-x2-s1", "t2-x2", "t2-x2-s2"]
    assert ledger.seeds(study, "t5-coco") == ["t5-coco", "t5-coco-again"]  # by the seed of what it starts from
    assert ledger.seeds(study, "t2-x3") == ["t2-x3"]
    for change in ({"recipe": "fine_tune"}, {"dataset": "coco"}, {"backbone": "xception65"}, {"output_stride": 8}, {"atrous": False}):
        other = study.runs["t2-x2"].model_copy(update={"seed": 3} | change)
        assert "other" not in ledger.seeds(study.model_copy(update={"runs": study.runs | {"other": other}}), "t2-x2"), change


def test_the_range_is_over_all_pairings(study):
    lines = {line["id"]: line for line in ledger.build(study).to_pylist()}
    def miou(run, strategy="os16"):
        facts = metrics.Facts.read(study.artifacts("facts", run) / "facts.parquet")
        return float(metrics.miou(metrics.confusion(facts, strategy, len(fake_study.CLASSES))))
    decoder = lines["decoder-resnet"]
    effects = [miou(a) - miou(b) for a in ("t2-x2", "t2-x2-s1", "t2-x2-s2") for b in ("t3-os16-nodec", "t3-os16-nodec-s1")]
    assert len(set(effects)) == 6 and decoder["pairings"] == 6
    assert (decoder["seeds_low"], decoder["seeds_high"]) == (pytest.approx(min(effects)), pytest.approx(max(effects)))
    assert decoder["effect"] == pytest.approx(effects[0])
    same = lines["eval-os8"]  # two strategies of one network: training by training
    effects = [miou(run, "os8") - miou(run) for run in ("t2-x2", "t2-x2-s1", "t2-x2-s2")]
    assert same["pairings"] == 3 and same["seeds_high"] == pytest.approx(max(effects))
    assert lines["decoder-xception"]["pairings"] is None and lines["decoder-cost"]["pairings"] is None


def test_two_seeds_of_one_network_are_compared_without_pairing_a_training_with_itself(study):
    claim = claims.claims()["decoder-resnet"].model_copy(update={"a": "t2-x2-s1/os16", "b": ("t2-x2/os16",)})
    found = ledger.judge(study, claim)
    assert found["effect"] != 0 and found["pairings"] is None
    assert found["verdict"] == ledger.verdict(found["low"], found["high"], claim.bounds)


def test_a_seed_not_trained_yet_does_not_count(study):
    found = ledger._over_seeds(study, claims.claims()["decoder-structure"], "t2-128/os16")
    assert found["pairings"] == 3  # t2-x2's three against t2-128; t2-128-s1 is missing


@pytest.mark.parametrize("interval, seeds, expected", [
    ((1, 2), (0.5, 3), "holds"), ((1, 2), (-0.5, 1.5), "undecided"), ((-2, -1), (-3, -0.5), "fails"),
    ((-2, -1), (-3, 0.5), "undecided"), ((-1, 1), (0.2, 0.4), "undecided"), ((1, 2), (None, None), "holds")])
def test_a_verdict_needs_interval_and_seeds(interval, seeds, expected):
    found = dict(zip(("low", "high", "seeds_low", "seeds_high"), interval + seeds))
    assert ledger._together(found, (0, float("inf"))) == expected


def test_a_seed_that_is_evaluated_another_way_is_no_pairing(study, monkeypatch):
    claim = claims.claims()["decoder-resnet"]
    runs = {name: run for name, run in study.runs.items() if name in ("t2-x2", "t3-os16-nodec")}
    again = study.model_copy(update={"runs": runs | {"t2-x2-s1": runs["t2-x2"].model_copy(update={"seed": 1})},
                                     "evaluate": study.evaluate | {"t2-x2-s1": ("os8",)}})
    monkeypatch.setattr(ledger, "_missing", lambda *_: None)
    assert ledger._over_seeds(again, claim, claim.b[0])["pairings"] is None


def test_the_page_shows_seeds_apart_and_prints_the_rule(study, home):
    report(study)
    text = (home / "reports/index.html").read_text()
    shown = text.split('id="claim-decoder-resnet"')[1].split("</tr>")[0]
    assert "seeds " in shown and "6 pairings of trainings" in shown and "over seeds" in shown
    assert "seeds " not in text.split('id="claim-decoder-xception"')[1].split("</tr>")[0]
    assert "interval and range" in text and "◇" in text
    assert "& Seeds &" in (home / "reports/tables/claims.tex").read_text()
    assert "; seeds " in (home / "reports/README.md").read_text()


def test_a_row_of_a_table_says_what_its_network_reached_with_other_seeds(study, home):
    built = compiled(study)
    lines = {(line["run"], line["strategy"]): line for line in built["table3"].to_pylist() + built["table5"].to_pylist()}
    scores = {line["run"]: line["miou"] for line in built["own"].to_pylist() if line["strategy"] == "os16"}
    three = [lines["t2-x2", "os16"]["miou"], scores["t2-x2-s1"], scores["t2-x2-s2"]]
    low, high = (lines["t2-x2", "os16"][f"miou_seeds_{end}"] for end in ("low", "high"))
    assert (low, high) == (min(three), max(three)) and low < high
    assert lines["t5-dec", "os16"]["miou_seeds_low"] is None and "miou_seeds_low" not in built["own"].column_names
    page.write(study)
    for name, said in (("index.html", f"seeds {low:.2f} to {high:.2f}"), ("README.md", f"seeds {low:.2f} to {high:.2f}"),
                       ("tables/table3.tex", f"{{[}}{low:.2f}, {high:.2f}{{]}}")):
        assert said in (home / "reports" / name).read_text(), name
    assert "& seeds &" not in (home / "reports/tables/table5.tex").read_text()


def test_what_the_ledger_says_of_luck_is_counted():
    """Of equal networks every order of their trainings is as likely: one is above the other in all pairings in one order of C(m + n, m)."""
    said = re.findall(r"once in (\d+)(?: cases)? with (\w+) (?:trainings )?(each|against one)", ledger.INTERVALS)
    numbers = {"one": 1, "two": 2, "three": 3}
    for chance, ours, theirs in said:
        sides = numbers[ours], numbers[ours if theirs == "each" else "one"]
        orders = list(itertools.combinations(range(sum(sides)), sides[0]))
        assert sum(min(order) == sides[1] for order in orders) * int(chance) == len(orders), chance
    assert len(said) == 3
