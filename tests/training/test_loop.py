"""Rates, loss and validations; exact resume; a loss that is no number."""
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.datasets import shards
from pipeline.study import StudyError
from pipeline.training import checkpoint, loop
from pipeline.training.augmentation import Crops
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import fit, gradients
from pipeline.training.schedule import optimiser
from tests.training import small
from tests.training.small import TRAINING, Killed, Memory, cross_entropy, run, same
from tests.training.terminals import terminal


def test_every_step_takes_polys_rate_times_the_groups_multiplier(tmp_path, monkeypatch):
    taken, step = [], torch.optim.SGD.step

    def stepping(self, *given):
        taken.append({group["multiplier"]: group["lr"] for group in self.param_groups})
        return step(self, *given)
    monkeypatch.setattr(torch.optim.SGD, "step", stepping)
    history = run(tmp_path)[2]
    rates = [0.1 * (1 - done / 12) ** 0.9 for done in range(12)]
    assert [each[1.0] for each in taken] == pytest.approx(rates)
    assert [each[2.0] for each in taken] == pytest.approx([2 * rate for rate in rates])
    shown = {step: value for step, name, value in history if name == "learning_rate"}
    assert shown == pytest.approx({4: rates[3], 8: rates[7], 12: rates[11]}), "a point of the curve is at the step that it ends with"


def test_the_loss_is_the_mean_over_all_but_void():
    torch.manual_seed(0)
    network, inputs, labels = nn.Conv2d(3, 5, 1), 255 * torch.rand(4, 3, 6, 7), torch.randint(5, (4, 6, 7))
    labels[:3, :5] = 255
    expected = F.cross_entropy(network(inputs / 127.5 - 1), labels, ignore_index=255)
    wanted = torch.autograd.grad(expected, list(network.parameters()))
    found = gradients(network, network, inputs, labels, cross_entropy, 255, 2)
    assert found.item() == pytest.approx(expected.item())
    for parameter, gradient in zip(network.parameters(), wanted):
        torch.testing.assert_close(parameter.grad, gradient)


def test_validations_see_the_network_in_evaluation_and_the_last_comes_at_the_end(tmp_path):
    model, losses, modes = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)), [], []
    pairs = [(torch.randint(256, (12, 12, 3)).byte(), torch.randint(5, (12, 12)).byte()) for _ in range(5)]

    def loss_of(network, pixels, labels):
        assert model.training and model[1].training, "training goes on after a validation"
        loss = cross_entropy(network, pixels, labels)
        losses.append(loss.item() / int((labels != 255).sum()))
        return loss

    def validate():
        modes.append((model.training, len(losses)))
        return {"miou": float(len(losses))}
    history, metrics = fit(model, optimiser(model, 1e-4, 0.1), Crops(Memory(pairs), 9, 2, seed=0), loss_of, validate,
                           TRAINING.model_copy(update={"steps": 10}), Checkpoint(tmp_path / "run.pt", "inputs"), "run", 255)
    assert modes == [(False, 4), (False, 8), (False, 10)] and metrics == {"miou": 10}
    means = [sum(part) / len(part) for part in (losses[:4], losses[4:8], losses[8:])]
    assert [row[2] for row in history.rows if row[1] == "loss"] == pytest.approx(means), "a point of the curve is the mean of its steps"


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_checkpoint_of_a_cpu_goes_on_in_the_fused_optimiser_of_a_gpu(tmp_path, monkeypatch, kind):
    training, learners = TRAINING.model_copy(update={"optimiser": kind}), []
    with pytest.raises(Killed):
        run(tmp_path, 7, training=training)

    def fused(*given, **how):
        learners.append(optimiser(*given, **how))
        for group in learners[0].param_groups:
            group["fused"] = True
        return learners[0]
    monkeypatch.setattr(small, "optimiser", fused)
    run(tmp_path, training=training)
    assert all(group["fused"] is True for group in learners[0].param_groups)


@pytest.mark.parametrize("kill_at", [1, 4, 5, 8, 9, 11, 12])
@pytest.mark.parametrize("how", [{}, {"optimiser": "adamw", "cpu_bfloat16": True}], ids=["sgd", "adamw in bfloat16"])
def test_killed_at_any_step_it_ends_bit_identical(tmp_path, how, kill_at):
    training = TRAINING.model_copy(update=how)
    undisturbed = run(tmp_path / "a", training=training)
    with pytest.raises(Killed):
        run(tmp_path / "b", kill_at, training=training)
    same(run(tmp_path / "b", training=training), undisturbed)


def test_a_training_that_has_ended_is_not_trained_again(tmp_path):
    """The stage may fail between its end and the record's."""
    once = run(tmp_path)
    same(run(tmp_path, kill_at=1), once)


def test_between_validations_a_checkpoint_is_written_when_it_is_time(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 3)
    with pytest.raises(Killed):
        run(tmp_path / "a", kill_at=8)
    assert torch.load(tmp_path / "a/run.pt", weights_only=True)["step"] == 4
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0)
    undisturbed = run(tmp_path / "c")
    with pytest.raises(Killed):
        run(tmp_path / "b", kill_at=8)
    assert torch.load(tmp_path / "b/run.pt", weights_only=True)["step"] == 6
    same(run(tmp_path / "b"), undisturbed)


