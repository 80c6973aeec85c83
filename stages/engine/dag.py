"""The stages of dvc.yaml as a graph, for the Snakefile. DVC decides what is stale; Snakemake only schedules.

This, repro.py and guard.py look inside DVC, nothing else does: `Repo().index` and `Repo().status()` are no documented interfaces.

Example:  python -m stages.engine.dag      (says what is stale; exit code 0: nothing, 3: something)
"""
import contextlib
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import files, study as studies
from stages import checks

STALE = 3
JOB = "STUDY_PID=$PPID bash stages/engine/job.sh {params.stage} {output} {params.total} {threads} {resources.gpu}"


@dataclass
class Stage:
    """One stage as Snakemake sees it. `marker`: an empty file that is there while the stage is up to date."""
    name: str
    marker: str
    upstream: list[str] = field(default_factory=list)       # markers of the stages whose outputs it reads
    resources: dict[str, int] = field(default_factory=dict)  # dvc.yaml's `meta`
    priority: int = 0                                        # minutes of the longest way from here to the study's end

    @property
    def rule(self) -> str:
        return re.sub(r"\W", "_", self.name)


@contextlib.contextmanager
def repository():
    """DVC's repository object, which here reads params.yaml once, not once a stage."""
    from dvc.dependency import param
    from dvc.repo import Repo

    from stages.engine.repro import mend
    mend()
    plain, seen = param.load_path, {}

    def load_path(path, fs, **options):
        if path not in seen:
            seen[path] = plain(path, fs, **options)
        return seen[path]

    param.load_path = load_path
    try:
        with Repo(_wait_for_lock=True) as repo:
            yield repo
    finally:
        param.load_path = plain


def stages(repo=None) -> list[Stage]:
    """All stages of dvc.yaml, upstream before downstream."""
    import networkx
    if repo is None:
        with repository() as opened:
            return stages(opened)
    graph, folder = repo.index.graph, studies.load().artifacts(".markers")
    order = list(networkx.dfs_postorder_nodes(graph))        # DVC's edges point from a stage to the ones it needs
    found = {node: Stage(node.addressing, str(folder / node.addressing)) for node in order}
    for node in reversed(order):
        stage = found[node]
        stage.upstream = [found[needed].marker for needed in graph.successors(node)]
        stage.resources = dict(node.meta or {})
        later = (found[user].priority for user in graph.predecessors(node))
        stage.priority = stage.resources.get("runtime", 1) + max(later, default=0)
    return [found[node] for node in order]


def refresh() -> dict[str, list]:
    """Check the settings, then bring the markers in line with DVC. Returns {stage: why DVC calls it stale}.

    For the one process that is `alone`, before anything runs. Raises StudyError.
    """
    study = studies.load()
    checks.check(study)
    stale, found = _status()
    _mark(found, stale, study.artifacts(".markers"))
    return stale


def _status() -> tuple[dict[str, list], list[Stage]]:
    """{stage: why DVC calls it stale} and all stages, once no other DVC is at work. StudyError where DVC cannot work here."""
    from dvc.lock import LockError
    from dvc.scm import SCMError
    from dvc.utils.serialize import EncodingError
    from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

    from stages.engine.repro import refill
    told = False
    while True:
        try:
            with repository() as repo:
                if "not in cache" in str(stale := repo.status()):
                    refill(repo)
                    stale = repo.status()
                return stale, stages(repo)
        except (YAMLSyntaxError, YAMLValidationError, EncodingError) as error:
            if Path(error.path).name != "dvc.lock":
                raise
            if b"<<<<<<<" in Path("dvc.lock").read_bytes():
                raise studies.StudyError("dvc.lock has a merge conflict: git checkout --ours dvc.lock (or --theirs), then the "
                                         "same command again") from None
            Path("dvc.lock").unlink()
            print("dvc.lock was half written when something was killed; begun anew: the run cache has the results",
                  file=sys.stderr)
        except SCMError as error:
            raise studies.StudyError("DVC wants a git checkout: clone the repository, not its ZIP, or run  git init  here "
                                     f"({error})") from error
        except OSError as error:
            raise studies.StudyError(f"DVC cannot work in this folder: {error}") from error
        except LockError as error:
            if not told:
                print(f"waiting for DVC, which is at work in this folder: {error}", file=sys.stderr)
            told = True
            time.sleep(1)


def _mark(found: list[Stage], stale: dict[str, list], folder: Path) -> None:
    """Leave in `folder` a marker for each stage that is up to date, and none for a stale one, what comes after it, or others."""
    kept, now = {}, None
    folder.mkdir(parents=True, exist_ok=True)
    for stage in found:
        marker = kept[stage.marker] = Path(stage.marker)
        if stage.name in stale or not all(kept[above].exists() for above in stage.upstream):
            marker.unlink(missing_ok=True)
            continue
        marker.touch()
        now = now or marker.stat().st_mtime_ns               # all alike: none looks newer than another
        os.utime(marker, ns=(now, now))
    for marker in set(folder.iterdir()) - set(kept.values()):  # of stages that are no more
        marker.unlink()


def alone() -> None:
    """Wait until no other study runs in this folder, and keep others waiting until this process ends, however it ends."""
    global _alone
    _alone = files.alone(studies.ARTIFACTS / ".study.lock", "another study runs in this folder; waiting for it to end")
    _alone.__enter__()


def start() -> None:
    """`refresh` for the process that schedules; bad settings end it with one line."""
    try:
        alone()
        refresh()
        shutil.rmtree(studies.load().artifacts(".failed"), ignore_errors=True)
    except studies.StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def failed() -> None:
    """Name the stages that failed, each of which has left an empty file (job.sh), at the end of what may be a long log."""
    print("the study did not finish. The same command goes on from here.", file=sys.stderr)
    if names := sorted(path.name for path in studies.load().artifacts(".failed").glob("*")):
        print(f"FAILED: {', '.join(names)}. The errors are above; dvc repro {names[0]} shows this one again", file=sys.stderr)


def worth_saying():
    """A filter of Snakemake's log: without two lines a job that say nothing, without its command where it fails (stage and
    job.sh have said that, and why), and without the error that Ctrl-C or SIGTERM is."""
    hidden = ["Select jobs", "Execute ", "RuleException:\nCalledProcessError"]

    def kept(record) -> bool:
        if (message := str(record.msg)).startswith(("Terminating processes", "Will exit after finishing")):
            hidden.append("WorkflowError")
        return not message.startswith(tuple(hidden))
    return kept


def main():
    """Say which stages are stale. Exit code 0: none, 3: some."""
    alone()
    stale = refresh()
    if stale:
        some = ", ".join(list(stale)[:6]) + (", ..." if len(stale) > 6 else "")
        print(f"{len(stale)} stages to run, and what depends on them: {some}")
        sys.exit(STALE)
    print("nothing to do: all stages are up to date")


if __name__ == "__main__":
    from stages import console
    console.run(main)
