"""At scale paper a page is a draft until every row is measured, by the paper's own protocol, on complete data."""
import json
import shutil
import types
from pathlib import Path

import pytest
import yaml

from pipeline import records, schema, study as studies
from pipeline.paper import protocol
from pipeline.reporting import tables
from stages import compile as compiling, console
from tests import changed, shipped
from tests.reporting import fake_study
from tests.reporting.measured import measured, report


def named(name, dataset):
    """A data set with a source, and trained by the protocol, whatever params.yaml says now."""
    wanted = {recipe: {key: value[0] if isinstance(value, list) else value for key, value in settings.items()}
              for recipe, settings in protocol.protocol().get(name, {}).items() if recipe != "evaluate"}
    trainings = {recipe: one.model_copy(update=settings) for recipe, settings in wanted.items() if (one := getattr(dataset, recipe))}
    return dataset.model_copy(update={"source": schema.Source(folder="/data"), **trainings})


def with_sources(scale="paper"):
    """The study at a scale with every data set named."""
    study = shipped.study().model_copy(update={"scale": scale})
    found = {name: getattr(study.settings, name) for name in ("voc", "coco", "cityscapes", "imagenet")}
    return changed.scale(study, **{name: named(name, one) for name, one in found.items() if one})


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("paper"))
        fake_study.write(with_sources(), images=3, size=49)
    return folder


@pytest.fixture
def study(original, tmp_path, monkeypatch):
    """All of it measured; a test may change it."""
    shutil.copytree(original / "artifacts", tmp_path / "artifacts")
    monkeypatch.chdir(tmp_path)
    return with_sources()


def texts(study):
    report(study)
    return {name: (Path("reports") / name).read_text()
            for name in ("index.html", "README.md", "runs/t1-c8.html", "runs/t2-x2.html", "figures/figure5-ours.svg", "figures/figure5-paper.svg")}


def trained_with(study, run, **settings):
    folder = study.artifacts("runs", run)
    record = records.read(folder)
    record["params"]["training"] |= settings
    records.write(folder, **record)


def lacking(study, dataset, *sentences):
    """A data sheet as `prepare` leaves it where the source is not whole."""
    path = study.artifacts("shards", dataset) / "sheet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"incomplete": sentences}))


def test_the_settings_as_shipped_are_the_papers():
    study = studies.Study.model_validate(yaml.safe_load(shipped.committed("params.yaml")))
    for dataset in ("voc", "coco", "cityscapes"):
        for part, wanted in protocol.protocol()[dataset].items():
            settings = getattr(getattr(study.scales["paper"], dataset), part).model_dump(mode="json")
            assert wanted.keys() <= settings.keys() and protocol.departures(settings, wanted) == []
    network = study.scales["paper"].network.model_dump(mode="json")
    assert protocol.departures(network, protocol.protocol()["network"]) == []
    for section, known in (("backbones", network["backbones"]), ("strategies", study.model_dump(mode="json")["strategies"])):
        for name, wanted in protocol.protocol()[section].items():
            assert wanted.keys() <= known[name].keys() and protocol.departures(known[name], wanted) == []


@pytest.mark.parametrize("dataset, recipe, changed, words", [
    ("voc", "train", {"steps": 2, "crop": 65}, ["crop 65, not 513", "steps 2, not 30000"]),
    ("voc", "fine_tune", {"learning_rate": 0.007}, ["learning rate 0.007, not 0.0001"]),
    ("voc", "train", {"accumulate": 4, "optimiser": "adamw"}, ["optimiser adamw, not sgd", "accumulate 4, not 1"]),
    ("coco", "train", {"steps": 400_000}, []), ("coco", "train", {"steps": 2}, ["steps 2, not 300000 to 500000"]),
    ("cityscapes", "train", {"batch": 8}, []), ("cityscapes", "train", {"batch": 4}, ["batch 4, not 8 to 16"]),
    ("voc", "train", {"validate_every": 7, "compile": True, "split": "other"}, [])])
def test_what_departs_from_the_protocol_is_said_in_words(dataset, recipe, changed, words):
    wanted = protocol.protocol()[dataset][recipe]
    own = {key: value[0] if isinstance(value, list) else value for key, value in wanted.items()}
    assert protocol.departures(own | changed, wanted) == words


