"""A stage for test_torchrun.py: python -m tests.cluster.failing HOW RANK... The processes RANK fail so; the others leave a file in
--folder and wait for them."""
import errno
import os
import signal
import time
from pathlib import Path

from pipeline.study import StudyError
from stages import console
from stages.engine import torchrun


def main(how: str, ranks: list[str], folder: Path = Path("/dev/null")):
    if torchrun.relaunch_on_gpus():
        return
    if os.environ["RANK"] not in ranks:
        if folder.is_dir():
            (folder / os.environ["RANK"]).touch()
        time.sleep(60)
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"said": StudyError("out of memory"), "disk": OSError(errno.ENOSPC, "No space left on device", "model.pt"),
           "bug": ValueError("not foreseen")}[how]


if __name__ == "__main__":
    console.run(main)
