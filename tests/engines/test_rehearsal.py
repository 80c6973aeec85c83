"""The whole of scale paper with its own networks and every kind of data set, cut short: two steps of small crops, a few made
pictures. What goes wrong here would go wrong on a GPU server, after days."""
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.datasets import miniature
from pipeline.models import deeplab
from pipeline.schema import Generate
from tests import changed
from tests.engines.checkout import Checkout
from tests.models import bundle

pytestmark = pytest.mark.drills
DATA = {"voc": (97, [129, 129]), "coco": (97, [129, 129]), "cityscapes": (96, [129, 257])}  # side of the pictures, canvas
SCOPES = {"resnet101": "resnet_v1_101", "xception65": "xception_65", "xception71": "xception_71"}
CLASSES = 1000  # ImageNet's, and the background of the authors' classifiers


def imagenet(root):
    """A picture a class."""
    for number in range(CLASSES):
        folder = root / "val" / f"n{number:08d}"
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((40, 32)).save(folder / "a.JPEG")


def weights(root) -> dict[str, str]:
    """An archive as the authors' for each backbone, classifier included."""
    study = changed.at("paper")
    for name, scope in SCOPES.items():
        size = study.settings.network.backbones[name]
        classifier = deeplab.build_classifier(study.backbones[name].family, size, CLASSES + 1)
        bundle.archive(root / f"{name}.tar.gz", bundle.variables_of(classifier, scope, seed=1), scope)
    return {name: str(root / f"{name}.tar.gz") for name in SCOPES}


def cut_short(params, root) -> None:
    """Rewrite params.yaml."""
    raw = yaml.safe_load(params.read_text())
    raw["scale"], paper = "paper", raw["scales"]["paper"]
    for name, path in weights(root).items():
        paper["network"]["backbones"][name]["weights"] = path
    for name, (side, canvas) in DATA.items():
        miniature.generate(name, Generate(train=16, val=2, size=side, seed=5), root / name)
        paper[name]["evaluate"] |= {"canvas": canvas}
        for recipe in ("train", "fine_tune", "trainval"):
            if recipe in paper[name]:
                paper[name][recipe] = paper[name][recipe] | {"crop": 65, "steps": 2, "validate_every": 2}
    imagenet(root / "imagenet")
    paper["imagenet"]["evaluate"] |= {"canvas": [65, 65]}
    for name in (*DATA, "imagenet"):
        paper[name]["source"] = {"folder": str(root / name)}
    params.write_text(yaml.safe_dump(raw, sort_keys=False))


def test_every_row_of_the_paper_is_measured(tmp_path):
    checkout = Checkout(tmp_path / "study")
    cut_short(checkout.root / "params.yaml", tmp_path)
    checkout.make("study")
    for table in ("table1", "table2", "table3", "table4", "table5", "table7a", "figure5"):
        rows = pd.read_parquet(checkout.root / f"reports/tables/{table}.parquet")
        ours = rows["top1_error" if table == "table4" else "miou"]
        nobodys = rows["status"].str.contains("JFT")
        assert (rows["status"][~nobodys] == "measured").all() and ours[~nobodys].notna().all()
    page = (checkout.root / "reports/index.html").read_text()
    done, of = re.search(r"<dd>(\d+) / (\d+)</dd>", page).groups()
    assert done == of and "not measured yet" not in page
    assert 'class="watermark"' in page and "networks not trained and evaluated by the paper&#39;s protocol: " in page and "steps 2, not 30000" in page
    assert "up to date" in checkout.run("dvc", "repro")
