"""Runs that start from a published network, through the stages fetch, train and evaluate, at a scale that trains."""
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from pipeline import records, schema, study as studies
from pipeline.datasets import miniature
from pipeline.doctor import calibration, findings, forecast
from pipeline.paper.rows import rows
from pipeline.reporting import run_pages, runs
from stages import checks, download, evaluate, fetch, prepare, train
from tests import changed
from tests.models import bundle
from tests.models.test_zoo import MOBILENET, variables_of

CLASSES = "background", "scratch", "dent"


def told(home, **source):
    """Scale tiny with the published MobileNet at HOME/net, and `mine`, which starts from it and learns next to nothing."""
    raw = yaml.safe_load((studies.ROOT / "params.yaml").read_text())
    raw["scale"] = "tiny"
    raw["scales"]["tiny"]["network"]["backbones"]["mobilenetv2_100"] = {"width": 0.25}
    raw["zoo"][MOBILENET]["published"] = str(home / "net")
    raw["scales"]["tiny"]["zoo"] = [MOBILENET]
    raw["runs"]["mine"] = {key: value for key, value in raw["zoo"][MOBILENET].items() if key != "published"}
    raw["runs"]["mine"] |= {"start": f"runs/{MOBILENET}"}
    raw["evaluate"]["mine"] = raw["evaluate"][MOBILENET]
    study = changed.training(studies.Study.model_validate(raw), "voc", learning_rate=1e-12, fine_tune_batch_norm=False)
    return changed.dataset(study, "voc", source=schema.Source(**source)) if source else study


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """stages(classes=...): all that the run `mine` needs has run, on generated data or a folder that names its classes."""
    monkeypatch.chdir(tmp_path)
    bundle.write(tmp_path / "net" / "model.ckpt", variables_of(told(tmp_path), MOBILENET))

    def run(**source):
        study = told(tmp_path, **source)
        monkeypatch.setattr(studies, "load", lambda: study)
        checks.check_settings(study)
        for stage, name in ((download, "voc"), (prepare, "voc"), (fetch, MOBILENET), (train, "mine")):
            stage.main(name)
        for name in (MOBILENET, "mine"):
            evaluate.main(name, bf16=False)
        return study
    return run


def weights(study):
    return [load_file(study.artifacts("runs", name) / records.MODEL) for name in (MOBILENET, "mine")]


def test_with_the_same_classes_all_of_it_is_taken_and_it_is_the_baseline(stages, capfd):
    study = stages()
    theirs, mine = weights(study)
    assert theirs.keys() == mine.keys() and all(torch.allclose(theirs[name], mine[name]) for name in mine)
    assert "starts anew" not in capfd.readouterr().out
    assert {row.run for row in rows(study)["own"]} >= {"mine", MOBILENET}
    assert all(records.read(study.artifacts("facts", name))["status"] == "done" for name in ("mine", MOBILENET))
    trained = [runs.describe(study, name) for name in ("mine", MOBILENET)]
    page = run_pages.build(study, trained, {}, [], {})["mine"]
    assert f"start: runs/{MOBILENET}" in page["commands"]["yaml"] and page["commands"]["stage"] == "dvc repro evaluate@mine"


def test_with_other_classes_the_last_layer_starts_anew(stages, tmp_path, capfd):
    miniature.generate("voc", schema.Generate(train=6, val=4, size=49, seed=3), tmp_path / "photos")
    for path in (tmp_path / "photos").rglob("SegmentationClass*/*.png"):
        label = np.asarray(Image.open(path))
        Image.fromarray(np.where(label == 255, 255, label % 3).astype(np.uint8)).save(path)
    study = stages(folder=str(tmp_path / "photos"), classes=CLASSES)
    theirs, mine = weights(study)
    assert len(theirs["logits.bias"]) == 21 and len(mine["logits.bias"]) == 3
    assert all(torch.allclose(theirs[name], mine[name]) for name in mine if not name.startswith("logits."))
    assert f"runs/{MOBILENET} knows 21 classes, not these 3: the last layer starts anew" in capfd.readouterr().out
    assert "knows other classes" in records.read(study.artifacts("facts", MOBILENET))["reason"]
    assert records.read(study.artifacts("facts", "mine"))["status"] == "done"


def test_what_a_machine_lacks_and_how_long_it_takes(tmp_path):
    study = told(tmp_path)
    works = {work.stage: work for work in forecast.works(study)}
    assert {f"evaluate@{MOBILENET}", "train@mine", "evaluate@mine"} <= works.keys() and f"train@{MOBILENET}" not in works
    assert {f"{MOBILENET}" in finding.what: finding.state for finding in findings.data(study)}[True] == "missing"
    only = changed.of_runs(study, "mine", MOBILENET)
    rates = calibration.measure(only, 0.1)
    assert 0 < forecast.total(only, forecast.works(only), rates, 1, 1.0) < np.inf


def test_it_is_skipped_where_it_is_not_asked_for(tmp_path):
    study = told(tmp_path)
    alone = changed.scale(study, zoo=None)
    assert study.skipped("mine") is study.skipped(MOBILENET) is None
    assert "scales.tiny.zoo names them" in alone.skipped("mine") and "make study SCALE=zoo" in alone.skipped(MOBILENET)
