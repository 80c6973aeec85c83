"""kill -9 at random steps through `dvc repro`, Snakemake and torchrun: the same command goes on and ends with the same bytes.

The stage, its parent (DVC or torchrun) or the Snakemake above it is killed, several times in one training, and nothing may be left
running. A few samples here; 20 steps for each way are in `make drills`.
"""
import hashlib
import random
import re
import shutil

import pytest
import torch

from tests.engines.checkout import Checkout
from tests.processes import free_port, wait_for

pytestmark = pytest.mark.slow
RUN, STEPS, VALIDATE = "t2-x2", 24, 7
COMMANDS = {
    "dvc": ["dvc", "repro", "--single-item", f"train@{RUN}"],
    "snakemake": ["snakemake", "--workflow-profile", "profiles/local", "train_t2_x2"],
    "torchrun": ["torchrun", "--nproc-per-node", "2", "--master-port", "PORT", "-m", "stages.train", RUN],
}
VICTIMS = {"dvc": ["stage", "parent"], "snakemake": ["stage", "parent", "study"], "torchrun": ["stage", "parent"]}
ABOVE = ["download@voc", "download@imagenet", "prepare@voc", "prepare@imagenet", "pretrain@resnet101"]

# Added to the copy's schedule.py: KILL="STEP VICTIM RANK" in the environment kills when that step begins; a terminal's Ctrl-C and a
# scheduler's SIGTERM go to all that run there. Where a parent is killed, the step waits until the guard has noticed.
HOOK = '''

def learning_rate(training, step, learning_rate=learning_rate):
    import os, signal, time
    at, victim, rank = os.environ.get("KILL", "-1 none 0").split()
    everyone = {"terminal": signal.SIGINT, "scheduler": signal.SIGTERM}
    if step == int(at) and victim in everyone:
        os.killpg(0, everyone[victim])
    elif step == int(at) and os.environ.get("RANK", "0") == rank:
        pids = {"stage": os.getpid(), "parent": os.getppid(), "study": int(os.environ.get("STUDY_PID", -1))}
        os.kill(pids[victim], signal.SIGKILL)
        until, before = time.monotonic() + 60, signal.getsignal(signal.SIGINT)
        while time.monotonic() < until and signal.getsignal(signal.SIGINT) is before:
            time.sleep(0.1)
    return learning_rate(training, step)
'''

# What comes before, and the undisturbed run's digest with one process and with two; torch is imported once.
UNDISTURBED = """
import hashlib, shutil, sys
from pipeline import study
from tests.training.forked import forked
from tests.training.killed import RUN, prepared, stage
out = study.load().artifacts("runs", RUN)
assert forked(prepared) == [0]
for world in (1, 2):
    assert forked(lambda: stage("train", RUN), world, sys.argv[1]) == [0] * world
    print("undisturbed", hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(), flush=True)  # or a child would print it again
    shutil.rmtree(out)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    checkout = Checkout(tmp_path_factory.mktemp("killed"))
    checkout.train_for(STEPS, VALIDATE)
    with (checkout.root / "pipeline/training/schedule.py").open("a") as file:
        file.write(HOOK)
    printed = checkout.run("python", "-c", UNDISTURBED, str(free_port()))
    checkout.digests = [line.split()[1] for line in printed.splitlines() if line.startswith("undisturbed ")]
    checkout.run("dvc", "commit", "--force", *ABOVE)
    checkout.lock = (checkout.root / "dvc.lock").read_text()
    return checkout


def untrained(project):
    """The folder of the run, which is not there, and the file of its checkpoint."""
    out, checkpoint = (project.root / "artifacts/tiny" / name for name in (f"runs/{RUN}", f"checkpoints/{RUN}.pt"))
    for made in (out, project.root / ".dvc/cache/runs"):  # nothing may come from a training that is done
        shutil.rmtree(made, ignore_errors=True)
    checkpoint.unlink(missing_ok=True)
    (project.root / "dvc.lock").write_text(project.lock)
    return out, checkpoint


def survives(project, way: str, kills: list[str], goes_on: str | None = None) -> None:
    """Kill at each of `kills`, in ascending order of step; then the command `goes_on` ends with the undisturbed run's bytes."""
    out, checkpoint = untrained(project)
    port = str(free_port())
    for kill in kills:
        command = [port if word == "PORT" else word for word in COMMANDS[way]]
        assert project.start(*command, KILL=kill).wait(300) != 0  # reading what it prints would keep a killed one a zombie
        wait_for(lambda: not project.processes(), 60)
        step, victim, _ = kill.split()
        ended = way != "torchrun" and victim != "stage"  # by the guard, and not before its step was done
        assert (out / "record.json").exists() == (ended and int(step) + 1 == STEPS)
        if ended and int(step) + 1 < STEPS:
            assert torch.load(checkpoint, weights_only=True)["step"] == int(step) + 1
    project.run(*(port if word == "PORT" else word for word in COMMANDS[goes_on or way]))
    ends_alike(project, out, checkpoint, way)


def ends_alike(project, out, checkpoint, way: str) -> None:
    assert hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest() == project.digests[way == "torchrun"]
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "record.json", "history.parquet"}
    assert not checkpoint.exists() and not project.processes()


def kills(way: str, seed: int, count: int) -> list[str]:
    """`count` random steps in ascending order, each with a victim, and with torchrun a process."""
    chance = random.Random(f"{way} {seed}")
    ranks = range(2 if way == "torchrun" else 1)
    return [f"{step} {chance.choice(VICTIMS[way])} {chance.choice(ranks)}" for step in sorted(chance.sample(range(STEPS), count))]


def test_killed_under_snakemake_it_goes_on_through_dvc(project):
    survives(project, "snakemake", kills("snakemake", 0, 1), goes_on="dvc")


@pytest.mark.parametrize("sender", ["terminal", "scheduler"])
def test_ctrl_c_and_sigterm_save_the_step_and_are_no_error(project, sender):
    """In whatever shell: stages.engine.repro has DVC start the stage through bash, as some others stay between."""
    out, checkpoint = untrained(project)
    said = project.run("setsid", "--wait", *COMMANDS["snakemake"], fails=True, KILL=f"9 {sender} 0", SHELL="/bin/sh")
    assert torch.load(checkpoint, weights_only=True)["step"] == 10, "the last validation was at 7"
    assert f"stopped  train@{RUN}" in said and "the same command goes on" in said and not re.search("error|exception", said, re.I), said
    project.run(*COMMANDS["dvc"])
    ends_alike(project, out, checkpoint, "dvc")


def test_killed_under_torchrun_it_goes_on_through_torchrun(project):
    survives(project, "torchrun", [f"{random.Random(0).randrange(VALIDATE, STEPS)} parent 1"])


@pytest.mark.drills
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("way", COMMANDS)
def test_four_kills_in_one_training(project, way, seed):
    survives(project, way, kills(way, seed, 4))
