"""Faults on a part of the tiny study, through both engines: the same command then finishes it, with the bytes of a quiet run.

A sample of one stage in the default suite; all of them, on two stages, under `make drills`. The whole study under kills:
test_whole_drills.py. Edits while a stage runs: test_edits.py. A lost MLflow store: test_engines.py.
"""
import itertools
import json
import random
import re
import shutil
import time
from dataclasses import dataclass

import pytest

from tests.engines import faults
from tests.engines.checkout import Checkout


@dataclass(frozen=True)
class Target:
    """A stage, with what it needs, through one of the engines."""
    engine: str
    stage: str

    @property
    def command(self) -> list[str]:
        if self.engine == "dvc":
            return ["dvc", "repro", self.stage]
        return ["snakemake", "--workflow-profile", "profiles/local", self.stage.replace("@", "_")]


def drills(*sample: str, **more):
    """Parameters `target` and the names in `more`. The sample ("ENGINE-VALUE") is run every day, the rest by `make drills`."""
    cases = []
    for engine, *values in itertools.product(("dvc", "snakemake"), *more.values()):
        name = "-".join(map(str, (engine, *values)))
        for stage in ["download@voc"] * (name in sample) + ["prepare@voc"]:
            marks = pytest.mark.slow if stage == "download@voc" else pytest.mark.drills
            cases.append(pytest.param(Target(engine, stage), *values, id=f"{name}-{stage}", marks=marks))
    return pytest.mark.parametrize(["target", *more], cases)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("drills"))


@pytest.fixture(scope="module")
def quiet(checkout) -> dict[str, bytes]:
    """What an undisturbed run of both stages leaves."""
    checkout.run(*Target("dvc", "prepare@voc").command)
    return made(checkout)


@pytest.fixture
def fresh(checkout, quiet):
    """The checkout as before any run; nothing may run in it afterwards."""
    for name in ("artifacts", ".dvc/cache", ".dvc/tmp", ".snakemake"):
        shutil.rmtree(checkout.root / name, ignore_errors=True)
    (checkout.root / "dvc.lock").unlink(missing_ok=True)
    yield checkout
    faults.alone(checkout)


def made(checkout) -> dict[str, bytes]:
    """The files of the data set and its shards, without what tells the time."""
    files = [path for path in sorted((checkout.root / "artifacts/tiny").rglob("voc/**/*")) if path.is_file()]
    assert files
    found = {str(path.relative_to(checkout.root / "artifacts/tiny")): path.read_bytes() for path in files}
    return {name: json.dumps(json.loads(text) | {"provenance": None}).encode() if name.endswith("record.json") else text
            for name, text in found.items()}


def finishes(checkout, target, quiet) -> None:
    """The same command ends well, with the same bytes."""
    checkout.run(*target.command)
    parts = ("data",) if target.stage == "download@voc" else ("data", "shards")
    assert made(checkout) == {name: text for name, text in quiet.items() if name.startswith(parts)}


@drills("dvc-0", seed=[0, 1, 2])
def test_killed_at_random_moments(fresh, target, quiet, seed):
    chance = random.Random(seed)
    for _ in range(2 if seed else 1):
        started = fresh.start(*target.command)
        time.sleep(chance.uniform(0.5, 6))
        faults.kill_one(fresh, started, chance)
        started.wait(120)
        faults.alone(fresh)
        if target.engine == "dvc":
            faults.mended(fresh)
    finishes(fresh, target, quiet)


@drills("snakemake-.dvc/cache", folder=["artifacts", ".dvc/cache"])
def test_a_full_disk(fresh, target, quiet, folder):
    """A full cache fails no stage whose output is a folder of many files: DVC says so for each of them and goes on without."""
    with faults.full_disk(fresh.root / folder, "40k"):
        fails = True if folder == "artifacts" else None
        assert "No space left on device" in fresh.run(*target.command, fails=fails)
    finishes(fresh, target, quiet)


@drills("dvc-artifacts", folder=["artifacts", ".dvc"])
def test_a_folder_that_cannot_be_written(fresh, target, quiet, folder):
    with faults.read_only(fresh.root / folder):
        assert re.search("[Rr]ead-only", fresh.run(*target.command, fails=True))
    finishes(fresh, target, quiet)


@drills("dvc")
def test_a_stage_that_fails_half_way(fresh, target, quiet, tmp_path):
    """At its first file but one, and at its first."""
    broken = faults.broken_at(tmp_path, target.stage, 1 if target.stage == "prepare@voc" else 0)
    assert "the disk is broken" in fresh.run(*target.command, fails=True, **broken)
    finishes(fresh, target, quiet)


@drills("dvc")
def test_a_damaged_file_in_the_cache(fresh, target, quiet):
    fresh.run(*target.command)
    kind, name = target.stage.split("@")
    out = fresh.root / "artifacts/tiny" / {"download": "data", "prepare": "shards"}[kind] / name
    victim = max((path for path in out.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    twin, = (path for path in (fresh.root / ".dvc/cache/files").rglob("*")
             if path.is_file() and path.read_bytes() == victim.read_bytes())
    twin.chmod(0o644)
    twin.write_bytes(twin.read_bytes()[:-1] + b"?")
    shutil.rmtree(out)
    finishes(fresh, target, quiet)


@pytest.mark.parametrize("stage", [pytest.param("download@voc", marks=pytest.mark.slow),
                                   pytest.param("prepare@voc", marks=pytest.mark.drills)])
def test_two_schedulers_and_a_dvc_at_once(fresh, quiet, stage):
    """DVC told to wait: else it may say that another process holds the lock, and do nothing."""
    study = Target("snakemake", stage).command
    started = [fresh.start(*command) for command in (study, study, ["dvc", "--wait-for-lock", "repro", stage])]
    assert [process.wait(180) for process in started] == [0, 0, 0]
    finishes(fresh, Target("dvc", stage), quiet)


@drills("dvc--400d", jump=["-400d", "+400d"])
def test_a_clock_that_jumps_while_stages_run(fresh, target, quiet, tmp_path, jump):
    environment, file = faults.clock(tmp_path)
    started = fresh.start(*target.command, **environment)
    until = time.monotonic() + 60
    while not (fresh.root / "artifacts/tiny/data/voc").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    file.write_text(jump)
    back = target.engine == "snakemake" and jump.startswith("-")  # Snakemake fails a job whose marker is older than what it needed
    assert started.wait(120) in ((0, 1) if back else (0,))
    finishes(fresh, target, quiet)
    assert not re.search("Running stage|start   ", fresh.run(*target.command))  # the clock is right again; nothing is stale
