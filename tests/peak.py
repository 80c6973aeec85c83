"""How much memory this process took at most, for the processes that tests start to measure."""
from pathlib import Path


def peak() -> float:
    """MiB, since the program was started. getrusage's ru_maxrss would not do: it begins with what the parent took, beyond exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
