"""kill -9 inside the real stage, at several steps: it ends with the very bytes of the run that nobody disturbed."""
import json
import random
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from tests.engines.checkout import Checkout
from tests.processes import free_port

STEPS, VALIDATE = 24, 7


@pytest.fixture
def project(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.train_for(STEPS, VALIDATE)
    return checkout


def digests(project, world, *steps):
    command = [sys.executable, "-m", "tests.training.killed", "report.json", str(free_port()), str(world), *map(str, steps)]
    subprocess.run(command, cwd=project.root, check=True, timeout=900, env=project.settings(), stdout=subprocess.DEVNULL)
    return json.loads((project.root / "report.json").read_text())


def test_killed_and_started_again_it_ends_with_the_same_bytes(project):
    """Before the first checkpoint, right after one, while one is written, in the last step, and between the weights and the record.
    What the guard fails at the very end is not trained again either."""
    found = digests(project, 1, 3, VALIDATE, "s14", STEPS - 1, "recorded", "edited")
    assert len(found) == 8 and len(set(found.values())) == 1, found


@pytest.mark.drills
@pytest.mark.parametrize("world", [1, 2])
def test_at_twenty_random_steps(project, world):
    steps = random.Random(world).sample(range(STEPS), 20)
    found = digests(project, world, *steps)
    assert len(found) == 22 and len(set(found.values())) == 1, found


@pytest.mark.drills
def test_torchrun_goes_on_where_it_was_killed(project):
    project.edit("params.yaml", f"steps: {STEPS},", "steps: 150,")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "stages.train", "t2-x2"]
    common = {"cwd": project.root, "env": project.settings()}
    out, checkpoint = (project.root / "artifacts/tiny" / name for name in ("runs/t2-x2", "checkpoints/t2-x2.pt"))
    for stage in ("download voc", "prepare voc", "download imagenet", "prepare imagenet", "pretrain resnet101"):
        project.run("python", "-m", *f"stages.{stage}".split())
    first = subprocess.Popen(command, **common)
    while not checkpoint.exists():
        assert first.poll() is None
        time.sleep(0.05)
    for process in [*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)]:
        process.kill()
    first.wait()
    assert checkpoint.exists() and not (out / "record.json").exists()
    subprocess.run(command, check=True, **common)
    resumed = (out / "model.safetensors").read_bytes()
    shutil.rmtree(out)
    subprocess.run(command, check=True, **common)
    assert (out / "model.safetensors").read_bytes() == resumed
    assert json.loads((out / "record.json").read_text())["provenance"]["device"] == "2 x CPU"
