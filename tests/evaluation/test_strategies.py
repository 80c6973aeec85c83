"""Nested inference against a plain, slow reference, and against the authors' own label maps."""
import numpy as np
import pytest
import torch
from torch import nn

from pipeline.evaluation.strategies import canvas, predict, probabilities, stride
from pipeline.schema import Strategy
from pipeline.study import StudyError
from tests import test_parity as parity

MS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
STRATEGIES = {
    "os16": Strategy(output_stride=16, scales=(1.0,), flip=False),
    "os16-ms": Strategy(output_stride=16, scales=MS, flip=False),
    "os16-ms-flip": Strategy(output_stride=16, scales=MS, flip=True),
    "os16-flip": Strategy(output_stride=16, scales=(1.0,), flip=True),
    "os8": Strategy(output_stride=8, scales=(1.0,), flip=False),
}


class Counting(nn.Module):
    """A small network of stride 4, 8 or 16 that counts its forward passes."""

    def __init__(self, seed, stride=4):
        super().__init__()
        torch.manual_seed(seed)
        halves = [(nn.Conv2d(3 if side == 2 else 8, 7 if side == stride else 8, 5, 2, 2, bias=False), nn.ReLU())
                  for side in (2, 4, 8, 16) if side <= stride]  # without bias: it would choose the label everywhere
        self.layers, self.passes = nn.Sequential(*sum(halves, ())[:-1]), 0

    def forward(self, x):
        self.passes += 1
        return self.layers(x)


def stretched(x, size):
    """(C, h, w) -> (C, *size), float64, bilinear with the corners on the corners: a pixel weighs 1 less its distance, at least 0."""
    rows, columns = (np.maximum(0, 1 - abs(np.arange(new)[:, None] * (old - 1) / max(1, new - 1) - np.arange(old)))
                     for new, old in zip(size, x.shape[1:]))
    return rows @ x @ columns.T


def plainly(model, image, strategy, stride):
    """Summed probabilities of one strategy on one padded image (3, H, W), pass by pass, all but the network in float64 numpy."""
    height, width = image.shape[1:]
    total = np.zeros(())
    for scale in strategy.scales:
        for flip in [False, True][:1 + strategy.flip]:
            x = stretched(image, (int((height - 1) * scale) + 1, int((width - 1) * scale) + 1))
            x = x[:, :, ::-1] if flip else x
            logits = model(torch.tensor(x.copy())[None])[0].numpy()
            logits = logits[:, :, ::-1] if flip else logits
            if scale < 1:
                logits = stretched(logits, ((height + stride - 1) // stride, (width + stride - 1) // stride))
            logits = stretched(logits, (height, width))
            powers = np.exp(logits - logits.max(0))
            total = total + powers / powers.sum(0)
    return total


@pytest.mark.parametrize("stride, size", [(4, (17, 17)), (4, (16, 23)), (4, (21, 12)), (8, (33, 26)), (16, (65, 50))], ids=str)
def test_every_strategy_equals_itself_done_alone_and_passes_are_shared(stride, size):
    """stride: the logits'; without decoder it is the output stride."""
    models = {16: Counting(0, stride).eval(), 8: Counting(1, stride).eval()}
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (size[0] - number, size[1] - 2 * number, 3), dtype=np.uint8) for number in range(3)]
    padded = canvas(pictures, size, torch.device("cpu"))
    with torch.inference_mode():
        labels = predict(models, padded, STRATEGIES)
        assert models[16].passes == 12 and models[8].passes == 1 and list(labels) == list(STRATEGIES)
        for name, strategy in STRATEGIES.items():
            assert len(labels[name].unique()) > 1, name
            model = Counting(0 if strategy.output_stride == 16 else 1, stride).double()
            for image, found in zip(padded.double().numpy(), labels[name].numpy()):
                expected = plainly(model, image, strategy, stride)
                chosen = np.take_along_axis(expected, found[None].astype(int), 0)[0]
                assert (expected.max(0) - chosen).max() < 1e-5, name  # the same label, or one that ties with it in float32


def test_a_networks_stride_is_told_by_its_logits():
    for each in (1, 2, 4, 8, 16, 32):
        assert {stride(side, -(-side // each)) for side in range(33, 200)} == {each}


def test_strategies_that_do_not_nest_keep_sums_of_their_own():
    scales = {"a": (1.0, 0.5), "b": (0.5, 1.5), "c": (1.5,), "d": (1.0, 0.5, 1.5)}
    strategies = {name: Strategy(output_stride=16, scales=values, flip=name in "bd") for name, values in scales.items()}
    padded = torch.randn(2, 3, 18, 25, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together = predict({16: Counting(3)}, padded, strategies)
        for name, strategy in strategies.items():
            alone = predict({16: Counting(3)}, padded, {name: strategy})[name]
            assert (together[name] == alone).float().mean() > 0.999, name  # sums in another order round differently


def test_the_canvas_pads_with_the_mean_pixel_and_refuses_what_does_not_fit():
    padded = canvas([np.full((2, 3, 3), 255, np.uint8)], (4, 4), torch.device("cpu"))
    assert torch.equal(padded[0, 0], torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    for height, width in ((5, 3), (3, 5)):
        with pytest.raises(StudyError, match=f"{height}x{width} does not fit.*4x4"):
            canvas([np.zeros((height, width, 3), np.uint8)], (4, 4), torch.device("cpu"))


@torch.inference_mode()
def test_bfloat16_is_computed_where_asked_for_and_averaged_in_float32():
    seen, network = [], torch.nn.Conv2d(3, 5, 1)
    network.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    for bf16 in (False, True):
        assert probabilities(network, torch.zeros(1, 3, 9, 9), 1, False, bf16).dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


PAIRS = sorted(parity.FOLDER.glob("*.labels.npz"))


@pytest.mark.skipif(not PAIRS, reason="no label maps of the authors' code: name their folder in PARITY_DIR")
@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.name.split(".")[0])
def test_labels_are_those_of_the_authors_code(path):
    configuration, model, images = parity.loaded(path.with_name(path.name.replace(".labels.npz", ".json")))
    images = canvas(list(images), (configuration["crop"],) * 2, torch.device("cpu"))
    stride = configuration["os"]
    strategies = {name: STRATEGIES[key].model_copy(update={"output_stride": stride})
                  for name, key in {"plain": "os16", "ms": "os16-ms", "ms_flip": "os16-ms-flip"}.items()}
    with torch.inference_mode():
        ours = predict({stride: model}, images, strategies)
    with np.load(path) as theirs:
        assert {"plain", "ms", "ms_flip"} <= set(theirs.files)
        for name in strategies:
            agreement = (ours[name].numpy() == theirs[name]).mean()
            print(f"{path.name} {name}: {agreement:.2%}")
            assert agreement >= 0.999, name
