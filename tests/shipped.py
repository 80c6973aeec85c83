"""The study as it is shipped: runs, strategies, claims and a scale that somebody chose are no matter of tests that count rows."""
import subprocess

import pytest

from pipeline import paper, study as studies, written
from pipeline.paper.claims import CLAIMS

OTHERS = {"coco-x65", "own-mobilenet", "t6-test"}  # runs in no table of the paper


def study() -> studies.Study:
    loaded = studies.load()
    cells = {(row["run"], row["strategy"]) for table in paper.tables().values() for row in table.rows if "run" in row}
    runs = {run for run, _ in cells} | OTHERS
    evaluate = {run: tuple(name for name in strategies if (run, name) in cells or run in OTHERS)
                for run, strategies in loaded.evaluate.items() if run in runs}
    return loaded.model_copy(update={"scale": "miniature", "evaluate": evaluate,
                                     "runs": {name: run for name, run in loaded.runs.items() if name in runs}})


def claims() -> dict:
    """claims.yaml without those of one's own."""
    return {name: claim for name, claim in written.read(CLAIMS).items() if {"predicts", "status"} & set(claim)}


def committed(path: str) -> str:
    """A file as git's HEAD has it. Skips where that is not what was shipped: somebody committed results of their own, or no git."""
    def git(*arguments):
        try:
            return subprocess.run(["git", *arguments], cwd=studies.ROOT, capture_output=True, text=True, check=False)
        except OSError:
            pytest.skip("there is no git here")
    if git("cat-file", "-e", "HEAD:dvc.lock").returncode == 0 or (found := git("show", f"HEAD:{path}")).returncode:
        pytest.skip(f"{path} is not as it was shipped")
    return found.stdout
