"""Processes that decode or draw end with the one that waits for them, however that ends."""
import ctypes
import multiprocessing
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Let the system kill this process of a pool when the thread that started it ends: else one whose owner is killed waits for
    work for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != multiprocessing.parent_process().pid:  # it ended before that was said
        os._exit(1)
