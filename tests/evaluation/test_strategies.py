"""Nested inference against a plain, slow reference, and against the authors' own label maps."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.evaluation.strategies import canvas, predict
from pipeline.study import Strategy, StudyError

MS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
STRATEGIES = {
    "os16": Strategy(output_stride=16, scales=(1.0,), flip=False),
    "os16-ms": Strategy(output_stride=16, scales=MS, flip=False),
    "os16-ms-flip": Strategy(output_stride=16, scales=MS, flip=True),
    "os16-flip": Strategy(output_stride=16, scales=(1.0,), flip=True),
    "os8": Strategy(output_stride=8, scales=(1.0,), flip=False),
}


class Counting(nn.Module):
    """A small network of stride 4 that counts its forward passes."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.layers, self.passes = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 7, 3, 2, 1)), 0

    def forward(self, x):
        self.passes += 1
        return self.layers(x)


def plainly(model, picture, strategy, height, width):
    """One strategy alone: every pass on its own, in double precision, resized by coordinates written out here."""
    def resize(x, size):
        return F.interpolate(x, size, mode="bilinear", align_corners=True)
    maps = []
    for flip in ([False, True] if strategy.flip else [False]):
        for scale in strategy.scales:
            x = resize(picture, (int((height - 1) * scale) + 1, int((width - 1) * scale) + 1))
            logits = model(torch.flip(x, [3]) if flip else x)
            logits = resize(logits, (height, width))
            maps.append(torch.softmax(torch.flip(logits, [3]) if flip else logits, 1))
    return torch.stack(maps).mean(0).argmax(1)


def test_every_strategy_equals_itself_done_alone_and_passes_are_shared():
    models = {16: Counting(0).eval(), 8: Counting(1).eval()}
    pictures = [np.random.default_rng(number).integers(0, 256, (30 + number, 33, 3), dtype=np.uint8) for number in range(2)]
    padded = canvas(pictures, (33, 41), torch.device("cpu"))
    with torch.inference_mode():
        labels = predict(models, padded, STRATEGIES)
        assert models[16].passes == 12 and models[8].passes == 1
        for name, strategy in STRATEGIES.items():
            model = models[strategy.output_stride].double()
            expected = plainly(model, padded.double(), strategy, 33, 41)
            model.float()
            assert (labels[name] == expected).float().mean() > 0.999, name


def test_the_canvas_pads_with_the_mean_pixel_and_refuses_what_does_not_fit():
    padded = canvas([np.full((2, 3, 3), 255, np.uint8)], (4, 4), torch.device("cpu"))
    assert torch.equal(padded[0, 0], torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    with pytest.raises(StudyError, match="5x3 does not fit.*4x4"):
        canvas([np.zeros((5, 3, 3), np.uint8)], (4, 4), torch.device("cpu"))


PAIRS = sorted(Path(os.environ.get("PARITY_DIR", Path(__file__).parents[3] / "shared/parity")).glob("*.labels.npz"))


@pytest.mark.skipif(not PAIRS, reason="no label maps of the authors' code: name their folder in PARITY_DIR")
@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.name.split(".")[0])
def test_labels_are_those_of_the_authors_code(path):
    from tests.parity import load_model, seeded
    configuration = json.loads(path.with_name(path.name.replace(".labels.npz", ".json")).read_text())
    model = load_model(configuration, path.parent).eval()
    image = seeded(path.parent).image(configuration["crop"])
    strategies = {name: STRATEGIES[key].model_copy(update={"output_stride": configuration["os"]})
                  for name, key in {"plain": "os16", "ms": "os16-ms", "ms_flip": "os16-ms-flip"}.items()}
    with torch.inference_mode():
        ours = predict({configuration["os"]: model}, torch.tensor(image).permute(0, 3, 1, 2) / 127.5 - 1, strategies)
    with np.load(path) as theirs:
        for name in theirs.files:
            assert (ours[name].numpy() == theirs[name]).mean() >= 0.999, name
