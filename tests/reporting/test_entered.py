"""The claim about a test set that only a server can score: judged once that server's score is entered in params.yaml."""
import pytest

from pipeline import paper, schema
from pipeline.paper import claims
from pipeline.reporting import ledger, tables
from tests import shipped
from tests.reporting import fake_study, reader
from tests.reporting.measured import report

CLAIM = "cityscapes-test"
SAID = "no interval: the server's score of t7-x71/os16, 82.3, as entered in params.yaml, against Mapillary's 82.0"


def scored(miou, scale="miniature", server="cityscapes"):
    study = shipped.study()
    score = schema.ServerScore(run="t7-x71", strategy="os16", miou=miou)
    return study.model_copy(update={"test_scores": {scale: {server: score}}})


@pytest.mark.parametrize("miou, verdict", [(82.3, "holds"), (82.0, "undecided"), (80.0, "fails")])
def test_the_score_entered_decides_against_the_best_of_the_others(miou, verdict):
    found = ledger.judge(scored(miou), claims.claims()[CLAIM])
    assert found["verdict"] == verdict and found["effect"] == pytest.approx(miou - 82.0)
    assert "low" not in found and "as entered in params.yaml" in found["reason"]


@pytest.mark.parametrize("where", [{"scale": "paper"}, {"server": "voc"}])
def test_a_score_of_another_scale_or_server_decides_nothing(where):
    claim = claims.claims()[CLAIM]
    assert ledger.judge(scored(82.3, **where), claim) == {"verdict": "not run", "reason": claim.status}


def test_the_claim_predicts_what_the_table_says():
    best, ours = sorted(row["miou"] for row in paper.tables()["table7b"].rows)[-2:]
    assert claims.claims()[CLAIM].predicts == pytest.approx(ours - best)


def test_all_forms_of_the_report_say_that_it_was_entered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = scored(82.3)
    fake_study.write(study, images=2, size=49, missing=set(study.runs) - {"t2-x2"})
    report(study)
    line = next(line for line in tables.load()["claims"] if line["id"] == CLAIM)
    assert (line["effect"], line["low"], line["reason"]) == (pytest.approx(0.3), None, SAID)
    row = next(cells for cells in reader.Reader((tmp_path / "reports/index.html").read_text()).tables["claims"] if SAID in cells[-4])
    assert "true above 0" in row[-4] and "+0.30" in row[-2] and "[" not in row[-2]
    readme, latex = (next(row for row in (tmp_path / "reports" / name).read_text().splitlines() if line["sentence"] in row and not row.startswith("%"))
                     for name in ("README.md", "tables/claims.tex"))
    for row in (readme, latex):
        assert "true above 0" in row and "+0.30" in row and SAID.replace("_", "\\_") in row and "holds" in row.replace("\u00a0", " ")
