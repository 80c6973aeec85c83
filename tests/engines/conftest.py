"""The tiny study, run once, from scratch, by the command that the README gives; and single jobs of it, with fakes around them.

Twelve of its runs are skipped there: by stage, file and engine they are others' like, with another number; each costs seconds of
imports, here and wherever the study is looked at again. They learn in tests/training/test_every_run.py, and `make drills` has them all.
"""
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from pipeline import study as studies
from pipeline.study import ROOT
from stages.engine import dag
from tests.engines.checkout import Checkout

ALIKE = ("t1-c16", "t1-c32", "t1-c48", "t1-c64", "t2-x3", "t2-128", "t2-1x1", "t2-conv3", "t3-os32-nodec", "t5-nodec", "t7-nodec",
         "t7-noilf")
LACKING = "backbone: mobilenetv2_050, start: weights/mobilenetv2_050"  # which scale tiny does not have


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Checkout:
    """The tiny study after one `make study`. `printed`: what that said."""
    checkout = Checkout(tmp_path_factory.mktemp("study"))
    for run in ALIKE:
        checkout.edit("params.yaml", rf"(?m)^  {run}:( +)\{{<<", rf"  {run}:\1{{{LACKING}, <<")
    checkout.commit()
    checkout.printed = checkout.make("study")
    return checkout


@pytest.fixture
def start(tmp_path):
    """Starts a job; DVC shows its environment and waits until the file `go` is there."""
    if not shutil.which("flock"):
        pytest.skip("this system has no flock, by which jobs share devices")
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
        job.communicate(timeout=60)
