"""The training loop: one for segmentation and for ImageNet pretraining, on one device or several, resumable to the bit."""
import math
import time
from collections.abc import Callable

import torch
from torch import nn

from pipeline import progress
from pipeline.models import device as devices
from pipeline.records import History
from pipeline.schema import Training
from pipeline.study import StudyError
from pipeline.training import batch_norm, distributed, interruption
from pipeline.training.acceleration import compiled, memory_advice
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.schedule import learning_rate
from pipeline.training.synchronised import parallel

LOG_EVERY = 20            # steps; a GPU runs ahead of Python between them
CHECKPOINT_EVERY = 600.0  # seconds at least between checkpoints, besides those at each validation
EXPLODED = 1e4            # a cross-entropy that never comes back; guessing among 21 classes gives 3


class Window:
    """The steps since the last log line: their losses, still on the device, and their images."""

    def __init__(self, ids: list[str]):
        self.ids = ids
        self.losses = []
        self.numbers = []
        self.began = time.perf_counter()

    def state(self) -> dict:
        seconds = time.perf_counter() - self.began if self.losses else 0.0  # a window that has just been closed is none
        return {"losses": self.losses, "numbers": self.numbers, "seconds": seconds}

    def resume(self, state: dict) -> None:
        self.losses = [loss / distributed.world() for loss in state["losses"]]  # one process's: several save no open window
        self.numbers = state["numbers"]
        self.began = time.perf_counter() - state["seconds"]

    def close(self, title: str, step: int) -> dict[str, float]:
        """Mean loss and images per second of the window that ends after `step`. This waits for the device.

        StudyError where a loss is not finite or exploded, with that step and its images.
        """
        losses = distributed.total(torch.stack(self.losses)).tolist()
        images, seconds = sum(map(len, self.numbers)), time.perf_counter() - self.began
        for at, (loss, numbers) in enumerate(zip(losses, self.numbers), step - len(losses) + 1):
            if not math.isfinite(loss) or loss > EXPLODED:
                batch = ", ".join(self.ids[number] for number in numbers)
                raise StudyError(f"{title}: the loss is {loss:g} at step {at}. Lower learning_rate in params.yaml, or look at "
                                 f"the images of that batch: {batch}")
        self.losses, self.numbers = [], []
        return {"loss": sum(losses) / len(losses), "images_per_second": images / seconds}


def fit(model: nn.Module, optimiser: torch.optim.Optimizer, batches, loss_of: Callable, validate: Callable[[], dict[str, float]],
        training: Training, checkpoint: Checkpoint, title: str, ignored: int = -100) -> tuple[History, dict[str, float]]:
    """Train `model` for `training.steps` steps; return its curves and the last validation's metrics.

    batches: a stream such as augmentation.Crops, of inputs, labels and the whole batch's image numbers. loss_of(network, inputs,
    labels) -> summed loss of the labels that are not `ignored`. validate() -> metrics in percent.
    Raises StudyError when the loss is not finite, or memory runs out.
    """
    _check_batch(title, training, model)
    device = next(model.parameters()).device
    history, window = History(), Window(batches.ids)
    first, metrics = 0, {}
    if (state := checkpoint.load(device)) is not None:
        _resume(state, model, optimiser, batches, window, history)
        first, metrics = state["step"], state["metrics"]
    del state  # a second set of weights on the device
    network = parallel(model)
    forward = compiled(network) if training.compile else network
    model.train()
    saved, advice = time.perf_counter(), memory_advice(training)
    with (progress.bar(title, training.steps, "step", initial=first, disable=distributed.rank() > 0, drawn=False) as bar,
          interruption.deferred(title, wanted=distributed.world() == 1) as interrupted):
        for step in range(first, training.steps):
            rate = learning_rate(training, step)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["multiplier"]
            with devices.memory_explained(advice):
                inputs, labels, numbers = batches()
                optimiser.zero_grad(set_to_none=True)
                window.losses.append(gradients(network, forward, inputs, labels, loss_of, ignored, training.accumulate,
                                               training.cpu_bfloat16))
                window.numbers.append(numbers)
                optimiser.step()
            done = step + 1
            bar.update()
            validating = done % training.validate_every == 0 or done == training.steps
            measuring = validating or done % LOG_EVERY == 0
            if not measuring and not interrupted():
                continue
            if measuring:
                with devices.memory_explained(advice):
                    measured = window.close(title, done)
                gauges = devices.gauges(device)
                history.log(done, learning_rate=rate, **measured, **gauges)
                if validating:
                    model.eval()
                    with torch.inference_mode():
                        metrics = validate()
                    model.train()
                    history.log(done, **metrics)
                checkpoint.show(history)
                bar.set_postfix_str(shown(measured, metrics, gauges, rate), refresh=False)
            stopping = interrupted() and done < training.steps  # asked once: it may change at any time
            if validating or stopping or time.perf_counter() - saved > CHECKPOINT_EVERY:
                checkpoint.save(model=model.state_dict(), optimiser=optimiser.state_dict(), batches=batches.state(), step=done,
                                window=window.state(), random=devices.random_state(),
                                history=[list(row) for row in history.rows], metrics=metrics)
                saved = time.perf_counter()
                if stopping:
                    raise KeyboardInterrupt
            window.began = time.perf_counter()
    return history, metrics


