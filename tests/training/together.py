"""A script for test_distributed.py: python tests/training/together.py FOLDER PORT.

One network is trained by one process and by two, on a CPU, in double and in single precision and in bfloat16; each process leaves
its losses and the sums of its tensors in FOLDER. In double precision, two trainings are stopped within a log line's steps and gone
on with by another number of processes.
"""
import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch.nn import functional as F

from pipeline.models.layers import resize
from pipeline.schema import Training
from pipeline.training import batch_norm, distributed, schedule
from pipeline.training.acceleration import adapt
from pipeline.training.augmentation import Crops
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import fit
from tests.training.forked import forked
from tests.training.networks import network
from tests.training.small import Memory

STEPS = 20


def pictures() -> Memory:
    """Seven, of two colours in two textures, with void."""
    generator, pairs = torch.Generator().manual_seed(1), []
    for _ in range(7):
        label = (torch.rand(5, 6, generator=generator) * 3).to(torch.uint8).repeat_interleave(12, 0).repeat_interleave(12, 1)
        noise = torch.randint(60, (*label.shape, 3), generator=generator)
        image = (noise + label[..., None] * torch.tensor([40, 70, 20])).clamp(max=255).to(torch.uint8)
        label[:3] = 255
        pairs.append((image, label))
    return Memory(pairs)


def train(folder: Path, name: str, dtype: torch.dtype, stop_in: int | None = None, learning_rate: float = 0.02, accumulate: int = 1,
          validate_every: int = 1) -> None:
    """stop_in: the step, from 1, that SIGTERM comes in."""
    with distributed.joined():
        torch.manual_seed(0)
        torch.cpu.get_capabilities = lambda: {"avx512_bf16": True}  # others compute it too, slowly
        in_bfloat16, steps = dtype is torch.bfloat16, [0]
        dtype = torch.float32 if in_bfloat16 else dtype
        training = Training(split="train", crop=49, batch=8, steps=STEPS, learning_rate=learning_rate, power=0.9,
                            validate_every=validate_every, accumulate=accumulate, cpu_bfloat16=in_bfloat16)
        model = network("resnet101", classes=3).to(dtype=dtype)
        batch_norm.set_decay(model, 0.95, training.batch_norm_decay, STEPS)
        adapt(model, training)

        def loss_of(network, pixels, labels):
            logits = resize(network((pixels / 127.5 - 1).to(dtype)).to(dtype), labels.shape[-2:])
            steps[0] += 1
            if steps[0] == stop_in:
                os.kill(os.getpid(), signal.SIGTERM)
            return F.cross_entropy(logits, labels, ignore_index=255, reduction="sum")

        crops = Crops(pictures(), training.crop, training.batch, 0, distributed.rank(), distributed.world())
        checkpoint, optimiser = Checkpoint(folder / f"{name}.pt", "inputs"), schedule.optimiser(model, 1e-4, learning_rate)
        history, _ = fit(model, optimiser, crops, loss_of, dict, training, checkpoint, name, 255)
        losses = [row[2] for row in history.rows if row[1] == "loss"]
        sums = {key: float(value.double().abs().sum()) for key, value in model.state_dict().items()}
        (folder / f"{name}-{distributed.rank()}.json").write_text(json.dumps({"losses": losses, "sums": sums}))


def processes(folder: Path, world: int, port: str, *settings, **more) -> list[int]:
    return forked(lambda: train(folder, *settings, **more), world, port)


if __name__ == "__main__":
    to, free_port = Path(sys.argv[1]), sys.argv[2]
    for count in (1, 2):
        everyone = [0] * count
        assert processes(to, count, free_port, f"double-{count}", torch.float64, accumulate=2) == everyone
        assert processes(to, count, free_port, f"single-{count}", torch.float32, learning_rate=0.002) == everyone
        assert processes(to, count, free_port, f"bfloat16-{count}", torch.bfloat16, learning_rate=0.002) == everyone
        moved = f"moved-{count}", torch.float64
        stopped = processes(to, 3 - count, free_port, *moved, stop_in=11, validate_every=4)
        assert (stopped == [2 << 8] if count == 2 else all(stopped)) and (to / f"moved-{count}.pt").exists()
        assert processes(to, count, free_port, *moved, validate_every=4) == everyone
    assert processes(to, 1, free_port, "unmoved-1", torch.float64, validate_every=4) == [0]
