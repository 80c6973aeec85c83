"""Our networks against the authors' TensorFlow code: the logits it gave for seeded weights, NAME.json + NAME.npz.

PARITY_DIR names the folder of pairs (default: ../shared/parity beside the repository); every pair in it is checked.
"""
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.models import deeplab, layers
from pipeline.models.published import tensorflow
from pipeline.schema import Network, Run
from tests.models.variants import VARIANTS

SHARED = Path(__file__).parents[2] / "shared" / "parity"
FOLDER = Path(os.environ.get("PARITY_DIR") or SHARED)
PAIRS = sorted(path for path in FOLDER.glob("*.json") if path.with_suffix(".npz").exists())


def seeded(folder: Path = FOLDER):
    """The module seeded_weights: `weight(name, shape)` and `image(size)`. From `folder`, or from the default one.

    Who asks for it has pairs to check: without it none of them can be, which is a failure.
    """
    path = next((place / "seeded_weights.py" for place in (folder, SHARED) if (place / "seeded_weights.py").exists()), None)
    assert path, f"no seeded_weights.py in {folder} or {SHARED}: the pairs cannot be checked"
    spec = importlib.util.spec_from_file_location("seeded_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network_of(config: dict) -> deeplab.DeepLab:
    """The network that a pair's NAME.json describes: its options, and for those left out there, the variables it has."""
    family, size = VARIANTS[config["variant"]]
    variables, stride = config["variables"], config["os"]
    run = Run(dataset="voc", backbone="it", start="weights/it", output_stride=stride, low_level=("conv2",), low_level_channels=48,
              decoder="[3x3,256]x2" if config.get("dec", "decoder/feature_projection0/weights" in variables) else "none",
              separable=config.get("sc", "aspp1_pointwise/weights" in variables),
              image_level=config.get("ilf", "image_pooling/weights" in variables))
    rates = config.get("rates") or [6 * 16 // stride, 12 * 16 // stride, 18 * 16 // stride]
    # A pair's rates are those at its output stride, a study's those at 16.
    scale = Network(width=1.0, atrous_rates=[rate * stride // 16 for rate in rates], backbones={"it": size})
    network = deeplab.build(run, family, scale, variables["logits/semantic/weights"][-1],
                            multi_grid=tuple(config.get("mg") or (1, 1, 1)))
    convolutions = [branch.depthwise.conv if run.separable else branch.conv for branch in network.aspp.atrous]
    assert [convolution.dilation[0] for convolution in convolutions] == list(rates)
    return network


def loaded(path: Path) -> tuple[dict, deeplab.DeepLab, np.ndarray]:
    """A pair's NAME.json, its network with the seeded weights, and its image (1, H, W, 3)."""
    config = json.loads(path.read_text())
    reference, network = seeded(), network_of(config).eval()
    tensorflow.load(network, {name: reference.weight(name, shape) for name, shape in config["variables"].items()})
    return config, network, reference.image(config["crop"])


def test_the_folder_has_pairs():
    if not FOLDER.exists() and "PARITY_DIR" not in os.environ:
        pytest.skip(f"{FOLDER} is not here: no parity with the authors' code was checked")
    assert PAIRS, f"no NAME.json with NAME.npz in {FOLDER}"


def test_pairs_without_seeded_weights_are_no_success(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_parity.SHARED", tmp_path)
    with pytest.raises((AssertionError, pytest.skip.Exception)) as raised:
        seeded(tmp_path)
    assert raised.type is AssertionError


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_logits_are_the_authors(path):
    config, network, image = loaded(path)
    image = torch.from_numpy(image)
    with torch.inference_mode():
        ours = network(layers.normalise(image)).permute(0, 2, 3, 1).numpy()
    with np.load(path.with_suffix(".npz")) as arrays:
        theirs = arrays["logits"]
    assert ours.shape == theirs.shape
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    print(f"{path.stem}: relative error {error:.2e}")
    assert error < 1e-4
