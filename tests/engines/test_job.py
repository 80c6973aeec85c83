"""What a Snakemake job's shell does around DVC: threads, and a device for each stage. `dvc` and `nvidia-smi` are fakes."""
import os
import re
import signal
import subprocess
from types import SimpleNamespace

import pytest

from stages import dag


@pytest.fixture
def start(tmp_path):
    """Starts a job; `dvc` shows its environment and waits until the file `go` is there."""
    show = "echo device=${CUDA_VISIBLE_DEVICES-none} threads=$OMP_NUM_THREADS"
    tools = {"dvc": f"{show}; while [ ! -e {tmp_path}/go ]; do sleep .05; done", "nvidia-smi": "echo 0; echo 1"}
    (tmp_path / "bin").mkdir()
    for name, text in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    jobs = []

    def launch(stage, gpu=1, **environment):
        text = dag.JOB.format(params=SimpleNamespace(stage=stage, markers=tmp_path, total=3), resources=SimpleNamespace(gpu=gpu),
                              threads=4, output=tmp_path / f"{stage}.done")
        known = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
        settings = known | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)} | environment
        job = subprocess.Popen(["bash", "-c", "set -euo pipefail; " + text], env=settings, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
        jobs.append(job)
        job.stdout.readline()  # start
        return job, *re.search(r"device=(\S+) threads=(\d+)", job.stdout.readline()).groups()

    launch.go = (tmp_path / "go").touch
    yield launch
    launch.go()
    for job in jobs:
        job.communicate(timeout=10)


def test_each_stage_has_a_device_of_its_own_until_it_ends(start):
    first, one, threads = start("a")
    second, two, _ = start("b")
    assert (one, two, threads) == ("0", "1", "4")
    assert start("c")[1] == "none"  # all are taken
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert start("d")[1] == "0"


def test_the_devices_that_a_person_names_are_used(start):
    assert start("a", CUDA_VISIBLE_DEVICES="5,7")[1] == "5"
    assert start("b", CUDA_VISIBLE_DEVICES="5,7")[1] == "7"


def test_a_stage_without_need_of_one_takes_none(start):
    assert start("a", gpu=0)[1] == "none"


def test_on_slurm_the_job_keeps_what_it_was_given(start):
    _, device, threads = start("a", SLURM_JOB_ID="1", SLURM_CPUS_PER_TASK="6", CUDA_VISIBLE_DEVICES="0")
    assert (device, threads) == ("0", "6")
    assert start("b", SLURM_JOB_ID="2", CUDA_VISIBLE_DEVICES="0")[1] == "0"


def test_the_marker_is_there_only_after_success(start, tmp_path):
    start.go()
    job, *_ = start("a")
    assert job.wait(10) == 0 and (tmp_path / "a.done").exists()
    (tmp_path / "bin/dvc").write_text("#!/bin/bash\necho device=x threads=1\nexit 3\n")
    job, *_ = start("b")
    assert job.wait(10) == 1 and not (tmp_path / "b.done").exists()
