"""A report at every scale that is shipped: what it says of itself, and what comes first."""
import html
import re

import pytest

from pipeline import paper
from pipeline.reporting import page
from tests import changed
from tests.reporting import fake_study
from tests.reporting.measured import compiled


@pytest.mark.parametrize("scale", ["tiny", "paper", "zoo", "own-data"])
def test_every_scale_has_a_report(scale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = changed.at(scale)
    fake_study.write(study, images=3, size=49)
    built = compiled(study)
    page.write(study)
    text = (tmp_path / "reports/index.html").read_text()
    assert ('class="watermark"' in text) and f"at scale <b>{scale}</b>" in text
    if scale == "paper":  # its Cityscapes, COCO and ImageNet are for the user to name
        assert "draft, not a result" in text and "no cityscapes data at scale paper" in text
    assert ("Ours minus the published mIOU: " in text) == (scale in ("paper", "zoo")), "elsewhere percentages do not compare"
    assert ("does not show that they agree" in text) == (scale in ("paper", "zoo"))
    if scale == "tiny":
        decays = re.findall(r"<dd>(\S+) \([\d.]+, or 1 − 9", (tmp_path / "reports/runs/t2-x2.html").read_text())
        assert len(decays) == 2 and all(0 <= float(decay) < 1 for decay in decays), "as the training has them, of few steps"
    if scale == "zoo":
        assert "nothing was trained" in text and "▲" in text and 'id="zoo"' in text  # real data: a difference means something
        assert "; then <code>dvc repro evaluate@t" not in text, "advice that this scale would skip"
        assert text.index('id="zoo-head"') < text.index('id="table1-head"') < text.index('id="claims-head"')
        folded = [place for place in paper.tables() if f"<details><summary>{paper.tables()[place].title}: no row is measured" in html.unescape(text)]
        assert folded == [place for place in paper.tables() if place not in ("zoo", "figure5")]
        assert "trained</dt>" not in text and "Seeds" not in text and "time, summed</dt>" in text and "Training time" not in text
        assert "<dt>Networks fetched</dt><dd>3 of 3 that scale zoo has</dd>" in text
        assert "<dt>fetching</dt>" in (tmp_path / "reports/runs/mobilenetv2_coco_voc_trainaug.html").read_text()
    if scale == "own-data":
        assert {line["status"] for line in built["own"].to_pylist()} == {"measured"}
        assert 'id="own"' in text and "data or networks, so not a result" in text
