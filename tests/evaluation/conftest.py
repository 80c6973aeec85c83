"""Runs of scale tiny as a training leaves them, of networks that learnt nothing; and test images for one."""
import json

import numpy as np
import pytest
from PIL import Image

from pipeline import schema, study as studies
from pipeline.datasets import cityscapes, voc
from tests import changed
from tests.evaluation import untrained

RUNS = {"voc": ("t2-x2", 21), "cityscapes": ("t7-x71", 19)}
SIZES = {"voc": [(30, 41), (41, 30), (35, 33)], "cityscapes": [(24, 48)] * 3}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of t2-x2, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    untrained.save(tmp_path / "net", changed.at("tiny"), "t2-x2", 21)
    return tmp_path / "net"


@pytest.fixture(params=RUNS)
def prepared(tmp_path, monkeypatch, request):
    """A run and its data set's test images in the native layout: the data set's name, the run's, the images' ids and paths."""
    dataset = request.param
    monkeypatch.chdir(tmp_path)
    run, classes = RUNS[dataset]
    study = changed.dataset(changed.at("tiny"), dataset, source=schema.Source(folder="/somewhere"))
    monkeypatch.setattr(studies, "load", lambda: study)
    untrained.save(study.artifacts("runs", run), study, run, classes)
    root = tmp_path / "native"
    if dataset == "voc":
        ids = ["2008_000006", "2008_000011", "2011_003270"]
        (root / "VOCdevkit/VOC2012/ImageSets/Segmentation").mkdir(parents=True)
        (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/test.txt").write_text("\n".join(ids) + "\n")
        paths = [root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg" for name in ids]
    else:
        ids = ["berlin_000000_000019", "berlin_000001_000019", "munich_000397_000019"]
        paths = [root / f"leftImg8bit/test/{name.split('_')[0]}/{name}_leftImg8bit.png" for name in ids]
    for seed, (path, size) in enumerate(zip(paths, SIZES[dataset])):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
    monkeypatch.setitem({"voc": voc, "cityscapes": cityscapes}[dataset].COUNTS, "test", 3)
    data = study.artifacts("data", dataset)
    data.mkdir(parents=True)
    (data / "source.json").write_text(json.dumps({"status": "done", "root": str(root)}))
    return dataset, run, ids, paths
