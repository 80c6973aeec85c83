"""What stage fetch writes down of a published network, whatever the network: test_zoo.py has the whole way."""
import json

from pipeline import records, study as studies
from stages import fetch
from tests import changed

NETWORK = "mobilenetv2_coco_voc_trainaug"


def test_on_other_images_or_another_canvas_it_is_evaluated_again(tmp_path, monkeypatch):
    """What it is evaluated on is in its record, as the evaluation depends on nothing else that tells; times are not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.models.published.checkpoints.save_network", lambda *arguments: {"parameters": 3})
    study, found = changed.at("zoo"), []
    shards = study.artifacts("shards", "voc")
    records.write(shards, status="done")
    (shards / "val.arrow").write_bytes(b"images and labels")

    def fetched(told):
        monkeypatch.setattr(studies, "load", lambda: told)
        fetch.main(NETWORK)
        record = records.read(told.artifacts("runs", NETWORK))
        assert record["params"]["network"]["backbones"].keys() == {"mobilenetv2_100"}  # an edit of others would not fetch it again
        found.append(json.dumps(record))
    fetched(study)
    fetched(study)
    assert found[0] == found[1]
    canvas = study.settings.voc.evaluate.model_copy(update={"canvas": (65, 65)})
    fetched(changed.dataset(study, "voc", evaluate=canvas))
    for name in ("val.arrow", "val-0001.arrow"):
        (shards / name).write_bytes(b"images and other labels")
        fetched(study)
    assert len(set(found)) == 4
