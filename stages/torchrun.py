"""A stage on several GPUs: its own command again, one process a GPU, through torchrun.

How many: `gpu` of the stage's `meta` in dvc.yaml, or what the Snakemake job was given (STUDY_GPUS). Not a param: it changes no
result beyond rounding and, on GPUs, what dropout draws, so it makes nothing stale.
"""
import os
import subprocess
import sys

import typer
import yaml

from pipeline.study import ROOT


def relaunch_on_gpus() -> bool:
    """Run this process's command on several GPUs and return True; False where one process is all, or this is one of several.

    Ends this process with exit code 1 where one of them fails.
    """
    count = wanted()
    if count < 2:
        return False
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS", 1)) // count)
    own = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "STUDY_PID": str(os.getpid())}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    if subprocess.run([*command, "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]], env=own, check=False).returncode:
        raise typer.Exit(1)
    return True


def wanted() -> int:
    """How many processes this stage is to start; 1 outside DVC, and in the processes that torchrun started."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return 1
    if (given := os.environ.get("STUDY_GPUS")):
        return int(given)
    stage, _, item = os.environ.get("DVC_STAGE", "").partition("@")
    if not item:
        return 1
    gpus = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]["meta"]["gpu"]
    if gpus > 1:
        import torch
        gpus = min(gpus, torch.cuda.device_count())
    return gpus
