"""A stage for test_torchrun.py: python -m tests.cluster.failing HOW RANK... The processes RANK fail so, the others wait for them."""
import errno
import os
import signal
import time

from pipeline.study import StudyError
from stages import console, torchrun


def main(how: str, ranks: list[str]):
    if torchrun.relaunch_on_gpus():
        return
    if os.environ["RANK"] not in ranks:
        time.sleep(60)
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"said": StudyError("out of memory"), "disk": OSError(errno.ENOSPC, "No space left on device", "model.pt"),
           "bug": ValueError("not foreseen")}[how]


if __name__ == "__main__":
    console.run(main)
