"""Processes that draw and decode: one that is killed is said in words, and none outlives the one that waits."""
import errno
import os
import signal
import subprocess
import sys

import psutil
import pytest

from pipeline.datasets import pool, preparation
from pipeline.datasets.miniature import layouts
from pipeline.schema import Generate
from pipeline.study import ROOT, StudyError
from tests.datasets.test_preparation import run
from tests.processes import wait_for


def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("stage", ["download", "prepare"])
def test_a_worker_that_is_killed_is_said_in_words(root, tmp_path, monkeypatch, stage):
    """As by a system that is out of memory."""
    monkeypatch.setattr(preparation, "PART", 2)
    monkeypatch.setattr(preparation, "prepare_part", die)
    monkeypatch.setattr(layouts, "_voc", die)
    with pytest.raises(StudyError, match="a worker was killed, most likely for memory: .* OMP_NUM_THREADS=1"):
        run(root, workers=2) if stage == "prepare" else layouts.generate("voc", Generate(train=64, val=1, size=33, seed=1), tmp_path, 2)


def test_where_processes_can_share_nothing_the_work_is_done_in_one(monkeypatch):
    """A container without /dev/shm has no semaphores."""
    def refused(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr("_multiprocessing.SemLock", refused)
    assert list(pool.mapped(abs, [1, -2], workers=2)) == [1, 2]


@pytest.mark.parametrize("system", ["", "import ctypes, os; ctypes.CDLL, pool.START = None, 'spawn'; del os.sched_getaffinity; "])
def test_workers_end_with_a_process_that_is_killed(system):
    """On a Mac, too, which has neither a core's affinity nor prctl, and forks nothing."""
    begin = f"import time; from pipeline.datasets import pool; {system}list(pool.mapped(time.sleep, [60, 60], workers=1 + pool.workers()))"
    process, workers = subprocess.Popen([sys.executable, "-c", begin], cwd=ROOT), []

    def left():  # one that nobody waits for may stay as a zombie
        return [each for each in workers if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    try:
        wait_for(lambda: len(psutil.Process(process.pid).children()) == (3 if system else 2), 60)
        workers += psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        wait_for(lambda: not left(), 10)
    finally:
        process.kill()
        for each in left():
            each.kill()
