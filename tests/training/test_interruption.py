"""Ctrl-C in a training: the step that it falls into is finished and saved, and the next start goes on behind it."""
import os
import signal
import threading

import pytest
import torch

from tests.training.small import TRAINING, cross_entropy, run, same


def asking(step: int, *numbers: int):
    """A loss that sends this process signals in a step, counted from 1."""
    calls = [0]

    def loss_of(*given):
        calls[0] += 1
        if calls[0] == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        return cross_entropy(*given)
    return loss_of


def saved(folder) -> int:
    return torch.load(folder / "run.pt", weights_only=True)["step"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_the_step_is_finished_and_saved_and_nothing_of_it_is_seen_at_the_end(tmp_path, capfd, number, step):
    """In the middle of a log line's steps, too: their losses are in the checkpoint."""
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    undisturbed = run(tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss_of=asking(step, number))
    assert saved(tmp_path) == step and "run: stops after this step" in capfd.readouterr().err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    same(run(tmp_path), undisturbed)


def test_a_scheduler_may_say_it_twice(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss_of=asking(6, signal.SIGTERM, signal.SIGTERM))
    assert saved(tmp_path) == 6


@pytest.mark.parametrize("step", [4, 6])
def test_time_and_images_before_it_count_in_the_pace_of_the_window(tmp_path, monkeypatch, step):
    """A clock of one second a step, and a night between the two starts. Step 4 ends a window, 6 is within one."""
    from pipeline.training import loop
    now, speeds, close = [0.0], [], loop.Window.close
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(loop.Window, "close", lambda *given: speeds.append(found := close(*given)) or found)

    def ticking(loss_of):
        def later(*given):
            now[0] += 1
            return loss_of(*given)
        return later
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss_of=ticking(asking(step, signal.SIGINT)))
    now[0] += 1e5
    run(tmp_path, loss_of=ticking(cross_entropy))
    assert [speed["images_per_second"] for speed in speeds] == pytest.approx([TRAINING.batch] * 3)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_second_ctrl_c_stops_it_at_once_and_leaves_what_was_saved_before(tmp_path, first):
    undisturbed = run(tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss_of=asking(6, first, signal.SIGINT))
    assert saved(tmp_path) == 4
    same(run(tmp_path), undisturbed)


def test_in_the_last_step_the_training_is_simply_done(tmp_path):
    same(run(tmp_path, loss_of=asking(12, signal.SIGINT)), run(tmp_path / "undisturbed"))


def test_what_is_started_in_the_background_ignores_it_as_before(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts COMMAND &
    try:
        same(run(tmp_path, loss_of=asking(6, signal.SIGINT)), run(tmp_path / "undisturbed"))
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_a_training_runs_without(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(tmp_path)))
    thread.start()
    thread.join()
    same(found[0], run(tmp_path / "undisturbed"))
