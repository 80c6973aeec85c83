"""Whom the guard watches: what started a stage, past the shells between, and not the one that takes in orphans."""
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from stages.engine import guard


def process(pid: int, name: str, *cmdline: str):
    return SimpleNamespace(pid=pid, name=lambda: name, cmdline=lambda: [name, *cmdline])


DVC, SHELL, INIT = process(7, "dvc", "repro"), process(8, "sh", "-c", "python -m stages.train t2-x2"), process(1, "systemd")


@pytest.mark.parametrize("parents, starter", [
    ([DVC, INIT], DVC),
    ([SHELL, DVC, INIT], DVC),
    ([process(9, "bash"), DVC], process(9, "bash")),             # a person's own shell
    ([process(1, "dvc", "repro")], process(1, "dvc", "repro")),  # in a container
])
def test_it_watches_what_started_it(parents, starter):
    assert guard._starter(SimpleNamespace(parents=lambda: parents)).pid == starter.pid


@pytest.mark.parametrize("parents", [[INIT], [SHELL, INIT]])
def test_an_orphan_knows_that_it_is_one(parents):
    with pytest.raises(psutil.NoSuchProcess):
        guard._starter(SimpleNamespace(parents=lambda: parents))


def test_without_parents_nothing_ends_it():
    own = SimpleNamespace(pid=5, parents=list)
    assert guard._starter(own) is own


def test_children_end_with_it_though_they_start_others(tmp_path):
    """A stage whose study has gone ends with its whole tree, one that forks all the time included."""
    forks = "import os, time\nwhile True:\n    os.fork() or (time.sleep(30), os._exit(0))\n    time.sleep(0.01)"
    stage = ("import os, subprocess, sys, time\nfrom stages.engine import guard\n"
             f"subprocess.Popen([sys.executable, '-c', {forks!r}])\ntime.sleep(0.3)\nguard._end_with_parents(0.1)")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ended = subprocess.run([sys.executable, "-c", stage], cwd=tmp_path, check=False, timeout=60,
                           env=os.environ | {"STUDY_PID": str(gone.pid), "PYTHONPATH": str(guard.ROOT)})
    assert ended.returncode == 137
    time.sleep(0.2)
    left = []
    for other in psutil.process_iter():
        try:
            if other.cwd() == str(tmp_path) and other.status() != psutil.STATUS_ZOMBIE:
                left.append(other.cmdline())
        except psutil.Error:
            continue
    assert not left


class Child:
    """A process that stops when it is asked for its status the third time, and starts `another` just before."""

    def __init__(self, family, another=None):
        self.family, self.another, self.asked = family, another, 0

    def suspend(self):
        pass

    def status(self):
        self.asked += 1
        if self.asked == 3 and self.another:
            self.family.append(self.another)
        return psutil.STATUS_RUNNING if self.asked < 3 else psutil.STATUS_STOPPED


def test_what_a_child_starts_before_it_stops_is_found():
    """A signal arrives later than it is sent."""
    family = []
    last = Child(family)
    first, quick = Child(family, another=last), Child(family)
    quick.asked = 3
    family += [quick, first]
    assert guard._stopped(SimpleNamespace(children=lambda recursive: list(family))) == {first, quick, last}
