"""What can happen to a study that runs: a kill, a full disk, a folder that turns read-only, a clock that jumps."""
import contextlib
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
BREAK = """
import os
if os.environ.get("DVC_STAGE") == os.environ.get("BROKEN"):
    replace, left = os.replace, [int(os.environ["BREAK_AFTER"])]
    def broken(*names, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "the disk is broken", str(names[0]))
        return replace(*names, **options)
    os.replace = broken
"""
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None  # under libfaketime the real one fails now and then
"""


def kill_one(checkout, started: subprocess.Popen, chance: random.Random) -> str:
    """kill -9 one process of what `started` runs, itself included; once it is gone, so are all. Returns whom it hit."""
    with contextlib.suppress(psutil.Error):
        family = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
        victim = chance.choice(family)
        name = " ".join(victim.cmdline()[1:4])
        victim.send_signal(signal.SIGKILL)
        if victim.pid == started.pid:
            started.wait()
            alone(checkout)
        return name
    return "nobody"


def mended(checkout) -> bool:
    """Delete what docs/troubleshooting.md says to delete when a kill met `dvc repro` while it wrote; whether there was anything."""
    printed = checkout.run("dvc", "status", fails=None)
    for words, name in (("RWLock-file", ".dvc/tmp/rwlock"), ("dvc.lock", "dvc.lock")):
        if ("ERROR" in printed or "validation failed" in printed) and words in printed:
            (checkout.root / name).unlink()
            return True
    return False


def alone(checkout, seconds: float = 60) -> None:
    """Wait until nothing runs in the checkout; a process that stays is an orphan."""
    until = time.monotonic() + seconds
    while (left := checkout.processes()):
        assert time.monotonic() < until, f"still running: {left}"
        time.sleep(0.1)


@contextlib.contextmanager
def _mounted(folder: Path, *commands: list[str]):
    """Mount something on `folder`; skips the test, and says so, where that cannot be done."""
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    try:
        for command in commands:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                pytest.skip(f"needs mount: {result.stderr.strip()}")
            done += 1
        yield
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def full_disk(folder: Path, size: str):
    """`folder` is a disk of `size` for a while, and empty again afterwards."""
    return _mounted(folder, ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)])


def read_only(folder: Path):
    return _mounted(folder, ["mount", "--bind", str(folder), str(folder)],
                    ["mount", "-o", "remount,bind,ro", str(folder)])


def broken_at(folder: Path, stage: str, after: int) -> dict[str, str]:
    """The environment in which `stage` cannot give a file its final name once it has done so `after` times."""
    (folder / "sitecustomize.py").write_text(BREAK)
    return {"PYTHONPATH": str(folder), "BROKEN": stage, "BREAK_AFTER": str(after)}


def clock(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment whose clock is what a file says, `+0` now, and that file. Files keep their true times."""
    if LIBFAKETIME is None:
        pytest.skip("needs libfaketime (Debian: apt install faketime)")
    file = folder / "clock"
    file.write_text("+0")
    (folder / "sitecustomize.py").write_text(SLEEP)
    return {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1", "PYTHONPATH": str(folder)}, file