def test_a_terminal_shows_what_the_history_holds(tmp_path, monkeypatch):
    """On a GPU; `gauges` says nothing on a CPU."""
    monkeypatch.setattr(loop.devices, "gauges", lambda device: {"gpu_memory_gb": 12.34, "gpu_utilisation": 98.0})
    with terminal(monkeypatch) as redrawn:
        _, metrics, rows = run(tmp_path)
    held = {name: [value for _, metric, value in rows if metric == name] for name in {metric for _, metric, _ in rows}}
    assert held.keys() == {"loss", "learning_rate", "miou", "gpu_memory_gb", "gpu_utilisation"}
    said = rf"run 100% <00:00, loss={held['loss'][-1]:.3f} miou={metrics['miou']:.1f} \d+(\.\d)?img/s 12.3GB 98% lr={held['learning_rate'][-1]:.2g}"
    assert re.fullmatch(said, redrawn[-1]), redrawn


def test_gpu_memory_is_the_most_since_the_last_reading(monkeypatch):
    """The first step's trials of kernels take more than any later step."""
    taken = {"now": 2e9, "most": 9e9}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: taken["most"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: taken.update(most=taken["now"]))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 50)
    assert [loop.devices.gauges(torch.device("cuda", 0))["gpu_memory_gb"] for _ in range(3)] == [9, 2, 2]


def test_a_checkpoint_of_other_inputs_is_not_used_and_that_is_said(tmp_path, capsys):
    with pytest.raises(Killed):
        run(tmp_path, kill_at=6)
    assert Checkpoint(tmp_path / "run.pt", "inputs").load(torch.device("cpu"))["step"] == 4
    assert "beginning anew" not in capsys.readouterr().err
    assert Checkpoint(tmp_path / "run.pt", "other").load(torch.device("cpu")) is None
    assert "run.pt was left by other settings, data or code: beginning anew" in capsys.readouterr().err


@pytest.mark.parametrize("module", [checkpoint.weights, shards])
def test_a_checkpoint_of_other_code_has_other_inputs(monkeypatch, module):
    before = checkpoint.inputs_digest("settings")
    monkeypatch.setattr(module, "__file__", loop.__file__)
    assert checkpoint.inputs_digest("settings") != before


@pytest.mark.parametrize("factor, shown", [(float("nan"), "nan"), (float("inf"), "inf"), (1e6, r"1\.\d+e\+06")])
def test_a_spoilt_loss_names_its_step_and_the_pictures_of_its_batch(tmp_path, factor, shown):
    calls, batches = [0], []

    def spoilt(network, pixels, labels):
        calls[0] += 1
        batches.append(pixels)
        return cross_entropy(network, pixels, labels) * (factor if calls[0] == 7 else 1)

    with pytest.raises(StudyError, match=rf"run: the loss is {shown} at step 7\. Lower learning_rate.*: picture-\d, picture-\d$"):
        run(tmp_path, loss_of=spoilt)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 4, "no checkpoint holds the spoilt weights"


@pytest.mark.parametrize("left", [0, 1, 0.5, -10])
def test_a_damaged_checkpoint_is_said_and_the_training_begins_anew(tmp_path, capsys, left):
    """What a power cut leaves."""
    expected, path = run(tmp_path / "whole"), tmp_path / "run.pt"
    with pytest.raises(Killed):
        run(tmp_path, kill_at=10)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(len(whole) * left) if 0 < left < 1 else left])
    same(run(tmp_path), expected)
    assert f"{path} is damaged" in capsys.readouterr().err


def test_no_fallen_bit_of_a_checkpoint_is_trained_on(tmp_path, capsys):
    with pytest.raises(Killed):
        run(tmp_path, kill_at=6)
    checkpoint, cpu = Checkpoint(tmp_path / "run.pt", "inputs"), torch.device("cpu")
    whole, weights = checkpoint.path.read_bytes(), checkpoint.load(cpu)["model"]
    in_weights = whole.index(weights["0.weight"].numpy().tobytes())
    for at in (in_weights, *range(0, len(whole), 199)):
        checkpoint.path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
        found = checkpoint.load(cpu)
        said = capsys.readouterr().err
        assert f"{checkpoint.path} is damaged" in said and found is None or at != in_weights and "anew" not in said and all(
            torch.equal(value, found["model"][name]) for name, value in weights.items()), at  # some bytes only fill up


@pytest.mark.parametrize("content", [[], {}, {"inputs": "inputs"}, torch.zeros(3), None], ids=str)
def test_what_is_no_checkpoint_is_damaged(tmp_path, capsys, content):
    torch.save(content, tmp_path / "run.pt")
    assert Checkpoint(tmp_path / "run.pt", "inputs").load(torch.device("cpu")) is None
    assert "run.pt is damaged" in capsys.readouterr().err


def test_a_disk_too_full_for_a_checkpoint_is_named(tmp_path, no_room):
    no_room(tmp_path / "run.pt")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/run.pt'"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]
