"""Two processes on Gloo against one: the same losses, the same weights. And the layers that make it so, one by one."""
import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from pipeline.study import ROOT
from pipeline.training import distributed, synchronised
from tests.processes import free_port


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    subprocess.run([sys.executable, "-m", "tests.training.together", folder, str(free_port())], cwd=ROOT, check=True, timeout=300,
                   env={**os.environ, "OMP_NUM_THREADS": "1"})
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_a_cluster_that_counts_processes_starts_none(monkeypatch):
    """As some set WORLD_SIZE in every container, whatever runs there."""
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with distributed.joined():
        assert distributed.world() == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_in_double_precision_two_processes_are_one(results, rank):
    """With the batch computed in two parts, dropout, a strided share, void, and an epoch that ends inside a batch."""
    alone, together = results["double-1-0"], results[f"double-2-{rank}"]
    assert len(alone["losses"]) == 20
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-9)
    assert together["sums"] == pytest.approx(alone["sums"], rel=1e-7, abs=1e-9)


def test_in_single_precision_the_losses_agree_as_far_as_rounding_lets_them(results):
    """A network in training amplifies a last bit many times a step; double precision above tells rounding from mistakes."""
    alone, together = results["single-1-0"], results["single-2-0"]
    assert together["losses"][:3] == pytest.approx(alone["losses"][:3], abs=1e-5)
    assert together["losses"] == pytest.approx(alone["losses"], abs=5e-3)
    assert results["single-2-1"]["losses"] == together["losses"]


def test_in_bfloat16_two_processes_learn_what_one_does(results):
    alone, together = results["bfloat16-1-0"]["losses"], results["bfloat16-2-0"]["losses"]
    assert together[0] == pytest.approx(alone[0], abs=1e-3)
    assert together == pytest.approx(alone, abs=0.01)
    assert alone != results["single-1-0"]["losses"]


@pytest.mark.parametrize("name", ["moved-1-0", "moved-2-0", "moved-2-1"])
def test_any_number_of_processes_goes_on_from_any_others_checkpoint(results, name):
    """Stopped in step 11: one process saved it, with three steps of a log line; of two the checkpoint is that of step 8."""
    undisturbed, moved = results["unmoved-1-0"], results[name]
    assert len(undisturbed["losses"]) == 5
    assert moved["losses"] == pytest.approx(undisturbed["losses"], rel=1e-9)
    assert moved["sums"] == pytest.approx(undisturbed["sums"], rel=1e-7, abs=1e-9)


def test_alone_nothing_is_replaced():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.1))
    assert synchronised.parallel(model) is model and type(model[1]) is nn.BatchNorm2d and type(model[2]) is nn.Dropout
    assert (distributed.rank(), distributed.world()) == (0, 1)


@pytest.mark.parametrize("momentum, training", [(0.3, True), (0.03, False)])
def test_synchronised_batch_norm_of_one_process_is_batch_norm(momentum, training):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5, eps=1e-3, momentum=momentum).double()
    nn.init.uniform_(plain.weight), nn.init.uniform_(plain.bias), nn.init.uniform_(plain.running_var)
    shared = synchronised.SyncBatchNorm(nn.BatchNorm2d(5, eps=1e-3, momentum=momentum).double())
    shared.load_state_dict(plain.state_dict())
    inputs = torch.randn(4, 5, 3, 2, dtype=torch.float64) * 3 + 7
    outcomes = []
    for norm in (plain.train(training), shared.train(training)):
        x = inputs.clone().requires_grad_()
        (norm(x) ** 3).sum().backward()
        outcomes.append([x.grad, norm.weight.grad, norm.bias.grad, *norm.state_dict().values()])
    assert all(torch.allclose(one, other, rtol=1e-9) for one, other in zip(*outcomes, strict=True))
    assert list(plain.state_dict()) == list(shared.state_dict())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_shared_dropout_of_one_process_is_dropout(layout):
    x = torch.randn(4, 6, 3, 5).contiguous(memory_format=layout)
    torch.manual_seed(1)
    expected = nn.Dropout(0.3)(x)
    torch.manual_seed(1)
    assert torch.equal(synchronised.SharedDropout(0.3)(x), expected)
    assert torch.equal(synchronised.SharedDropout(0.3).eval()(x), x)
