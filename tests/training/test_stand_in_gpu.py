"""torch's own code for CUDA, on a GPU that computes nothing (stand_in/cuda.cpp): whole steps, without values and without cuDNN.

It has the allocator, the streams, the threads of the backward pass, and the checks that refuse an operation on two devices, one
that waits for the GPU, or one that is not deterministic.
"""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.study import ROOT

PACKAGES = Path(importlib.util.find_spec("torch").origin).parents[1]
HEADERS = [PACKAGES / "triton/backends/nvidia/include", *PACKAGES.glob("nvidia/cu*/include")]
TORCH = [PACKAGES / f"torch/lib/lib{name}.so" for name in ("torch_cuda", "c10_cuda", "torch_python")]
DRIVER = """int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; return !(*active = 1); }
int cuCtxGetCurrent(void **context) { *context = &context; return 0; }"""
WITHOUT_CUDNN = "import sys, pytest, torch; torch.backends.cudnn.enabled = False; sys.exit(pytest.main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if lacking := [name for name in ("gcc", "g++", "nm") if not shutil.which(name)] + [str(each) for each in TORCH[:2] if not each.exists()]:
        pytest.skip(f"not here: {', '.join(lacking)}")
    folder, own = tmp_path_factory.mktemp("stand-in"), Path(__file__).parent / "stand_in/cuda.cpp"
    wanted = subprocess.check_output(["nm", "-D", "--undefined-only", *TORCH], text=True)
    libraries = ("@libcudart", "@libcublas")
    names = {line.split()[-1].partition("@")[0] for line in wanted.splitlines() if any(each in line for each in libraries)}
    (folder / "rest.c").write_text("\n".join(f"int {name}() {{ return 0; }}" for name in sorted(names) if name not in own.read_text()))
    (folder / "driver.c").write_text(DRIVER)
    for compiler, *what in (["gcc", "-c", "rest.c", "-o", "rest.o"], ["gcc", "-shared", "driver.c", "-o", "libcuda.so.1"],
                            ["g++", "-shared", *(f"-I{each}" for each in HEADERS), own, "rest.o", "-o", "stand-in.so"]):
        subprocess.run([compiler, "-fPIC", "-w", *what], cwd=folder, check=True)
    known = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "PYTEST_XDIST_WORKER")}
    return known | {"LD_PRELOAD": str(folder / "stand-in.so"), "LD_LIBRARY_PATH": str(folder)}


def test_a_training_step_waits_for_nothing_and_all_of_it_is_deterministic(environment):
    ended = subprocess.run([sys.executable, "-c", WITHOUT_CUDNN, "-m", "gpu", "-p", "no:cacheprovider", "--tb=short", "-k", "waits", "tests/training/test_gpu.py"],
                           cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert ended.returncode == 0 and "skipped" not in ended.stdout, ended.stdout + ended.stderr
