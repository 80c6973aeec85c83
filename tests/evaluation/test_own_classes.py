"""A folder that names its classes, through the stages download to evaluate, and in costs, pages and tools. What is refused of
such: tests/datasets/test_folders.py and test_settings.py."""
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from pipeline import records, schema, study as studies
from pipeline.datasets import miniature, voc
from pipeline.evaluation import measure, trained
from pipeline.models import cost, deeplab, weights
from pipeline.reporting import run_pages, runs, sheets
from stages import download, evaluate, predict, prepare, train
from tests import changed

TINY, NAMES, RUN = changed.at("tiny"), ("background", "scratch", "deep dent"), "t1-c8"


def named(root, *classes, scored=None):
    """The tiny scale with the one run, on the folder `root`, which names its classes."""
    tiny = changed.of_runs(TINY, RUN, "t5-coco", "coco-x65")
    evaluation = tiny.settings.voc.evaluate.model_copy(update={"classes": scored})
    return changed.dataset(tiny, "voc", source=schema.Source(folder=str(root), classes=classes), evaluate=evaluation)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which the run was trained and evaluated on photos/, whose labels are 0, 1, 2 and void."""
    home = tmp_path_factory.mktemp("own")
    miniature.generate("voc", schema.Generate(train=6, val=4, size=49, seed=3), home / "photos")
    for path in (home / "photos").rglob("SegmentationClass*/*.png"):
        label = np.asarray(Image.open(path))
        Image.fromarray(np.where(label == 255, 255, label % 3).astype(np.uint8)).save(path)
    study = named(home / "photos", *NAMES, scored=NAMES[:2])
    backbone = deeplab.build_backbone("resnet", study.settings.network.backbones["resnet101"], 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(studies, "load", lambda: study)
        weights.save(backbone, study.artifacts("weights", "resnet101") / records.WEIGHTS)
        records.write(study.artifacts("weights", "resnet101"), status="done")
        for stage, name in ((download, "voc"), (prepare, "voc"), (train, RUN)):
            stage.main(name)
        evaluate.main(RUN, bf16=False)
    return home


@pytest.fixture
def study(home, monkeypatch):
    monkeypatch.chdir(home)
    study = named(home / "photos", *NAMES, scored=NAMES[:2])
    monkeypatch.setattr(studies, "load", lambda: study)
    return study


def test_the_network_has_as_many_outputs_and_keeps_their_names(study):
    folder = study.artifacts("runs", RUN)
    parameters = records.read(folder)["metrics"]["parameters"]
    assert load_file(folder / records.MODEL)["logits.bias"].shape == (3,)
    assert trained.described(folder).classes == list(NAMES)
    here, elsewhere = ([*cost.rows(each.model_copy(update={"evaluate": {RUN: ("os16",)}}))][0] for each in (study, TINY))
    assert here["parameters_here"] * 1e6 == parameters < elsewhere["parameters_here"] * 1e6
    assert here["parameters_paper"] == elsewhere["parameters_paper"], "the paper's network has the paper's classes"


def test_pages_scores_and_colours_are_of_these_classes(study):
    assert {name for name in measure.scores(study, RUN, "os16") if name.startswith("iou/")} <= {f"iou/{name}" for name in NAMES}
    assert measure.classes(study, RUN) == (list(NAMES), [0, 1])
    [sheet, *_] = sheets.build(study)
    assert (sheet["name"], sheet["count"], sheet["incomplete"]) == ("The folder photos", 3, [])
    assert [name for name, _ in sheet["classes"]] == list(NAMES)
    page = run_pages.build(study, [runs.describe(study, RUN)], {}, [], {})[RUN]
    assert set(page["names"]) <= set(NAMES) and NAMES[1] in page["names"]
    png = next(iter(measure.label_maps(study, RUN, "os16").values()))
    assert np.array_equal(np.reshape(Image.open(io.BytesIO(png.as_py())).getpalette()[:9], (3, 3)), voc.colours(3))


def test_photos_are_labelled_whatever_the_settings_say_now(study, home, monkeypatch, capsys):
    """A network that is handed over knows its classes by itself."""
    photo = next((home / "photos").rglob("*.jpg"))
    monkeypatch.setattr(studies, "load", lambda: TINY)
    predict.main(str(study.artifacts("runs", RUN)), [photo], home / "labelled", None, None)
    assert re.search(r": (background|scratch|deep dent) \d+ %", capsys.readouterr().out)


def test_images_with_other_classes_are_not_scored(study, home, tmp_path, monkeypatch):
    """As where the names were edited and stage evaluate is called by hand; DVC trains first."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    told = named(home / "photos", "background", "stain", "hole")
    monkeypatch.setattr(studies, "load", lambda: told)
    prepare.main("voc")
    evaluate.main(RUN, bf16=False)
    record = records.read(told.artifacts("facts", RUN))
    assert (record["status"], record["reason"]) == ("skipped", "t1-c8 knows other classes than voc has at scale tiny")


def test_a_run_on_other_data_is_no_start(study):
    assert "coco-x65 is of another data set, and scales.tiny.voc.source names its own classes" in study.skipped("t5-coco")
    assert not study.skipped("coco-x65") and not TINY.skipped("t5-coco")
