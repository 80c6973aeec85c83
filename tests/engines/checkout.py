"""A checkout of the working tree at scale tiny, to run real commands in."""
import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from pipeline.study import ROOT

BIN = Path(sys.executable).parent


class Checkout:
    """A copy of what git would take from the working tree, committed, with `scale: tiny`."""

    def __init__(self, root: Path):
        self.root = root
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("reports/"):  # made by the study, here too
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        (root / ".venv").symlink_to(BIN.parent)
        self.edit("params.yaml", r"(?m)^scale: [\w-]+", "scale: tiny")
        self.run("git", "init", "--quiet")
        self.commit()

    def commit(self) -> None:
        """All that git would take."""
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message=t")

    def clone(self, root: Path) -> "Checkout":
        """A fresh clone of what is committed here."""
        self.run("git", "clone", "--quiet", ".", str(root))
        other = object.__new__(Checkout)
        other.root = root
        (root / ".venv").symlink_to(BIN.parent)
        return other

    def run(self, *command: str, fails: bool | None = False, **environment: str) -> str:
        """Run `command` in the checkout; return what it printed. Fails the test unless the exit code is as expected; None: any."""
        done = subprocess.run(command, cwd=self.root, env=self.settings() | environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        assert fails in (done.returncode != 0, None), f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(command, cwd=self.root, env=self.settings() | environment, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    @staticmethod
    def settings() -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "MAKE", "PYTEST_"))}
        return known | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def running(self) -> list[psutil.Process]:
        """What runs in this checkout."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()) == self.root and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def processes(self) -> list[str]:
        """Its command lines."""
        found = []
        for process in self.running():
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(process.cmdline()))
        return found

    def end(self) -> None:
        """kill -9 of all that runs here, whoever's child it is."""
        while (left := self.running()):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def make(self, target: str, **options) -> str:
        """`make target` with the packages that are installed already."""
        return self.run("make", "-o", ".venv/.installed", target, **options)

    def edit(self, name: str, pattern: str, replacement: str) -> None:
        text, count = re.subn(pattern, replacement, (self.root / name).read_text())
        assert count == 1, f"{pattern} is {count} times in {name}"
        (self.root / name).write_text(text)

    def train_for(self, steps: int, validate_every: int) -> None:
        """Longer trainings than the 2 steps of scale tiny."""
        settings = "batch: 4, steps: {}, learning_rate: 0.05, power: 0.9, validate_every: {}"
        self.edit("params.yaml", re.escape(settings.format(2, 2)), settings.format(steps, validate_every))

    def tables(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.root / "reports/tables").iterdir())}

    def mlflow(self) -> list[str]:
        """The runs in MLflow's store: experiment, name and final mIOU."""
        printed = self.run("python", "-c", """
import mlflow
from pipeline.tracking import store
client = mlflow.MlflowClient(store.uri())
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        print("run:", experiment.name, run.info.run_name, run.data.metrics.get("miou"))
""")
        return sorted(line for line in printed.splitlines() if line.startswith("run: "))


def ran(printed: str) -> set[str]:
    """The stages whose commands `dvc repro` says it ran."""
    return set(re.findall(r"Running stage '([^']+)'", printed))
