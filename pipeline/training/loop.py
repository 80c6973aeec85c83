"""The training loop: one for segmentation and for ImageNet pretraining, resumable to the bit."""
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from pipeline.models.device import autocast
from pipeline.records import History, atomic
from pipeline.study import StudyError, Training
from pipeline.training.schedule import poly

LOG_EVERY = 20


def digest(*parts) -> str:
    """A digest of what a training depends on: JSON-able settings, and paths whose contents count."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.read_bytes() if isinstance(part, Path) else json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()


class Checkpoint:
    """Where an interrupted training goes on; kept outside the stage's outputs, removed when the training is done."""

    def __init__(self, path: Path, inputs: str):
        self.path, self.inputs = path, inputs

    def load(self, device: torch.device) -> dict | None:
        """The saved state, or None where there is none or it belongs to other inputs."""
        if not self.path.exists():
            return None
        state = torch.load(self.path, map_location=device, weights_only=True)
        return state if state["inputs"] == self.inputs else None

    def save(self, **state) -> None:
        with atomic(self.path) as partial:
            torch.save({"inputs": self.inputs, **state}, partial)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def fit(model: nn.Module, optimiser: torch.optim.Optimizer, batches, loss_of: Callable, validate: Callable[[], dict[str, float]],
        training: Training, checkpoint: Checkpoint, title: str) -> tuple[History, dict[str, float]]:
    """Train `model` for `training.steps` steps; return its curves and the last validation's metrics.

    batches: a stream such as augmentation.Crops. loss_of(model, batch) -> scalar. validate() -> metrics in percent.
    Raises StudyError when the loss is not finite, naming the step and the images seen since the last check.
    """
    device = next(model.parameters()).device
    history, first = History(), 0
    if (state := checkpoint.load(device)) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        batches.resume({key: value.cpu() if torch.is_tensor(value) else value for key, value in state["batches"].items()})
        torch.set_rng_state(state["random"].cpu())
        history.rows, first = [tuple(row) for row in state["history"]], state["step"]
    metrics, total, seen, began = {}, torch.zeros((), device=device), [], time.perf_counter()
    model.train()
    bar = tqdm(range(first, training.steps), initial=first, total=training.steps, desc=title, unit="step", mininterval=1, dynamic_ncols=True)
    for step in bar:
        learning_rate = poly(training.learning_rate, step, training.steps, training.power)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * group["multiplier"]
        batch = batches()
        seen += batch[-1]
        with autocast(device):
            loss = loss_of(model, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach()
        done = step + 1
        if done % LOG_EVERY == 0 or done == training.steps:
            steps = (done - 1) % LOG_EVERY + 1
            mean = total.item() / steps
            if mean != mean or mean == float("inf"):
                raise StudyError(f"{title}: the loss is {mean} by step {done}; lower learning_rate. Images seen since step {done - steps}: {seen}")
            rate = len(seen) / (time.perf_counter() - began)
            history.log(done, loss=mean, learning_rate=learning_rate, images_per_second=rate)
            total.zero_()
            seen, began = [], time.perf_counter()
            bar.set_postfix(loss=f"{mean:.3f}", **{name: f"{value:.1f}" for name, value in metrics.items()})
        if done % training.validate_every == 0 or done == training.steps:
            model.eval()
            with torch.inference_mode():
                metrics = validate()
            model.train()
            history.log(done, **metrics)
            if done < training.steps:
                checkpoint.save(model=model.state_dict(), optimiser=optimiser.state_dict(), batches=batches.state(),
                                random=torch.get_rng_state(), history=[list(row) for row in history.rows], step=done)
            began = time.perf_counter()
    return history, metrics
