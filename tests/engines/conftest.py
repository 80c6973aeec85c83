"""The tiny study, run once, from scratch, by the command that the README gives; and single jobs of it, with fakes around them."""
import os
import re
import subprocess
import time
from types import SimpleNamespace

import pytest

from pipeline import study as studies
from pipeline.study import ROOT
from stages import dag
from tests.engines.checkout import Checkout


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Checkout:
    """The tiny study after one `make study`. `printed` and `seconds`: what that said and took."""
    checkout = Checkout(tmp_path_factory.mktemp("study"))
    started = time.monotonic()
    checkout.printed = checkout.make("study")
    checkout.seconds = time.monotonic() - started
    return checkout


@pytest.fixture
def start(tmp_path):
    """Starts a job; DVC shows its environment and waits until the file `go` is there."""
    show = "echo device=${CUDA_VISIBLE_DEVICES-none} threads=$OMP_NUM_THREADS order=${CUDA_DEVICE_ORDER-none}"
    tools = {"python": f"{show}; while [ ! -e {tmp_path}/go ]; do sleep .05; done", "nvidia-smi": "echo 0; echo 1"}
    markers = tmp_path / studies.load().scale / ".markers"
    for folder in (tmp_path / "bin", markers):
        folder.mkdir(parents=True)
    for name, text in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    jobs = []

    def launch(stage, gpu=1, **environment):
        text = dag.JOB.format(params=SimpleNamespace(stage=stage, total=3), resources=SimpleNamespace(gpu=gpu),
                              threads=4, output=markers / stage)
        known = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID", "STUDY_REMOTE")}
        settings = known | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)} | environment
        job = subprocess.Popen(["bash", "-c", "set -euo pipefail; " + text], env=settings, cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
        jobs.append(job)
        if not any(line.startswith("start") for line in iter(job.stdout.readline, "")):
            pytest.fail(f"the job of {stage} ended before it began")
        launch.shown = job.stdout.readline()
        return job, *re.search(r"device=(\S*) threads=(\d+)", launch.shown).groups()

    launch.go, launch.markers = (tmp_path / "go").touch, markers
    yield launch
    launch.go()
    for job in jobs:
        job.communicate(timeout=10)
