"""What a stage was started with must still be there when it ends, and it must not outlive those who started it: DVC or torchrun.

DVC records the hashes of a stage's dependencies after its command ran (treeverse/dvc#11058), so an edit made meanwhile would be
recorded as if it had been used. The guard fails the stage instead and says what moved.
"""
import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import yaml

from pipeline.study import ROOT, StudyError

PARAMS = ROOT / "params.yaml"
GRACE = 20.0  # seconds that a training has to finish its step and save


@contextlib.contextmanager
def unchanged():
    """StudyError at the end of the block if code or settings that its stage depends on were edited. Only under DVC."""
    if {"DVC_STAGE", "TORCHELASTIC_RUN_ID"} & os.environ.keys():  # started by DVC or by torchrun
        threading.Thread(target=_end_with_parents, daemon=True).start()
    if not (stage := os.environ.get("DVC_STAGE")):
        yield
        return
    before = _files()
    yield
    if (now := _files()) == before:
        return
    if (declared := _declared(stage)) is None:
        moved = ["params.yaml, which no longer has this stage"]
    else:
        paths, keys = declared
        moved = [str(path.relative_to(ROOT)) for path in sorted(before.keys() | now.keys())
                 if before.get(path) != now.get(path) and any(path.is_relative_to(each) for each in paths)]
        moved += [f"{key} in params.yaml" for key in keys if _value(before[PARAMS], key) != _value(now[PARAMS], key)]
    if moved:
        raise StudyError(f"edited while stage {stage} ran: {', '.join(moved)}. Run the same command again")


def _files() -> dict[Path, bytes]:
    """The settings, and whatever is in the folders of the code but Python's own: what the report is made of is no code only."""
    code = (path for folder in ("pipeline", "stages") for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in (PARAMS, *code) if "__pycache__" not in path.parts}


def _declared(stage: str) -> tuple[list[Path], list[str]] | None:
    """The files and folders, and the keys of params.yaml, that `stage` depends on by dvc.yaml; None where there is none of it."""
    from dvc.dependency.param import ParamsDependency

    from stages.engine.dag import repository
    with repository() as repo:
        if (found := next((each for each in repo.index.stages if each.addressing == stage), None)) is None:
            return None
        params = [each for each in found.deps if isinstance(each, ParamsDependency)]
        return [Path(each.fs_path) for each in found.deps if each not in params], [key for each in params for key in each.params]


def _end_with_parents(every: float = 1.0) -> None:
    """End this process and its children once what started it, or the Snakemake above that (STUDY_PID), is gone. A training, which
    listens to SIGTERM (interruption.py), saves first."""
    import psutil
    own = psutil.Process()
    with contextlib.suppress(psutil.NoSuchProcess):
        watched = [_starter(own)]
        if (study := os.environ.get("STUDY_PID")):
            watched.append(psutil.Process(int(study)))
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in watched):
            time.sleep(every)
    children = _stopped(own)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    if callable(signal.getsignal(signal.SIGTERM)):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
    os._exit(137)


def _stopped(own) -> set:
    """Every process below `own` (psutil.Process), stopped: what is stopped starts no others."""
    import psutil

    def runs(process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        return False

    children = set()
    while fresh := set(own.children(recursive=True)) - children:
        children |= fresh
        for child in fresh:
            with contextlib.suppress(psutil.Error):
                child.suspend()
        patience = time.monotonic() + 1.0  # a process stops later than it is told to, and may start another until it does
        while any(map(runs, fresh)) and time.monotonic() < patience:
            time.sleep(0.001)
    return children


def _starter(own):
    """The process that started `own` (psutil.Process), past shells left between; NoSuchProcess if it is gone."""
    import psutil
    shells = ("sh", "dash", "bash", "zsh", "fish")
    found = next((process for process in own.parents() if not (process.name() in shells and "-c" in process.cmdline())), own)
    if found.pid == 1 and not found.name().startswith(("dvc", "python")):  # an orphan's new parent; in a container DVC may be 1
        raise psutil.NoSuchProcess(1)
    return found


def _value(text: bytes, key: str):
    """What dotted `key` holds in the settings `text`; None where it is not there."""
    value = yaml.safe_load(text)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