def _check_batch(title: str, training: Training, model: nn.Module) -> None:
    """StudyError where a batch cannot be shared out evenly, or batch norm would learn from single images."""
    if training.batch % (distributed.world() * training.accumulate):
        raise StudyError(f"{title}: a batch of {training.batch} cannot be split evenly over {distributed.world()} processes "
                         f"times accumulate {training.accumulate}")
    if training.batch == training.accumulate and batch_norm.learns(model):
        way = f"accumulate has to be below a batch of {training.batch}" if training.batch > 1 else "batch has to be 2 or more"
        raise StudyError(f"{title}: batch norm cannot learn from one image at a time: {way}")


def _resume(state: dict, model: nn.Module, optimiser: torch.optim.Optimizer, batches, window: Window, history: History) -> None:
    """Put everything back as it was when the checkpoint `state` was saved."""
    model.load_state_dict(state["model"])
    for group, own in zip(state["optimiser"]["param_groups"], optimiser.param_groups):
        group["fused"] = own["fused"]  # as this device has it: the checkpoint may be another one's
    optimiser.load_state_dict(state["optimiser"])
    batches.resume(state["batches"])
    window.resume(state["window"])
    devices.set_random_state(state["random"])
    history.rows = [tuple(row) for row in state["history"]]


def shown(measured: dict[str, float], metrics: dict[str, float], gauges: dict[str, float], rate: float) -> str:
    """What the line of progress says, in 50 columns: loss, first metric, images per second, GPU memory and utilisation, rate."""
    speed = measured["images_per_second"]
    parts = [f"loss={measured['loss']:.3f}", *[f"{name}={value:.1f}" for name, value in metrics.items()][:1],
             f"{speed:.{int(speed < 100)}f}img/s"]
    forms = {"gpu_memory_gb": "{:.3g}GB", "gpu_utilisation": "{:.0f}%"}
    return " ".join([*parts, *(form.format(gauges[name]) for name, form in forms.items() if name in gauges), f"lr={rate:.2g}"])


def gradients(network: nn.Module, forward: Callable, inputs: torch.Tensor, labels: torch.Tensor, loss_of: Callable, ignored: int,
              parts: int, cpu_bfloat16: bool = False) -> torch.Tensor:
    """Add up the gradients of the mean loss over the whole batch, of all processes; return this process's share of that loss.

    The batch is computed in `parts` parts, each with batch norm statistics of its own: that and the memory is all the difference.
    """
    count = distributed.total((labels != ignored).sum()).clamp(min=1)
    share = 0
    for part, (some, their) in enumerate(zip(inputs.chunk(parts), labels.chunk(parts)), 1):
        with distributed.exchange(network, now=part == parts):
            with devices.autocast(inputs.device, cpu_bfloat16):
                loss = loss_of(forward, some, their) / count
            (loss * distributed.world()).backward()  # the processes' gradients are averaged, their shares of the loss add up
        share = share + loss.detach()
    return share
