"""Weights into networks: from safetensors, and from whole checkpoints that TensorFlow itself writes.

`pytest -m tensorflow` lets TensorFlow write them: with the interpreter that TENSORFLOW_PYTHON names, or in an environment made
for the test (about a minute and 2 GB).
"""
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.models import deeplab, weights
from pipeline.models.published import checkpoints, tensorflow
from pipeline.schema import BackboneSize
from pipeline.study import StudyError
from tests.models.bundle import variables_of
from tests.models.server import Server
from tests.models.small_networks import network
from tests.models.tensorflow_bytes import same


def small():
    return network("xception", separable=True)


def test_published_leaves_what_training_starts_from(tmp_path):
    size = BackboneSize(middle=1, width=0.03125, weights=str(tmp_path / "timm.safetensors"))
    source = deeplab.build_backbone("xception", size, 32)
    kept = {name: torch.rand_like(value) for name, value in source.state_dict().items() if "num_batches" not in name}
    save_file(kept | {"head.fc.weight": torch.zeros(3, 4)}, size.weights)
    metrics = checkpoints.save_backbone(size, "xception", tmp_path / "out")
    assert metrics == {"parameters": sum(value.numel() for value in source.parameters())}
    from safetensors.torch import load_file
    source.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    assert all(torch.equal(source.state_dict()[name], value) for name, value in kept.items())


def test_a_disk_too_full_for_weights_is_named(tmp_path, no_room):
    no_room(tmp_path / "w.safetensors")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/w.safetensors'"):
        weights.save(small(), tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_kept(tmp_path, value):
    """Published ones; or a training's whose last step went astray, after which no loss is computed."""
    network = small()
    with torch.no_grad():
        network.logits.bias[0] = value
    with pytest.raises(StudyError, match="w.safetensors would hold weights that are NaN or infinite, such as logits.bias: "):
        weights.save(network, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_of_pytorch_behind_an_address_is_no_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({}, tmp_path / "w.pth")
    with Server(tmp_path) as server, pytest.raises(StudyError, match="w.pth is a file of PyTorch"):
        checkpoints.read(f"{server.url}/w.pth")


@pytest.mark.parametrize("address", ["~/w.safetensors", "file://{home}/w.safetensors", "{url}/w.safetensors"])
def test_safetensors_are_found_by_any_address(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    there, here = small().backbone, small().backbone
    save_file(there.state_dict(), "w.safetensors")
    with Server(tmp_path) as server:
        assert checkpoints.load_backbone_weights(address.format(home=tmp_path, url=server.url), here) == {}
    assert all(torch.equal(value, here.state_dict()[name]) for name, value in there.state_dict().items())


def test_safetensors_that_do_not_fit_are_listed(tmp_path):
    backbone = small().backbone
    state = dict(backbone.state_dict())
    first, *_ = state
    del state[first]
    save_file(state | {"stem.1.bn.weight": torch.zeros(99), "odd": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(StudyError, match=f"(?s)missing: {first}.*left over: odd.*stem.1.bn.weight: .99. there"):
        checkpoints.load_backbone_weights(tmp_path / "w.safetensors", backbone)
    state = backbone.state_dict()
    save_file(state | {first: state[first].to(torch.int8)}, tmp_path / "w.safetensors")
    with pytest.raises(StudyError, match=f"do not fit this backbone:\n  {first} is torch.int8, no fractions$"):
        checkpoints.load_backbone_weights(tmp_path / "w.safetensors", backbone)
    (tmp_path / "w.safetensors").write_bytes(b"no such thing")
    with pytest.raises(StudyError, match="cannot be read"):
        checkpoints.load_backbone_weights(tmp_path / "w.safetensors", backbone)


def test_the_wrong_family_is_named(tiny):
    resnet = deeplab.build_backbone("resnet", BackboneSize(units=(2, 2, 1, 1), width=0.0625), 32)
    with pytest.raises(StudyError, match="xception_65.*ResNet"):
        checkpoints.load_backbone_weights(tiny / "one", resnet)


WRITER = """
import sys
import numpy as np, tensorflow as tf
v1 = tf.compat.v1
v1.disable_eager_execution()
arrays, version, out = np.load(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with v1.Session() as session:
    for name in arrays.files:
        variable = v1.get_variable(name.replace("|", "/"), initializer=arrays[name], use_resource=False)
        if arrays[name].ndim == 4:
            v1.get_variable(name.replace("|", "/") + "/Momentum", initializer=np.zeros_like(arrays[name]), use_resource=False)
    v1.train.get_or_create_global_step()
    session.run(v1.global_variables_initializer())
    v1.train.Saver(write_version=version).save(session, out, global_step=30000)
"""


@pytest.fixture(scope="session")
def tensorflow_python(request, tmp_path_factory):
    if os.environ.get("TENSORFLOW_PYTHON"):
        return os.environ["TENSORFLOW_PYTHON"]
    if "tensorflow" not in request.config.getoption("-m"):
        pytest.skip("TensorFlow did not write checkpoints to read: run pytest -m tensorflow, or set TENSORFLOW_PYTHON")
    folder = tmp_path_factory.mktemp("tensorflow")
    python = folder / "bin" / "python"
    commands = [sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet", "tensorflow-cpu"]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if done.returncode:
            pytest.skip(f"TensorFlow cannot be installed here: {done.stderr[-300:]}")
    return str(python)


@pytest.mark.tensorflow
@pytest.mark.parametrize("version", [1, 2])
def test_checkpoints_that_tensorflow_writes(tensorflow_python, tmp_path, version):
    model = small()
    variables = variables_of(model, "xception_65", seed=0)
    np.savez(tmp_path / "values.npz", **{name.replace("/", "|"): value for name, value in variables.items()})
    command = [tensorflow_python, "-c", WRITER, tmp_path / "values.npz", str(version), tmp_path / "model" / "model.ckpt"]
    (tmp_path / "model").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    same(checkpoints.read(tmp_path / "model"), variables)
    tensorflow.load(model, checkpoints.read(tmp_path / "model" / "model.ckpt-30000"))
    expected = small()
    tensorflow.load(expected, variables)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in expected.state_dict().items())
