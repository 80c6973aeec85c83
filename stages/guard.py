"""What a stage was started with must still be there when it ends.

DVC records the hashes of a stage's dependencies after its command ran (treeverse/dvc#11058), so an edit made meanwhile would be
recorded as if it had been used. The guard fails the stage instead and says what moved.
"""
import contextlib
import os
import sys
from pathlib import Path

import yaml

from pipeline.study import ROOT, StudyError

PARAMS = ROOT / "params.yaml"


@contextlib.contextmanager
def unchanged():
    """StudyError at the end of the block if code that it used, or settings that its stage depends on, were edited. Only under DVC."""
    if not (stage := os.environ.get("DVC_STAGE")):
        yield
        return
    code = {path: path.read_bytes() for folder in ("pipeline", "stages") for path in (ROOT / folder).rglob("*.py")}
    settings = PARAMS.read_bytes()
    yield
    used = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    moved = [str(path.relative_to(ROOT)) for path in sorted(used & code.keys()) if not path.exists() or path.read_bytes() != code[path]]
    if (now := PARAMS.read_bytes()) != settings:
        from stages import dag
        moved += [f"{key} in params.yaml" for key in dag.params(stage) if _value(settings, key) != _value(now, key)]
    if moved:
        raise StudyError(f"edited while stage {stage} ran: {', '.join(moved)}. Run the same command again: it starts with what is there now")


def _value(text: bytes, key: str):
    """What dotted `key` holds in the settings `text`; None where it is not there."""
    value = yaml.safe_load(text)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
