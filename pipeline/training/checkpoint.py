"""Where an interrupted training goes on: kept outside the stage's outputs, removed when the stage is done."""
import contextlib
import errno
import io
import json
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn

from pipeline.datasets import shards
from pipeline.files import digest, write_file
from pipeline.models import weights
from pipeline.records import History
from pipeline.training import distributed

STATE = {"model", "optimiser", "batches", "step", "window", "random", "history", "metrics"}  # what the loop goes on from


def inputs_digest(*parts) -> str:
    """SHA-256 of what a training depends on: `parts`, as files.digest takes them, and the code of training, models and shards."""
    return digest(*parts, Path(__file__).parent, Path(weights.__file__).parent, Path(shards.__file__))


class Checkpoint:
    """The file of one training. inputs: the `inputs_digest` of what it depends on."""

    def __init__(self, path: Path, inputs: str):
        self.path, self.inputs = path, inputs
        self.live, self.shown = path.with_suffix(".jsonl"), 0

    def load(self, device: torch.device) -> dict | None:
        """The saved state, or None where there is none, it is damaged, or it belongs to other inputs."""
        if not self.path.exists():
            return None
        problem = "was left by other settings, data or code"
        try:
            with zipfile.ZipFile(self.path) as file:
                if wrong := file.testzip():  # its checksums, at which torch.load does not look
                    raise zipfile.BadZipFile(wrong)
            state = torch.load(self.path, map_location=device, weights_only=True)
            if lacking := STATE - state.keys():
                raise KeyError(*lacking)
            if state["inputs"] == self.inputs:
                return state
        except Exception as error:  # what is read from damaged bytes may fail in any way
            if isinstance(error, MemoryError) or "memory" in str(error) or getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
                raise  # too little memory, or a disk that does not answer: the file is whole
            problem = f"is damaged ({type(error).__name__})"
        if distributed.rank() == 0:
            print(f"{self.path} {problem}: beginning anew", file=sys.stderr)
        return None

    def save(self, **state) -> None:
        if distributed.rank() == 0:
            content = io.BytesIO()  # of a full disk torch's own writer says nothing that can be understood
            torch.save({"inputs": self.inputs, **state}, content)
            write_file(self.path, content.getbuffer())

    def show(self, history: History) -> None:
        """Append what is new in `history` to a file beside the checkpoint, for `stages.ui` to draw while the training runs."""
        if distributed.rank() == 0:
            with contextlib.suppress(OSError):  # a curve to look at stops no training
                self.live.parent.mkdir(exist_ok=True)
                with self.live.open("a" if self.shown else "w") as file:
                    file.writelines(f"{json.dumps(row)}\n" for row in history.rows[self.shown:])
                self.shown = len(history.rows)

    def finish(self, model: nn.Module, path: Path) -> None:
        """Process 0 writes `model`'s weights to `path` and removes `show`'s file; the checkpoint stays: the stage may fail."""
        if distributed.rank() == 0:
            weights.save(model, path)
            self.live.unlink(missing_ok=True)
