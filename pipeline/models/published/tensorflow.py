"""The authors' variable names (released TensorFlow code) for our parameters, and loading by them.

The same names are in the checkpoints that the authors publish and in the parity tensors. Convolutions are (height, width, in,
out) there, depthwise ones (height, width, channels, 1); ours are (out, in, height, width).
"""
import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from pipeline.models.deeplab import Classifier, DeepLab
from pipeline.models.dpc import DPC
from pipeline.models.layers import SeparableConvBN
from pipeline.models.mobilenet import MobileNet
from pipeline.models.resnet import ResNet
from pipeline.models.xception import Xception
from pipeline.study import StudyError

SCOPE = re.compile(r"(resnet_v1_\d+|xception_\d+|MobilenetV2)/")
# Not weights of the network: counters, optimiser slots, averages.
BOOKKEEPING = re.compile(r"(^|/)(global_step|Momentum|Adam(_1)?|RMSProp(_1)?|ExponentialMovingAverage|beta[12]_power)$")
# The ImageNet classifier, and the 1x1 convolution of MobileNet that only the classifier uses.
CLASSIFIER = re.compile(r"^([^/]+/logits/|MobilenetV2/(Logits|Conv_1)/)")
BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
# The authors' MobileNet has batch norm epsilon 1e-3 and timm's 1e-5; the difference goes into the variance, which is exact.
MOBILENET_EPSILON = 1e-3

KINDS = {"r": ResNet, "x": Xception, "M": MobileNet}  # by a scope's first letter

Scopes = Iterator[tuple[str, str, str]]   # our convolution, our batch norm, the authors' scope of both


def names(network: nn.Module, scope: str) -> dict[str, str]:
    """Our state-dict key -> the authors' variable. `network`: a DeepLab, a Classifier or a backbone; `scope`: their backbone's.

    Raises StudyError for a decoder that the released code does not have.
    """
    modules = dict(network.named_modules())
    backbone = network.backbone if isinstance(network, (DeepLab, Classifier)) else network
    prefix = "" if backbone is network else "backbone."
    result = {}
    scopes = [(prefix + conv, prefix + norm, theirs) for conv, norm, theirs in _backbone(backbone, scope)]
    if isinstance(network, DeepLab):
        scopes += [*_aspp(network), *_decoder(network)]
        result |= {"logits.weight": "logits/semantic/weights", "logits.bias": "logits/semantic/biases"}
    if isinstance(network, Classifier):
        result |= {"fc.weight": f"{scope}/logits/weights", "fc.bias": f"{scope}/logits/biases"}
    for conv, norm, theirs in scopes:
        result[f"{conv}.weight"] = f"{theirs}/{'depthwise_weights' if modules[conv].groups > 1 else 'weights'}"
        result |= {f"{norm}.{ours}": f"{theirs}/BatchNorm/{name}" for ours, name in BATCH_NORM.items()}
    return result


def load(network: nn.Module, variables: dict[str, np.ndarray]) -> None:
    """Copy the authors' `variables` into `network` (a DeepLab, a Classifier or a backbone), every parameter and statistic of it.

    Bookkeeping is passed over, as is what lies outside a backbone or classifier that is loaded alone. Raises one StudyError that
    lists every variable that is missing, left over, or of another shape; `network` is then as it was.
    """
    variables = {name: value for name, value in variables.items() if not BOOKKEEPING.search(name)}
    scope = scope_of(variables)
    backbone = network.backbone if isinstance(network, (DeepLab, Classifier)) else network
    if not isinstance(backbone, KINDS[scope[0]]):
        raise StudyError(f"these are variables of {scope}, but this network's backbone is a {type(backbone).__name__}")
    if not isinstance(network, DeepLab):
        variables = {name: value for name, value in variables.items() if name.startswith(f"{scope}/")}
    if isinstance(network, Classifier):  # the authors' have a class 0, background, before ImageNet's
        variables |= {name: value[..., 1:] for name, value in variables.items()
                      if "/logits/" in name and value.shape[-1] == network.fc.out_features + 1}
    wanted = names(network, scope)
    state = network.state_dict()
    missing = [name for name in wanted.values() if name not in variables]
    optional = () if isinstance(network, Classifier) else filter(CLASSIFIER.match, variables)
    left = sorted(set(variables) - set(wanted.values()) - set(optional))
    problems = [f"missing: {name}" for name in missing] + [f"left over: {name}" for name in left]
    new = {}
    for ours, name in wanted.items():
        if name not in variables:
            continue
        value = _ours(name, np.asarray(variables[name], np.float32), state[ours].ndim)
        if value.shape != tuple(state[ours].shape):
            problems.append(f"shape of {name}: {list(variables[name].shape)}, which is {list(value.shape)} here, "
                            f"but {ours} has {list(state[ours].shape)}")
        if isinstance(backbone, MobileNet) and name.startswith(scope) and name.endswith("moving_variance"):
            value = value + (MOBILENET_EPSILON - network.get_submodule(ours.rpartition(".")[0]).eps)
        new[ours] = torch.from_numpy(np.ascontiguousarray(value))
    if problems:
        raise StudyError(f"the TensorFlow variables of {scope} do not fit this network:\n  " + "\n  ".join(problems))
    network.load_state_dict(new, strict=False)  # strict but for num_batches_tracked, which TensorFlow does not have


