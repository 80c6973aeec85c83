"""Work for all cores, in processes that end with the one that waits for them, however that ends."""
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from pipeline import memory, records
from pipeline.study import StudyError

START = "fork" if sys.platform == "linux" else "spawn"  # a Mac's libraries may start threads, which no fork survives


def workers() -> int:
    """Processes to decode with: the cores, at most OMP_NUM_THREADS where that is set."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(records.cores(), int(limit))) if limit.isdecimal() else records.cores()


def mapped(function: Callable, *arguments: Sequence, workers: int, chunk: int = 1) -> Iterator:
    """What map(function, *arguments) gives, from `workers` processes that take `chunk` calls at a time; from this one where that
    is one, there is but one call, or the system lets processes share no work. Raises what a call raises, and StudyError where a
    worker is killed."""
    pool = None
    if (workers := min(workers, len(arguments[0]))) > 1:
        with contextlib.suppress(OSError):  # no semaphores: a container without /dev/shm
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context(START), _begin)
    if pool is None:
        yield from map(function, *arguments)
        return
    try:
        yield from pool.map(function, *arguments, chunksize=chunk)
    except BrokenProcessPool:
        raise StudyError("a worker was killed, most likely for memory: run it again with fewer, by OMP_NUM_THREADS=1") from None
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C what is in work is finished; a preparation uses it the next time


def _begin() -> None:
    """A worker: it ends with the process that started it, or it would wait for ever; Ctrl-C is not for it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.keep()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
