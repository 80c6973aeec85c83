"""A script for test_resume.py, run inside a copy of the project: python -m tests.training.killed REPORT.json PORT WORLD STEP...

The stage `train` runs to its end twice, then once for each STEP with kill -9 in that step and a second start; `s` before a STEP
kills while the first checkpoint after it is being written. In the place of a STEP, `recorded` kills between the weights and the
record, and `edited` lets the guard fail the stage, because of code that changed; then nothing may be trained again. REPORT: the
model's digest for each.
"""
import functools
import hashlib
import json
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path

import torch

from pipeline import records, study as studies
from pipeline.training import loop
from tests.training.forked import forked

RUN = "t2-x2"


def stage(*command: str) -> None:
    """As `python -m stages.COMMAND` does it."""
    sys.argv = list(command)
    runpy.run_module(f"stages.{command[0]}", run_name="__main__")


def prepared() -> None:
    for name in ("voc", "imagenet"):
        stage("download", name)
        stage("prepare", name)
    stage("pretrain", "resnet101")


def kill_at(step: int) -> None:
    rate = loop.learning_rate

    def last(training, now):
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return rate(training, now)
    loop.learning_rate = last
    stage("train", RUN)


def kill_while_saving(step: int) -> None:
    save = torch.save

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def saved(state, file):
        save(state, file)
        if state["step"] >= step:
            Path.write_bytes = half
    torch.save = saved
    stage("train", RUN)


def kill_before_the_record() -> None:
    records.provenance = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    stage("train", RUN)


def edit_meanwhile() -> None:
    """Of code that is no part of the checkpoint's inputs, as `git pull` does it."""
    os.environ |= {"DVC_STAGE": f"train@{RUN}", "STUDY_JOB": f"train@{RUN}", "STUDY_GPUS": "0"}
    provenance = records.provenance

    def edited(*given, **more):
        with open(records.__file__, "a") as file:
            file.write("# a remark\n")
        return provenance(*given, **more)
    records.provenance = edited
    stage("train", RUN)


def only_record() -> None:
    loop.gradients = None
    stage("train", RUN)


AFTER = {"recorded": kill_before_the_record, "edited": edit_meanwhile}  # the training has ended


def main(report: str, port: str, world: int, *steps: str) -> None:
    study = studies.load()
    out, checkpoints = study.artifacts("runs", RUN), study.artifacts("checkpoints")
    assert forked(prepared) == [0]
    digests = {}
    for name in ("once", "again", *steps):
        shutil.rmtree(out, ignore_errors=True)
        if name in steps:
            kill = AFTER.get(name) or functools.partial(kill_while_saving if name[0] == "s" else kill_at, int(name.removeprefix("s")))
            ended = forked(kill, world, port)
            assert (signal.SIGKILL if name != "edited" else 256) in ended
            assert (out / "record.json").exists() == (name == "edited")
        assert forked(only_record if name in AFTER else lambda: stage("train", RUN), world, port) == [0] * world
        assert not [*checkpoints.iterdir()] and not [path for path in out.iterdir() if path.name.startswith(".")]
        digests[name] = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    Path(report).write_text(json.dumps(digests))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
