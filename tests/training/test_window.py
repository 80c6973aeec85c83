"""What the loop says while it trains: speed, the images of a spoilt step, when it saves; and what it asks of its parts."""
import contextlib
import errno

import pytest
import torch
from torch import nn

from pipeline.study import StudyError
from pipeline.training import loop
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Window
from tests.training.small import TRAINING, Killed, cross_entropy, run


def test_a_window_names_the_images_of_the_spoilt_step_and_forgets_the_steps_before(monkeypatch):
    clock = iter((10.0, 12.0, 99.0, 100.0))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    window = Window(list("abcdef"))
    window.losses, window.numbers = [torch.tensor(1.0), torch.tensor(3.0)], [[0, 1], [2, 3]]
    assert window.close("run", 2) == {"loss": 2, "images_per_second": 2}
    window.losses += [torch.tensor(1.0), torch.tensor(torch.nan)]
    window.numbers += [[4, 5], [1, 0]]
    with pytest.raises(StudyError, match="step 4.*: b, a$"):
        window.close("run", 4)


def test_validations_and_checkpoints_are_no_time_of_the_training(tmp_path, monkeypatch):
    """A clock that only they move. And just saved is not saved again."""
    now, saved, speeds, save, close = [0.0], [], [], Checkpoint.save, Window.close

    def slow_save(self, **state):
        saved.append(state["step"])
        now[0] += 2 * loop.CHECKPOINT_EVERY
        save(self, **state)

    def one_second(self, *given):
        now[0] += 1
        speeds.append(close(self, *given)["images_per_second"])
        return {"loss": 1.0, "images_per_second": speeds[-1]}
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Checkpoint, "save", slow_save)
    monkeypatch.setattr(Window, "close", one_second)
    run(tmp_path)
    assert saved == [4, 8, 12] and speeds == [TRAINING.batch] * 12


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), RuntimeError("can't allocate memory")])
def test_a_checkpoint_that_cannot_be_read_just_now_is_not_thrown_away(tmp_path, monkeypatch, error):
    with pytest.raises(Killed):
        run(tmp_path, kill_at=6)

    def fails(*_, **__):
        raise error
    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(type(error)):
        Checkpoint(tmp_path / "run.pt", "inputs").load(torch.device("cpu"))
    assert (tmp_path / "run.pt").exists()


@pytest.mark.parametrize("wanted", [False, True])
def test_the_network_is_compiled_where_asked_for(tmp_path, monkeypatch, wanted):
    asked = []
    monkeypatch.setattr(loop, "compiled", lambda network: asked.append(network) or network)
    run(tmp_path, training=TRAINING.model_copy(update={"compile": wanted, "steps": 1}))
    assert len(asked) == wanted


def test_gradients_are_exchanged_with_the_last_part_only(monkeypatch):
    asked, network = [], nn.Conv2d(3, 5, 1)
    monkeypatch.setattr(loop.distributed, "exchange", lambda network, now: asked.append(now) or contextlib.nullcontext())
    loop.gradients(network, network, torch.rand(6, 3, 4, 4), torch.zeros(6, 4, 4, dtype=torch.long), cross_entropy, 255, 3)
    assert asked == [False, False, True]
