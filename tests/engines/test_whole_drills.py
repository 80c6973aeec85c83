"""The whole tiny study while 50 of its processes are killed, 25 of each engine's; its tables are those of an undisturbed one."""
import random
import subprocess

import pytest

from tests.engines import faults
from tests.engines.checkout import Checkout

pytestmark = pytest.mark.drills
COMMANDS = {"dvc": ["dvc", "repro"], "snakemake": ["snakemake", "--workflow-profile", "profiles/local"]}
KILLS = 25


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """Its tables."""
    checkout = Checkout(tmp_path_factory.mktemp("undisturbed"))
    checkout.make("study")
    return checkout.tables()


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_study_that_is_killed_again_and_again(undisturbed, engine, tmp_path):
    checkout, chance, hit = Checkout(tmp_path), random.Random(engine), []
    mended = 0
    while len(hit) < KILLS:
        started = checkout.start(*COMMANDS[engine])
        if ended(started, chance.uniform(3, 12)):
            assert started.returncode == 0, checkout.run(*COMMANDS[engine])
            break
        hit.append(faults.kill_one(checkout, started, chance))
        if not ended(started, chance.uniform(0, 5)):  # a scheduler goes on without the stage that was hit
            started.kill()
            started.wait()
            hit.append("the scheduler after that")
        faults.alone(checkout)
        mended += engine == "dvc" and faults.mended(checkout)
    print(f"{len(hit)} kills, {mended} times a file of DVC's to delete: {hit}")
    assert len(hit) >= KILLS, "the study was done before all kills"
    checkout.run(*COMMANDS[engine])
    assert checkout.tables() == undisturbed
    assert "up to date" in checkout.run("dvc", "repro")
    faults.alone(checkout)


def ended(process: subprocess.Popen, seconds: float) -> bool:
    """Wait so long at most; whether it has ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
