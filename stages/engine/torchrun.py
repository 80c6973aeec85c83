"""A stage on several GPUs: its own command again, one process a GPU, through torchrun.

How many: `gpu` of the stage's `meta` in dvc.yaml, or what the Snakemake job was given (STUDY_GPUS). Not a param: it changes no
result beyond rounding and, on GPUs, what dropout draws, so it makes nothing stale.
"""
import logging
import os
import subprocess
import sys

import typer
import yaml

from pipeline.study import ROOT, StudyError
from stages import console


def relaunch_on_gpus() -> bool:
    """Run this process's command on several GPUs and return True; False where one process is all, or this is one of several.
    Exits with 1 where one of them fails; `main` has said why."""
    count = wanted()
    if count < 2:
        return False
    limit = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, int(limit) // count) if limit.isdecimal() else 1  # 4,2 is a number of threads, too
    own = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "STUDY_PID": str(os.getpid())}
    command = [sys.executable, "-m", "stages.engine.torchrun", "--standalone", f"--nproc-per-node={count}",
               "--local-addr=localhost"]  # else they meet at this machine's name, which DNS may not know
    if subprocess.run([*command, "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]], env=own, check=False).returncode:
        raise typer.Exit(1)
    return True


def wanted() -> int:
    """How many processes this stage is to start; 1 outside DVC, and in the processes that torchrun started."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return 1
    if (given := os.environ.get("STUDY_GPUS")):
        if not given.isdecimal():
            raise StudyError(f"STUDY_GPUS={given} in the environment: a number of GPUs is wanted")
        return int(given)
    stage, _, item = os.environ.get("DVC_STAGE", "").partition("@")
    if not item:
        return 1
    gpus = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]["meta"]["gpu"]
    if gpus > 1:
        import torch
        gpus = min(gpus, torch.cuda.device_count())
    return gpus


def main() -> None:
    """torchrun, but for its report: one line, what the first process that failed said (console.failed), or how it ended."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run
    logging.disable(logging.ERROR)
    try:
        run(parse_args(None))
    except SignalException:  # Ctrl-C, say: the stage that started this says so
        sys.exit(console.STOPPED)
    except ChildFailedError as error:  # the message of a process that said nothing is torchrun's own, a str
        rank, first = min(error.failures.items(), key=lambda each: (isinstance(each[1].message, str), each[1].timestamp))
        ended = first.signal_name() if first.exitcode < 0 else f"exit code {first.exitcode}"
        said = f"process {rank} ended with {ended}; what it printed is above"
        sys.exit(f"error: {said if isinstance(first.message, str) else first.message['message']}")


if __name__ == "__main__":
    main()
