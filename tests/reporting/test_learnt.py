"""What the committed miniature has learnt: its best decoder, its worst run, and where the decoder gains."""
import pytest

from pipeline.reporting import tables
from pipeline.study import ROOT

STORED = tables.load(ROOT / "reports/tables")
pytestmark = pytest.mark.skipif(not STORED or STORED["table1"][0]["scale"] != "miniature", reason="the report here is of another scale")


def test_the_networks_have_learnt():
    measured = [row["miou"] for name in ("table1", "table2", "table3", "table5", "table7a") for row in STORED[name] if row["miou"] is not None]
    assert len(measured) > 40 and min(measured) >= 25
    assert max(row["miou"] for row in STORED["table2"]) >= 50


@pytest.mark.parametrize("network", ["ResNet-101", "Xception"])
def test_the_decoder_gains_most_at_the_boundary(network):
    curves = {name: [row["miou"] for row in STORED["figure5"] if row["curve"] == f"{network} with {name}"] for name in ("decoder", "BU")}
    gains = [better - worse for better, worse in zip(curves["decoder"], curves["BU"], strict=True)]
    assert len(gains) == 14 and min(gains) > 0 and max(gains) == gains[0]