def scope_of(variables) -> str:
    """The backbone's scope among variable names, such as resnet_v1_101. StudyError where there is none, or more than one."""
    scopes = sorted({match[1] for match in map(SCOPE.match, variables) if match})
    if len(scopes) != 1:
        found = ", ".join(scopes) or "none"
        raise StudyError(f"expected the variables of one backbone, resnet_v1_N, xception_N or MobilenetV2; found {found}")
    return scopes[0]


def _ours(name: str, value: np.ndarray, dimensions: int) -> np.ndarray:
    if value.ndim != 4:
        return value
    value = value.transpose(2, 3, 0, 1) if name.endswith("depthwise_weights") else value.transpose(3, 2, 0, 1)
    return value[:, :, 0, 0] if dimensions == 2 else value  # a classifier's 1x1 convolution is our linear layer


def _both(ours: str, theirs: str) -> tuple[str, str, str]:
    return f"{ours}.conv", f"{ours}.bn", theirs


def _backbone(backbone: nn.Module, scope: str) -> Scopes:
    if isinstance(backbone, ResNet):
        return _resnet(backbone, scope)
    return _xception(backbone, scope) if isinstance(backbone, Xception) else _mobilenet(backbone, scope)


def _resnet(backbone: ResNet, scope: str) -> Scopes:
    for i in range(3):
        yield _both(f"conv1.{i}", f"{scope}/conv1_{i + 1}")
    for block in ("block1", "block2", "block3", "block4"):
        for i, unit in enumerate(getattr(backbone, block)):
            for part, _ in unit.named_children():
                yield _both(f"{block}.{i}.{part}", f"{scope}/{block}/unit_{i + 1}/bottleneck_v1/{part}")


def _xception(backbone: Xception, scope: str) -> Scopes:
    for i in range(2):
        yield _both(f"stem.{i}", f"{scope}/entry_flow/conv1_{i + 1}")
    entry = sum(module.shortcut is not None for module in backbone.blocks) - 1
    middle = len(backbone.blocks) - entry - 2
    flows = [f"entry_flow/block{i + 1}/unit_1" for i in range(entry)]
    flows += [f"middle_flow/block1/unit_{i + 1}" for i in range(middle)] + [f"exit_flow/block{i + 1}/unit_1" for i in range(2)]
    for i, (module, flow) in enumerate(zip(backbone.blocks, flows)):
        theirs = f"{scope}/{flow}/xception_module"
        if module.shortcut is not None:
            yield _both(f"blocks.{i}.shortcut", f"{theirs}/shortcut")
        for k in (1, 2, 3):
            conv = f"blocks.{i}.stack.conv{k}"
            yield f"{conv}.conv_dw", f"{conv}.bn_dw", f"{theirs}/separable_conv{k}_depthwise"
            yield f"{conv}.conv_pw", f"{conv}.bn_pw", f"{theirs}/separable_conv{k}_pointwise"


def _mobilenet(backbone: nn.Module, scope: str) -> Scopes:
    yield "conv_stem", "bn1", f"{scope}/Conv"
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(backbone.blocks) for j in range(len(stage))]
    for i, block in enumerate(blocks):
        theirs = f"{scope}/expanded_conv" + (f"_{i}" if i else "")
        layers = (("conv_pw", "bn1", "expand"), ("conv_dw", "bn2", "depthwise"), ("conv_pwl", "bn3", "project"))
        for conv, norm, name in layers if i else (("conv_dw", "bn1", "depthwise"), ("conv_pw", "bn2", "project")):
            yield f"{block}.{conv}", f"{block}.{norm}", f"{theirs}/{name}"


def _head(path: str, module: nn.Module, plain: str, separable: str) -> Scopes:
    if isinstance(module, SeparableConvBN):
        yield _both(f"{path}.depthwise", f"{separable}_depthwise")
        yield _both(f"{path}.pointwise", f"{separable}_pointwise")
    else:
        yield _both(path, plain)


def _aspp(network: DeepLab) -> Scopes:
    if isinstance(network.aspp, DPC):
        for i, branch in enumerate(network.aspp.branches):
            yield from _head(f"aspp.branches.{i}", branch, "", f"meta_architecture/branch{i}")
        yield _both("aspp.project", "meta_architecture/concat_projection")
        return
    if network.aspp.image is not None:
        yield _both("aspp.image", "image_pooling")
    yield _both("aspp.point", "aspp0")
    for i, branch in enumerate(network.aspp.atrous):
        yield from _head(f"aspp.atrous.{i}", branch, f"aspp{i + 1}", f"aspp{i + 1}")
    yield _both("aspp.project", "concat_projection")


def _decoder(network: DeepLab) -> Scopes:
    if network.decoder is None:
        return
    if list(network.decoder.refine) != ["conv2"]:
        raise StudyError("the authors' code has no decoder that merges conv3: there are no TensorFlow variables for it")
    yield _both("decoder.project.conv2", "decoder/feature_projection0")
    for i, layer in enumerate(network.decoder.refine["conv2"]):
        plain, separable = f"decoder/decoder_conv0/decoder_conv0_{i + 1}", f"decoder/decoder_conv{i}"
        yield from _head(f"decoder.refine.conv2.{i}", layer, plain, separable)
