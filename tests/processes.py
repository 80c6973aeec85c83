"""Processes that tests start: a port for them, waiting for what they do, and how much memory they took."""
import socket
import time
from pathlib import Path

import pytest

proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds: float = 300) -> None:
    """Fails the test where `condition()` is not true within `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited for {seconds} s"
        time.sleep(0.1)


def peak() -> float:
    """MiB that this process took at most since it was started. getrusage's ru_maxrss begins with what the parent took, beyond exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
