"""How this process holds memory."""
import contextlib
import ctypes


def keep() -> None:
    """Let this process keep the memory of freed arrays and tensors for the next ones, where the system has mallopt.

    glibc hands it back to the system and fetches it again, page by page, which takes a tenth of a training step on a CPU and a
    quarter of decoding an image (docs/performance.md).
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # of malloc.h
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, -1)     # never
        mallopt(mmap_max, 0)            # nothing is mapped apart, however large
        mallopt(top_pad, 64 << 20)
