"""What a stage was started with must still be there when it ends, and it must not outlive those who started it.

DVC records the hashes of a stage's dependencies after its command ran (treeverse/dvc#11058), so an edit made meanwhile would be
recorded as if it had been used. The guard fails the stage instead and says what moved.
"""
import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import yaml

from pipeline.study import ROOT, StudyError

PARAMS = ROOT / "params.yaml"


@contextlib.contextmanager
def unchanged():
    """StudyError at the end of the block if code it used, or settings that its stage depends on, were edited. Only under DVC."""
    if not (stage := os.environ.get("DVC_STAGE")):
        yield
        return
    threading.Thread(target=_end_with_parents, daemon=True).start()
    code = {path: path.read_bytes() for folder in ("pipeline", "stages") for path in (ROOT / folder).rglob("*.py")}
    settings = PARAMS.read_bytes()
    yield
    used = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    moved = [str(path.relative_to(ROOT)) for path in sorted(used & code.keys())
             if not path.exists() or path.read_bytes() != code[path]]
    if (now := PARAMS.read_bytes()) != settings:
        from stages import dag
        moved += [f"{key} in params.yaml" for key in dag.params(stage) if _value(settings, key) != _value(now, key)]
    if moved:
        raise StudyError(f"edited while stage {stage} ran: {', '.join(moved)}. Run the same command again")


def _end_with_parents(every: float = 1.0) -> None:
    """End this process and its children once DVC, or the Snakemake above it (STUDY_PID), is gone: a kill leaves none behind."""
    parent, study = os.getppid(), int(os.environ.get("STUDY_PID", os.getppid()))
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while os.getppid() == parent:
            os.kill(study, 0)
            time.sleep(every)
    import psutil
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(137)


def _value(text: bytes, key: str):
    """What dotted `key` holds in the settings `text`; None where it is not there."""
    value = yaml.safe_load(text)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
