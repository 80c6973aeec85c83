"""The authors' variable names. Whole lists are made here by analogy with those in a parity folder, and must fit exactly."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.models import deeplab
from pipeline.models.published import tensorflow
from pipeline.schema import BackboneSize, Network
from pipeline.study import StudyError
from tests.models.bundle import theirs, variables_of
from tests.models.small_networks import BASE, network as small
from tests.models.variants import VARIANTS

PARITY = Path(__file__).parents[3] / "shared" / "parity"


def published(name):
    path = PARITY / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return {key: tuple(shape) for key, shape in json.loads(path.read_text())["variables"].items()}


def head(variables):
    return {key: shape for key, shape in variables.items() if not tensorflow.SCOPE.match(key)}


def backbone(variant):
    """Variables of a deeper backbone, from the shallower one's: units repeated, and Xception-71's entry flow written out."""
    if variant.startswith("resnet"):
        variables = {key: shape for key, shape in published("r50_os16_dec").items() if tensorflow.SCOPE.match(key)}
        if variant == "resnet_v1_101_beta":
            last = {key: shape for key, shape in variables.items() if "/block3/unit_6/" in key}
            variables |= {key.replace("unit_6", f"unit_{i}"): shape for key, shape in last.items() for i in range(7, 24)}
        return {key.replace("resnet_v1_50/", variant.removesuffix("_beta") + "/"): shape for key, shape in variables.items()}
    variables = {key: shape for key, shape in published("x41_os16_dec_sc").items() if tensorflow.SCOPE.match(key)}
    if variant != "xception_41":
        one = {key: shape for key, shape in variables.items() if "/middle_flow/block1/unit_8/" in key}
        variables |= {key.replace("unit_8", f"unit_{i}"): shape for key, shape in one.items() for i in range(9, 17)}
    if variant == "xception_71":  # blocks 3 and 5 have as many channels going in as coming out
        third = {key: shape for key, shape in variables.items() if "/entry_flow/block3/" in key}
        for block, before, after in ((3, 256, 256), (4, 256, 728), (5, 728, 728)):
            variables |= {key.replace("block3", f"block{block}"): tuple({256: before, 728: after}.get(n, n) for n in shape)
                          for key, shape in third.items()}
    return {key.replace("xception_41/", f"{variant}/"): shape for key, shape in variables.items()}


def expected(variant, separable, image_level, decoder, classes):
    variables = backbone(variant) | head(published("x41_os16_dec_sc" if separable else "r50_os16_dec"))
    if not image_level:
        variables = {key: shape for key, shape in variables.items() if not key.startswith("image_pooling/")}
        variables["concat_projection/weights"] = (1, 1, 1024, 256)
    if not decoder:
        variables = {key: shape for key, shape in variables.items() if not key.startswith("decoder/")}
    return {key: shape[:-1] + (classes,) if key.startswith("logits/") else shape for key, shape in variables.items()}


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "mobilenet_v2"])
@pytest.mark.parametrize("separable, image_level, decoder, classes", [
    (False, True, True, 21), (False, True, False, 21), (True, True, True, 19), (True, False, True, 19), (True, False, False, 21)])
def test_the_authors_variables_are_ours_exactly(variant, separable, image_level, decoder, classes):
    family, size = VARIANTS[variant]
    run = BASE.model_copy(update={"separable": separable, "image_level": image_level} | ({} if decoder else {"decoder": "none"}))
    with torch.device("meta"):
        network = deeplab.build(run, family, Network(width=1, atrous_rates=(6, 12, 18), backbones={"it": size}), classes)
    wanted = expected(variant, separable, image_level, decoder, classes)
    scope = tensorflow.scope_of(wanted)
    names, state = tensorflow.names(network, scope), network.state_dict()
    assert set(names) == {key for key in state if not key.endswith("num_batches_tracked")}
    assert {name: theirs(name, state[ours].shape) for ours, name in names.items()} == wanted


def test_the_dense_prediction_cell_has_the_authors_variables():
    # Written out after core/dense_prediction_cell.py and utils.split_separable_conv2d; the rest is as with separable ASPP.
    run = BASE.model_copy(update={"separable": True, "image_level": False, "dense_prediction_cell": True})
    family, size = VARIANTS["xception_71"]
    with torch.device("meta"):
        network = deeplab.build(run, family, Network(width=1, atrous_rates=(6, 12, 18), backbones={"it": size}), 19)
    wanted = {name: shape for name, shape in expected("xception_71", True, False, True, 19).items()
              if not name.startswith(("aspp", "concat_projection"))}
    layers = {"concat_projection/weights": (1, 1, 1280, 256), "concat_projection": 256}
    for i, inputs in enumerate((2048, 256, 256, 256, 256)):
        layers |= {f"branch{i}_depthwise/depthwise_weights": (3, 3, inputs, 1), f"branch{i}_depthwise": inputs,
                   f"branch{i}_pointwise/weights": (1, 1, inputs, 256), f"branch{i}_pointwise": 256}
    for name, shape in layers.items():
        parts = {f"{name}/BatchNorm/{part}": (shape,) for part in ("beta", "gamma", "moving_mean", "moving_variance")}
        wanted |= {f"meta_architecture/{key}": each for key, each in (parts if isinstance(shape, int) else {name: shape}).items()}
    state = network.state_dict()
    assert {name: theirs(name, state[ours].shape) for ours, name in tensorflow.names(network, "xception_71").items()} == wanted


def test_values_arrive_with_their_axes_in_order():
    network = small(separable=True)
    variables = variables_of(network, "resnet_v1_50", seed=0)
    tensorflow.load(network, variables | {"global_step": np.int64(7), "aspp0/weights/Momentum": variables["aspp0/weights"] * 0})
    kernel = variables["resnet_v1_50/block1/unit_1/bottleneck_v1/conv2/weights"]
    assert network.backbone.block1[0].conv2.conv.weight[3, 1, 0, 2] == kernel[0, 2, 1, 3]
    depthwise = variables["aspp2_depthwise/depthwise_weights"]
    assert network.aspp.atrous[1].depthwise.conv.weight[5, 0, 2, 1] == depthwise[2, 1, 5, 0]
    assert torch.equal(network.logits.bias, torch.from_numpy(variables["logits/semantic/biases"]))
    assert torch.equal(network.decoder.refine["conv2"][1].pointwise.bn.running_var,
                       torch.from_numpy(variables["decoder/decoder_conv1_pointwise/BatchNorm/moving_variance"]))


def test_everything_that_does_not_fit_is_listed():
    network = small()
    variables = variables_of(network, "resnet_v1_50", seed=0)
    del variables["aspp0/weights"], variables["resnet_v1_50/conv1_1/BatchNorm/gamma"]
    variables["extra/weights"] = np.zeros((1, 1, 2, 2), "f")
    variables["logits/semantic/biases"] = np.zeros(21, "f")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(StudyError) as caught:
        tensorflow.load(network, variables)
    for part in ("missing: aspp0/weights", "missing: resnet_v1_50/conv1_1/BatchNorm/gamma", "left over: extra/weights",
                 "shape of logits/semantic/biases: [21]", "logits.bias has [5]"):
        assert part in str(caught.value)
    assert len(re.findall("\n", str(caught.value))) == 4
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_backbone_and_a_classifier_come_out_of_an_imagenet_checkpoint():
    size = BackboneSize(middle=1, width=0.03125)
    classifier = deeplab.build_classifier("xception", size, 10)
    variables = variables_of(classifier, "xception_65", seed=0) | {"xception_65/logits/weights": np.ones((1, 1, 64, 10), "f")}
    tensorflow.load(classifier, variables)
    assert (classifier.fc.weight == 1).all()
    with_background = variables | {"xception_65/logits/weights": np.arange(64 * 11, dtype="f").reshape(1, 1, 64, 11),
                                   "xception_65/logits/biases": np.arange(11, dtype="f")}
    tensorflow.load(classifier, with_background)
    assert classifier.fc.bias.tolist() == list(range(1, 11)) and classifier.fc.weight[:, 2].tolist() == list(range(23, 33))
    alone = deeplab.build_backbone("xception", size, 16)
    tensorflow.load(alone, variables)
    assert all(torch.equal(value, classifier.backbone.state_dict()[name]) for name, value in alone.state_dict().items())
    tensorflow.load(alone, variables | {"aspp0/weights": np.zeros((1, 1, 2, 2), "f")})  # out of a whole DeepLab, too
    with pytest.raises(StudyError, match="left over: xception_65/more"):
        tensorflow.load(alone, variables | {"xception_65/more": np.zeros(1, "f")})


@torch.no_grad()
def test_mobilenets_other_epsilon_is_accounted_for():
    ours = deeplab.build_backbone("mobilenet", BackboneSize(), 16).eval()
    state = ours.state_dict()
    names = tensorflow.names(ours, "MobilenetV2")
    assert set(names) == {key for key in state if not key.endswith("num_batches_tracked")}
    assert {"MobilenetV2/Conv/weights", "MobilenetV2/expanded_conv/depthwise/depthwise_weights",
            "MobilenetV2/expanded_conv/project/BatchNorm/gamma", "MobilenetV2/expanded_conv_1/expand/weights",
            "MobilenetV2/expanded_conv_16/project/weights"} <= set(names.values())
    rng = np.random.default_rng(1)
    variables = {name: rng.uniform(0.1, 1, theirs(name, state[key].shape)).astype("f") for key, name in names.items()}
    tensorflow.load(ours, variables | {"MobilenetV2/Conv_1/weights": np.zeros((1, 1, 320, 1280), "f")})
    norm = ours.blocks[3][1].bn2
    gamma, beta, mean, variance = (torch.from_numpy(variables[f"MobilenetV2/expanded_conv_7/depthwise/BatchNorm/{part}"])
                                   for part in ("gamma", "beta", "moving_mean", "moving_variance"))
    x = torch.randn(1, 384, 2, 2)
    expected = ((x - mean[:, None, None]) * (gamma / (variance + 1e-3).sqrt())[:, None, None] + beta[:, None, None]).clamp(0, 6)
    torch.testing.assert_close(norm(x).clamp(0, 6), expected)


@pytest.mark.parametrize("variables, message", [({}, "none"), ({"xception_41/a": 0, "xception_65/a": 0}, "_41.*xception_65")])
def test_variables_of_no_or_two_backbones(variables, message):
    with pytest.raises(StudyError, match=message):
        tensorflow.load(small(), variables)


def test_a_decoder_the_authors_do_not_have():
    with pytest.raises(StudyError, match="conv3"):
        tensorflow.names(small(low_level=("conv2", "conv3"), decoder="[3x3,256]"), "resnet_v1_50")
