"""Table 4 from published weights: a made validation folder and a made checkpoint, through the stages, against plain arithmetic."""
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pipeline import records, study as studies
from pipeline.datasets.shards import Shard
from pipeline.models import deeplab
from pipeline.models.published import imagenet, tensorflow
from pipeline.schema import BackboneSize
from pipeline.study import StudyError
from stages import download, prepare, pretrain
from tests.models import bundle

CLASSES, EACH, SIDE = 7, 3, 33
SIZE = BackboneSize(middle=1, width=0.03125)


def checkpoint(prefix, outputs):
    """A checkpoint of a small Xception-65 with its classifier (outputs: None without one); returns its variables."""
    network = deeplab.build_classifier("xception", SIZE, outputs or 1)
    variables = {name: value for name, value in bundle.variables_of(network, "xception_65", seed=0).items()
                 if outputs or "/logits/" not in name}
    bundle.write(prefix, variables)
    return variables


@pytest.fixture
def study(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    for number in range(CLASSES):
        folder = tmp_path / "ILSVRC" / "val" / f"n{number:08d}"
        folder.mkdir(parents=True)
        for picture in range(EACH):
            pixels = rng.integers(0, 256, (5, 6, 3), np.uint8)
            Image.fromarray(pixels).resize((50, 40)).save(folder / f"ILSVRC2012_val_{EACH * number + picture:08d}.JPEG")
    raw = yaml.safe_load((studies.ROOT / "params.yaml").read_text()) | {"scale": "paper"}
    paper = raw["scales"]["paper"]
    paper["imagenet"] = {"source": {"folder": str(tmp_path / "ILSVRC")}, "train": None,
                         "evaluate": {"split": "val", "canvas": [SIDE, SIDE]}, "evaluate_batch": 4}
    paper["network"]["backbones"] = {"xception65": SIZE.model_dump() | {"weights": str(tmp_path / "weights")}}
    study = studies.Study.model_validate(raw)
    monkeypatch.setattr(studies, "load", lambda: study)
    monkeypatch.chdir(tmp_path)
    download.main("imagenet")
    prepare.main("imagenet")
    return study


@pytest.mark.parametrize("background", [0, 1])
@torch.inference_mode()
def test_errors_of_the_published_classifier(study, tmp_path, background):
    variables = checkpoint(tmp_path / "weights" / "model.ckpt", CLASSES + background)
    pretrain.main("xception65")
    record = records.read(study.artifacts("weights", "xception65"))
    backbone = deeplab.build_backbone("xception", SIZE, 32).eval()
    tensorflow.load(backbone, variables)
    shard, places = Shard(study.artifacts("shards", "imagenet") / "val.arrow"), []
    for example in (shard[number] for number in range(len(shard))):
        x = torch.tensor(example.image).permute(2, 0, 1)[None] / 127.5 - 1
        features = backbone(x)["out"].mean((2, 3)).numpy()[0]
        logits = features @ variables["xception_65/logits/weights"][0, 0] + variables["xception_65/logits/biases"]
        places.append((logits > logits[example.target + background]).sum())
    assert len(places) == CLASSES * EACH and 0 < np.mean(np.array(places) >= 1) and len(set(places)) > 2
    assert record["metrics"]["top1_error"] == pytest.approx(100 * np.mean(np.array(places) >= 1))
    assert record["metrics"]["top5_error"] == pytest.approx(100 * np.mean(np.array(places) >= 5))
    assert record["reason"] is None and record["metrics"]["parameters"] == sum(each.numel() for each in backbone.parameters())


def test_a_folder_with_other_classes_is_refused(study, tmp_path):
    checkpoint(tmp_path / "weights" / "model.ckpt", 1001)
    with pytest.raises(StudyError, match="1001 classes.*has 7: val/ needs one folder for each"):
        pretrain.main("xception65")


def test_folders_that_are_no_synsets_are_refused(study, tmp_path):
    """The order of their names is what numbers ImageNet's classes: 0, 1, 10, 11 ... would be another one."""
    (tmp_path / "ILSVRC/val/n00000003").rename(tmp_path / "ILSVRC/val/3")
    prepare.main("imagenet")
    checkpoint(tmp_path / "weights" / "model.ckpt", CLASSES + 1)
    with pytest.raises(StudyError, match="has a class 3: .* such as n01440764"):
        pretrain.main("xception65")


def test_weights_without_a_classifier_say_so(study, tmp_path):
    checkpoint(tmp_path / "weights" / "model.ckpt", None)
    pretrain.main("xception65")
    record = records.read(study.artifacts("weights", "xception65"))
    assert not record["provenance"], "what is fetched again is the same to the trainings"
    assert record["status"] == "done" and "top1_error" not in record["metrics"] and "holds no classifier" in record["reason"]
    assert (study.artifacts("weights", "xception65") / records.WEIGHTS).exists()


def test_pictures_that_are_too_many_at_a_time_say_what_to_lower(study, tmp_path, monkeypatch):
    def full(pictures):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    checkpoint(tmp_path / "weights" / "model.ckpt", CLASSES)
    monkeypatch.setattr(imagenet, "normalise", full)
    with pytest.raises(StudyError, match="out of memory. Lower evaluate_batch"):
        pretrain.main("xception65")