def test_another_network_or_evaluation_is_named(study):
    """Whatever makes a number another experiment's."""
    folder, run = study.artifacts("runs", "t1-c8"), study.runs["t1-c8"]
    record = records.read(folder)
    record["params"]["network"] |= {"width": 0.25, "atrous_rates": [1, 2, 3]}
    record["params"]["network"]["backbones"]["resnet101"]["units"] = [2, 2, 2, 1]
    record["params"]["training"] |= {"fine_tune_batch_norm": False, "batch_norm_decay": 0.9}
    records.write(folder, **record)
    said = ["batch norm decay 0.9, not 0.9997", "fine tune batch norm false, not true", "width 0.25, not 1.0", "atrous rates 1 2 3, not 6 12 18",
            "resnet101's units 2 2 2 1, not 3 4 23 3"]
    found = protocol.departing(study)
    assert found.keys() == {"t1-c8"} and sorted(found["t1-c8"]) == sorted(said)
    evaluation = study.dataset("voc").evaluate.model_copy(update={"classes": ("cat", "dog")})
    os16 = study.strategies["os16"].model_copy(update={"scales": (1.0, 1.25)})
    other = changed.dataset(study, "voc", evaluate=evaluation).model_copy(update={"strategies": study.strategies | {"os16": os16}})
    found = protocol.departing(other)
    assert found["t2-x2"] == ["evaluation's classes cat dog, not all", "os16's scales 1.0 1.25, not 1.0"]
    assert found["t7-dec"] == ["os16's scales 1.0 1.25, not 1.0"] and run.dataset == "voc"


def test_the_papers_experiment_has_no_banner_and_one_cut_short_has(study):
    found = texts(study)
    assert 'class="watermark"' not in found["index.html"] and "DRAFT" not in found["README.md"]
    assert not any("not a result" in text or "protocol:" in text for text in found.values())
    trained_with(study, "t1-c8", steps=2, crop=65)
    found = texts(study)
    for name in ("index.html", "runs/t1-c8.html", "runs/t2-x2.html"):
        assert 'class="watermark"' in found[name] and "draft</strong> &ensp;networks not trained and evaluated by the paper's protocol: 1." in found[name].replace("&#39;", "'")
    assert "**DRAFT**: networks not trained and evaluated by the paper's protocol: 1." in found["README.md"]
    said = "crop 65, not 513; steps 2, not 30000"
    assert f'<a href="runs/t1-c8.html">t1-c8</a>: {said}</li>' in found["index.html"]
    assert f"- t1-c8 was not trained and evaluated by the paper's protocol: {said}." in found["README.md"]
    assert said in found["runs/t1-c8.html"] and said not in found["runs/t2-x2.html"]
    assert "Scale paper, a draft: not a result of the paper&#x27;s experiment" in found["figures/figure5-ours.svg"]
    assert "not a result" not in found["figures/figure5-paper.svg"]


def test_the_latex_of_a_training_cut_short_says_so(study, monkeypatch):
    monkeypatch.setattr(compiling.studies, "load", lambda: study)
    monkeypatch.setattr(console, "require_evaluated", lambda study: None)
    monkeypatch.setattr(compiling.mirror, "mirror", lambda study: types.SimpleNamespace(runs={}))
    monkeypatch.setattr(compiling.mirror, "read_back", lambda study, runs: measured(study))
    for said in ("", "networks not trained and evaluated by the paper's protocol: 1"):
        if said:
            trained_with(study, "t1-c8", steps=2)
        compiling.main()
        captions = [path.read_text().partition("\\label")[0] for path in tables.FOLDER.glob("*.tex")]
        assert len(captions) > 9 and {f"A draft: {said}." in text for text in captions} == {bool(said)}
    lacking(study, "voc", "val has 445 images, not 1449", "train_aug has 3 images, not 10582")
    compiling.main()
    said += r"; the data are not complete (PASCAL VOC 2012: val has 445 images, not 1449, train\_aug has 3 images, not 10582)"
    assert {path.name for path in tables.FOLDER.glob("*.tex") if f"A draft: {said}." not in path.read_text()} == set()


def test_incomplete_data_are_a_draft_at_scale_paper(study):
    lacking(study, "voc", "val has 445 images, not 1449", "train_aug has 3 images, not 10582")
    found = texts(study)
    said = "PASCAL VOC 2012: val has 445 images, not 1449, train_aug has 3 images, not 10582"
    assert f"draft</strong> &ensp;the data are not complete ({said})." in found["index.html"]
    assert "<p><b>Not complete:</b> val has 445 images, not 1449; train_aug has 3 images, not 10582.</p>" in found["index.html"]
    assert "- PASCAL VOC 2012 is not complete: val has 445 images, not 1449; train_aug has 3 images, not 10582.\n\n## Provenance" in found["README.md"]


@pytest.mark.parametrize("scale, banner", [("own-data", True), ("zoo", True), ("miniature", False)])
def test_incomplete_data_at_other_scales(tmp_path, monkeypatch, scale, banner):
    monkeypatch.chdir(tmp_path)
    study = with_sources(scale) if banner else changed.of_runs(shipped.study(), "t2-x2", "t3-os16-nodec")
    fake_study.write(study, images=3, size=49)
    lacking(study, "voc", "val has 445 images, not 1449")
    report(study)
    index, readme = ((tmp_path / "reports" / name).read_text() for name in ("index.html", "README.md"))
    assert "<b>Not complete:</b> val has 445 images, not 1449." in index and "is not complete: val has 445" in readme
    assert ("; the data are not complete (PASCAL VOC 2012: val has 445 images, not 1449)." in index.partition("</aside>")[0]) == banner
    assert not protocol.departing(study), "only scale paper is held against the paper's protocol"
