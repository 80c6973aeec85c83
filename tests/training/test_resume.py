"""kill -9 inside the real stage, at several steps: it ends with the very bytes of the run that nobody disturbed."""
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS, VALIDATE = 24, 7


@pytest.fixture
def project(tmp_path):
    for name in ("pipeline", "stages", "tests/training", "tests/__init__.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    lines = (ROOT / "params.yaml").read_text().splitlines()
    settings = [("scale: tiny" if line.startswith("scale:") else line) for line in lines]
    text = "\n".join(settings).replace("batch: 4, steps: 2, learning_rate: 0.05, power: 0.9, validate_every: 2",
                                       f"batch: 4, steps: {STEPS}, learning_rate: 0.05, power: 0.9, validate_every: {VALIDATE}")
    assert f"steps: {STEPS}" in text, "the tiny scale's settings have moved: mend this test"
    (tmp_path / "params.yaml").write_text(text)
    return tmp_path


def digests(project, world, *steps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.training.killed", "report.json", str(port), str(world), *map(str, steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=project, check=True, timeout=900, env=environment, stdout=subprocess.DEVNULL)
    return json.loads((project / "report.json").read_text())


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
    settings = project / "params.yaml"
    settings.write_text(settings.read_text().replace(f"steps: {STEPS}", "steps: 150"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "stages.train", "t2-x2"]
    common = {"cwd": project, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    out, checkpoint = (project / "artifacts/tiny" / name for name in ("runs/t2-x2", "checkpoints/t2-x2.pt"))
    for stage in ("download voc", "prepare voc", "download imagenet", "prepare imagenet", "pretrain resnet101"):
        name, item = stage.split()
        subprocess.run([sys.executable, "-m", f"stages.{name}", item], check=True, **common)

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
