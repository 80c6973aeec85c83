"""The real part of VOC 2012 through the stages download and prepare: counts and class frequencies against Pillow and numpy."""
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import schema, study as studies
from pipeline.datasets.voc import CLASSES
from stages import download, prepare
from tests import changed

REAL = Path(__file__).parents[3] / "shared/data/VOCdevkit"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real part of VOC at {REAL}")
def test_the_data_sheet_of_a_real_folder(tmp_path, monkeypatch):
    """Every fourth image of it."""
    base, lists = tmp_path / "VOCdevkit/VOC2012", "ImageSets/Segmentation"
    (base / lists).mkdir(parents=True)
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug"):
        (base / folder).symlink_to(REAL / "VOC2012" / folder)
    listed = {name: (REAL / f"VOC2012/{lists}/{name}.txt").read_text().split()[::4] for name in ("train", "val", "trainaug")}
    for name, ids in listed.items():
        (base / f"{lists}/{name}.txt").write_text("\n".join(ids))
    study = changed.dataset(changed.at("own-data"), "voc", source=schema.Source(folder=str(tmp_path / "VOCdevkit")))
    monkeypatch.setattr(studies, "load", lambda: study)
    monkeypatch.chdir(tmp_path)
    download.main("voc")
    prepare.main("voc")
    sheet = json.loads((study.artifacts("shards", "voc") / "sheet.json").read_text())
    listed = {name: set(ids) for name, ids in listed.items()}
    splits = {"train_aug": (listed["train"] | listed["trainaug"]) - listed["val"], "val": listed["val"]}
    counts = {name: len(ids) for name, ids in splits.items()}
    assert {name: row["images"] for name, row in sheet["splits"].items()} == counts and min(counts.values()) > 100
    assert sheet["incomplete"] == [f"train_aug has {counts['train_aug']} images, not 10582", f"val has {counts['val']} images, not 1449"]
    for name, row in sheet["splits"].items():
        pixels, images_with, sizes = np.zeros(256, int), np.zeros(256, int), []
        for each in splits[name]:
            folder = "SegmentationClass" if each in listed["train"] | listed["val"] else "SegmentationClassAug"
            with Image.open(base / folder / f"{each}.png") as image:
                counts = np.bincount(np.asarray(image).ravel(), minlength=256)
                sizes.append(image.size)
            pixels, images_with = pixels + counts, images_with + (counts > 0)
        assert [row["pixels"][each] for each in CLASSES] == pixels[:21].tolist() and not pixels[21:255].any()
        assert [row["images_with"][each] for each in CLASSES] == images_with[:21].tolist()
        assert [row["frequency"][each] for each in CLASSES] == pytest.approx(pixels[:21] / pixels[:21].sum())
        assert row["void"] == pytest.approx(pixels[255] / pixels.sum()) and row["mean_classes"] == images_with[1:21].sum() / len(sizes)
        assert [row["width"], row["height"]] == [[min(each), max(each)] for each in zip(*sizes)]
