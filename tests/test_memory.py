"""Freed memory is kept for the next arrays."""
import ctypes
import os
import subprocess
import sys

import pytest

from pipeline.study import ROOT

FAULTS = """
import resource, torch
from pipeline import memory
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    before = faults()
    for megabytes in (3, 40, 90, 7, 60):
        torch.zeros(megabytes << 18)
    return faults() - before
step(), print(step())
memory.keep()
step(), step(), step(), print(step())  # the first ones find out how much it takes
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_kept_memory_is_not_fetched_again():
    small_pages = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}  # large ones are fetched by the hundred
    printed = subprocess.check_output([sys.executable, "-c", FAULTS], cwd=ROOT, text=True, env=small_pages)
    plain, kept = map(int, printed.split())
    assert plain > 1000 and kept < 20
