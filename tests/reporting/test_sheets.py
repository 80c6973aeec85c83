"""The data sheets in the report: what `prepare` counted, a picture, why a data set is missing."""
import json
import re

import numpy as np
import pytest
from PIL import Image

from pipeline import records, schema, study as studies
from pipeline.datasets import preparation
from pipeline.datasets.contact import contact_sheet
from pipeline.datasets.native import Item
from pipeline.datasets.shards import Shard
from pipeline.reporting import sheets
from tests.reporting.reader import Reader


@pytest.fixture
def study(tmp_path, monkeypatch):
    """VOC prepared by the data stage's own code, Cityscapes skipped, the others not there."""
    monkeypatch.chdir(tmp_path)
    study, items = studies.load(), []
    for number in range(3):
        label = np.zeros((40, 50 + number), np.uint8)
        label[:10, :10], label[10, :10] = number + 1, 255
        Image.fromarray(np.full((*label.shape, 3), 99, np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(label).save(tmp_path / f"{number}.label.png")
        items.append(Item(f"{number}", tmp_path / f"{number}.png", tmp_path / f"{number}.label.png"))
    out = study.artifacts("shards", "voc")
    out.mkdir(parents=True)
    sheet = preparation.write_shard(out / "val.arrow", tmp_path / "parts", "voc", ["background", "cat", "dog", "cow", "sheep"], items)
    contact_sheet(Shard(out / "val.arrow"), np.array([[0, 0, 0], [9, 9, 9], [7, 7, 7], [5, 5, 5], [3, 3, 3]]), out / "contact.png")
    (out / "sheet.json").write_text(json.dumps({"classes": ["background", "cat", "dog", "cow", "sheep"], "splits": {"val": sheet}}))
    records.write(out, status="done")
    records.write(study.artifacts("shards", "cityscapes"), status="skipped", reason="no login")
    return study


def test_counts_are_those_of_the_data(study):
    voc, coco, cityscapes, *_ = sheets.build(study)
    assert (cityscapes["skipped"], coco["skipped"]) == ("no login", "not prepared yet: dvc repro prepare@coco")
    (split,) = voc["splits"]
    assert (split["images"], split["height"], split["width"]) == (3, "40", "50 to 52")
    assert re.fullmatch(rf"voc val {split['digest']}", sheets.digests([voc, coco, cityscapes])) and re.fullmatch("[0-9a-f]{16}", split["digest"])
    pixels = 3 * 40 * 51
    assert split["void"] == pytest.approx(100 * 30 / pixels)
    shares = dict(voc["classes"])
    assert list(shares) == ["background", "cat", "dog", "cow"] and voc["count"] == 5
    assert shares["cat"] == [(1, pytest.approx(100 * 100 / (pixels - 30)))]
    assert voc["contact"].startswith(b"RIFF") and len(voc["contact"]) < 60_000
    assert "seed 1" in voc["source"]


def test_sources_are_named():
    settings = studies.load().scales["paper"].voc.source
    assert "VOCtrainval_11-May-2012.tar (MD5 6cd6e144f989b92b3379bac3b3de84fd)" in sheets._source(settings)
    assert sheets._source(schema.Source(folder="/data/voc")) == "the folder /data/voc" and sheets._source(None) == "not named"


def test_the_page_shows_them(reported):
    text = (reported / "reports/index.html").read_text()
    tables = Reader(text).tables["data"]
    assert 'href="#data"' in text and text.count('class="contact"') == 3
    assert tables[1][:3] == ["val", "6", "49"] and tables[1][-1] == "25.0"
    kept = json.loads((reported / "artifacts/miniature/shards/voc/sheet.json").read_text())["splits"]["val"]
    row = next(cells for cells in tables if cells[0] == "cat")
    assert row[1:] == [str(kept["images_with"]["cat"]), f"{100 * kept['frequency']['cat']:.1f}"]
