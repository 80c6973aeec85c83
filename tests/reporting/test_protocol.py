"""At scale paper a page is a draft until every row is measured, by the paper's own protocol, on complete data."""
import json
import types
from pathlib import Path

import pytest
import yaml

from pipeline import records, schema
from pipeline.paper import protocol
from pipeline.reporting import ledger, page, tables
from stages import compile as compiling, console
from tests import shipped
from tests.reporting import fake_study
from tests.reporting.measured import measured


def named(name, dataset):
    """A data set with a source, and trained by the protocol, whatever params.yaml says now."""
    wanted = {recipe: {key: value[0] if isinstance(value, list) else value for key, value in settings.items()}
              for recipe, settings in protocol.protocol().get(name, {}).items()}
    trainings = {recipe: one.model_copy(update=settings) for recipe, settings in wanted.items() if (one := getattr(dataset, recipe))}
    return dataset.model_copy(update={"source": schema.Source(folder="/data"), **trainings})


def with_sources(scale="paper"):
    """The study at a scale with every data set named."""
    study = shipped.study().model_copy(update={"scale": scale})
    found = {name: getattr(study.settings, name) for name in ("voc", "coco", "cityscapes", "imagenet")}
    settings = study.settings.model_copy(update={name: named(name, one) for name, one in found.items() if one})
    return study.model_copy(update={"scales": study.scales | {scale: settings}})


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = with_sources()
    fake_study.write(study, images=3, size=49)
    return study


def reported(study):
    tables.save(tables.build(study, measured(study)) | {"claims": ledger.build(study)})
    page.write(study)
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
    paper = yaml.safe_load(shipped.committed("params.yaml"))["scales"]["paper"]
    for dataset, recipes in protocol.protocol().items():
        for recipe, wanted in recipes.items():
            assert wanted.keys() <= schema.Training.model_fields.keys()
            training = schema.Training.model_validate(paper[dataset][recipe])
            assert protocol.departures(dataset, recipe, training.model_dump(mode="json")) == []


@pytest.mark.parametrize("dataset, recipe, changed, words", [
    ("voc", "train", {"steps": 2, "crop": 65}, ["crop 65, not 513", "steps 2, not 30000"]),
    ("voc", "fine_tune", {"learning_rate": 0.007}, ["learning rate 0.007, not 0.0001"]),
    ("voc", "train", {"accumulate": 4, "optimiser": "adamw"}, ["optimiser adamw, not sgd", "accumulate 4, not 1"]),
    ("coco", "train", {"steps": 400_000}, []), ("coco", "train", {"steps": 2}, ["steps 2, not 300000 to 500000"]),
    ("cityscapes", "train", {"batch": 8}, []), ("cityscapes", "train", {"batch": 4}, ["batch 4, not 8 to 16"]),
    ("voc", "train", {"validate_every": 7, "compile": True, "split": "other"}, [])])
def test_the_words(dataset, recipe, changed, words):
    wanted = {key: value[0] if isinstance(value, list) else value for key, value in protocol.protocol()[dataset][recipe].items()}
    assert protocol.departures(dataset, recipe, wanted | changed) == words


def test_the_papers_experiment_has_no_banner_and_one_cut_short_has(study):
    found = reported(study)
    assert 'class="watermark"' not in found["index.html"] and "DRAFT" not in found["README.md"]
    assert not any("not a result" in text or "protocol:" in text for text in found.values())
    trained_with(study, "t1-c8", steps=2, crop=65)
    found = reported(study)
    for name in ("index.html", "runs/t1-c8.html", "runs/t2-x2.html"):
        assert 'class="watermark"' in found[name] and "draft</strong> &ensp;networks not trained by the paper's protocol: 1." in found[name].replace("&#39;", "'")
    assert "**DRAFT**: networks not trained by the paper's protocol: 1." in found["README.md"]
    said = "crop 65, not 513; steps 2, not 30000"
    assert f'<a href="runs/t1-c8.html">t1-c8</a>: {said}</li>' in found["index.html"]
    assert f"- t1-c8 was not trained by the paper's protocol: {said}." in found["README.md"]
    assert said in found["runs/t1-c8.html"] and said not in found["runs/t2-x2.html"]
    assert "Scale paper, a draft: not a result of the paper&#x27;s experiment" in found["figures/figure5-ours.svg"]
    assert "not a result" not in found["figures/figure5-paper.svg"]


def test_the_latex_of_a_training_cut_short_says_so(study, monkeypatch):
    monkeypatch.setattr(compiling.studies, "load", lambda: study)
    monkeypatch.setattr(console, "evaluated", lambda study: None)
    monkeypatch.setattr(compiling.mirror, "mirror", lambda study: types.SimpleNamespace(runs={}))
    monkeypatch.setattr(compiling.mirror, "read_back", lambda study, runs: measured(study))
    for said in ("", "networks not trained by the paper's protocol: 1"):
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
    found = reported(study)
    said = "PASCAL VOC 2012: val has 445 images, not 1449, train_aug has 3 images, not 10582"
    assert f"draft</strong> &ensp;the data are not complete ({said})." in found["index.html"]
    assert "<p><b>Not complete:</b> val has 445 images, not 1449; train_aug has 3 images, not 10582.</p>" in found["index.html"]
    assert "- PASCAL VOC 2012 is not complete: val has 445 images, not 1449; train_aug has 3 images, not 10582.\n\n## Provenance" in found["README.md"]


@pytest.mark.parametrize("scale, banner", [("own-data", True), ("zoo", True), ("miniature", False)])
def test_incomplete_data_at_other_scales(tmp_path, monkeypatch, scale, banner):
    monkeypatch.chdir(tmp_path)
    study = with_sources(scale) if banner else shipped.study()
    fake_study.write(study, images=3, size=49)
    lacking(study, "voc", "val has 445 images, not 1449")
    tables.save(tables.build(study, measured(study)) | {"claims": ledger.build(study)})
    page.write(study)
    index, readme = ((tmp_path / "reports" / name).read_text() for name in ("index.html", "README.md"))
    assert "<b>Not complete:</b> val has 445 images, not 1449." in index and "is not complete: val has 445" in readme
    assert ("; the data are not complete (PASCAL VOC 2012: val has 445 images, not 1449)." in index.partition("</aside>")[0]) == banner
    assert not protocol.departing(study), "only scale paper is held against the paper's protocol"
