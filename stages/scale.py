"""Choose the scale of the study: rewrites the one line `scale:` of params.yaml."""
import contextlib
import fcntl
import re
from typing import Annotated, get_args

import typer

from pipeline import files, study as studies, written
from pipeline.schema import DatasetName
from pipeline.study import Study, StudyError
from stages import console


def main(scale: Annotated[str, typer.Argument(help="a key of `scales` in params.yaml")]):
    """Choose the scale of the study: the line `scale:` of params.yaml, which `make study` and `dvc repro` go by.

    Example:  python -m stages.scale paper
    """
    study, path = studies.load(), studies.ROOT / "params.yaml"
    chosen(study, scale)
    if scale == study.scale:
        return
    if running():
        raise StudyError(f"a study of scale {study.scale} runs in this folder, and its stages read params.yaml: stop it, or wait "
                         f"until it ends, before you choose {scale}")
    text, count = re.subn(r"(?m)^(scale:\s*[\"']?)[\w-]+", rf"\g<1>{scale}", path.read_text("utf-8"), count=1)
    if not count:
        raise StudyError(f"params.yaml has no line that begins with scale: so write  scale: {scale}  yourself")
    files.write_file(path, text)
    print(f"params.yaml: scale is now {scale}; it was {study.scale}")


def chosen(study: Study, scale: str) -> Study:
    """The study at another scale; StudyError where params.yaml has none of that name, or less of it than DVC looks up."""
    console.pick("scale", scale, study.scales)
    raw = written.read(studies.ROOT / "params.yaml")
    if lines := [f"  {line}" for line in written.problems(raw, scale, get_args(DatasetName))]:
        raise StudyError(f"scale {scale} lacks something in params.yaml, so {study.scale} stays chosen:\n" + "\n".join(lines))
    return study.model_copy(update={"scale": scale})


def running() -> bool:
    """Whether a study runs in this folder: `dag.alone` holds its lock."""
    with contextlib.suppress(FileNotFoundError), open(studies.ARTIFACTS / ".study.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


if __name__ == "__main__":
    console.run(main)
