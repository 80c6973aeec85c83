"""The whole tiny study while 50 of its processes are killed, 25 of each engine's; its tables are those of an undisturbed one."""
import random
import subprocess
import time

import faults
import pytest
from checkout import Checkout

pytestmark = pytest.mark.drills
COMMANDS = {"dvc": ["dvc", "repro"], "snakemake": ["snakemake", "--workflow-profile", "profiles/local"]}
KILLS = 25


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_study_that_is_killed_again_and_again(study, engine, tmp_path):
    undisturbed, checkout, chance, hit = study.tables(), Checkout(tmp_path), random.Random(engine), []
    while len(hit) < KILLS:
        started = checkout.start(*COMMANDS[engine])
        until = time.monotonic() + chance.uniform(3, 25)
        while started.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        if started.poll() is not None:  # done, or given up after the last kill of a stage
            assert started.returncode == 0, checkout.run(*COMMANDS[engine])
            break
        hit.append(faults.kill_one(checkout, started, chance))
        try:
            started.wait(20)            # a scheduler goes on without the stage that was hit
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        faults.alone(checkout)
    print(f"{len(hit)} kills: {hit}")
    assert len(hit) == KILLS, "the study was done before all kills"
    checkout.run(*COMMANDS[engine])
    assert checkout.tables() == undisturbed
    assert "up to date" in checkout.run("dvc", "repro")
    faults.alone(checkout)
