"""The bar on a terminal, the few lines in a log."""
import io
import re
import sys

import pytest

from pipeline import progress
from pipeline.training import loop
from tests.training.terminals import terminal


class Clock:
    """Time that passes only when told to. tqdm's own thread, which would compare it with the true one, is ended."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("tqdm.std.time", lambda: self.now)
        monkeypatch.setattr(progress.tqdm, "monitor_interval", 0)
        if progress.tqdm.monitor:
            progress.tqdm.monitor.exit()
            monkeypatch.setattr(progress.tqdm, "monitor", None)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def lines(monkeypatch, clock, total, seconds, initial=0, terminal=False, **more):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress.bar("t2-x2", total, "step", initial=initial, **more)
    for step in range(initial, total):
        clock.now += seconds
        bar.set_postfix(loss=f"{step}", refresh=False)
        bar.update()
    bar.close()
    bar.close()
    return stream.getvalue()


def test_words_between_leave_no_bar_in_a_log(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress.bar("predict", 3, "photo", of=range(3))
    for number in bar:
        clock.now += 20
        bar.write(f"photo {number}", file=stream)
    text = stream.getvalue().splitlines()
    assert [line for line in text if line.startswith("photo")] == ["photo 0", "photo 1", "photo 2"]
    assert [line.partition(" [")[0] for line in text if line.startswith("predict")] == ["predict:  67% 2/3", "predict: 100% 3/3"]


@pytest.mark.parametrize("seconds, shown", [(0.2, False), (0.6, True)])
def test_a_bar_with_patience_is_drawn_where_work_takes_longer(monkeypatch, clock, seconds, shown):
    text = lines(monkeypatch, clock, 10, seconds, terminal=True, patience=3)
    assert ("10/10" in text) == shown and bool(text) == shown


def test_a_log_of_a_short_task_holds_nothing(monkeypatch, clock):
    assert lines(monkeypatch, clock, 200, 0.1) == ""


@pytest.mark.parametrize("total, seconds, least, most", [(240, 1, 7, 9), (30000, 0.5, 95, 101), (30, 100, 29, 31)])
def test_a_log_of_a_long_one_holds_some_whole_lines(monkeypatch, clock, total, seconds, least, most):
    text = lines(monkeypatch, clock, total, seconds)
    assert "\r" not in text and text.endswith("\n") and least <= len(text.splitlines()) <= most
    assert text.splitlines()[-1].startswith(f"t2-x2: 100% {total}/{total} [") and f"loss={total - 1}" in text.splitlines()[-1]


def test_the_time_left_counts_only_what_this_process_did(monkeypatch, clock):
    """Half of 100 steps were done before; the rest takes 40 s each: after 10 of them 40 are left, 26 minutes and 40 seconds."""
    text = lines(monkeypatch, clock, 100, 40, initial=50)
    assert "<26:40," in next(line for line in text.splitlines() if " 60/100 " in line)


def test_the_time_left_counts_validations_too(monkeypatch, clock):
    """A step takes 1 s, each tenth a validation of 40 s as well; going on at 50, after 30 steps the rest takes what it will take."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress.bar("t2-x2", 100, "step", initial=50)
    for step in range(51, 101):
        clock.now += 1
        bar.update()
        clock.now += 40 * (step % 10 == 0)
    bar.close()
    found = re.search(r" 81/100 \[(\S+)<(\S+),", stream.getvalue())
    assert found.groups() == ("02:31", "01:32"), "19 steps and, with the last one's, 2 validations are 99 s"


def test_a_terminal_gets_a_bar_that_redraws_itself(monkeypatch, clock):
    text = lines(monkeypatch, clock, 50, 1, terminal=True)
    assert text.count("\r") > 10 and text.count("\n") == 1 and "50/50" in text


def test_80_columns_hold_all_that_a_training_has_to_say(monkeypatch, clock):
    """The longest name of the paper's runs, and its steps at one a second and more. Half of it is done."""
    said = loop.shown({"loss": 1.2345, "images_per_second": 123.4}, {"miou": 78.91}, {"gpu_memory_gb": 139.4, "gpu_utilisation": 100.0}, 0.00376)
    with terminal(monkeypatch) as redrawn:
        bar = progress.bar("t3-os16-nodec", 30_000, "step", initial=14_990, drawn=False)
        clock.now += 40
        bar.set_postfix_str(said, refresh=False)
        bar.update(10)
        bar.close()
    assert redrawn[-1] == "t3-os16-nodec 50% <16:40:00, loss=1.234 miou=78.9 123img/s 139GB 100% lr=0.0038"
    assert max(map(len, redrawn)) <= 80


@pytest.mark.parametrize("terminal", [True, False])
def test_other_processes_show_nothing(monkeypatch, clock, terminal):
    assert lines(monkeypatch, clock, 50, 60, terminal=terminal, disable=True) == ""


def test_jobs_beside_each_other_write_lines_on_a_terminal_too(monkeypatch, clock):
    monkeypatch.setenv("STUDY_JOB", "train@t2-x2")
    assert "\r" not in lines(monkeypatch, clock, 240, 1, terminal=True)
