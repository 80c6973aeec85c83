"""Several GPUs: `torchrun` starts a process a GPU, and together they compute what one process would.

Every process draws the same random numbers for the whole batch and takes each world-th image, starting at its rank. The loss is
divided by the valid pixels of the whole batch; synchronised.py has the layers that look across images.
"""
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline import records
from pipeline.models import device as devices
from pipeline.study import Study, StudyError


@contextlib.contextmanager
def joined():
    """Join the processes that torchrun started, over NCCL on GPUs and Gloo on CPUs; nothing to do where it started none."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:  # clusters may set the others
        yield
        return
    gpus, local = devices.count(), int(os.environ["LOCAL_RANK"])
    if gpus:
        if local >= gpus:
            raise StudyError(f"there are {gpus} GPUs for {os.environ['LOCAL_WORLD_SIZE']} processes: lower STUDY_GPUS (or "
                             "--nproc-per-node)")
        torch.cuda.set_device(local)
        dist.init_process_group("nccl", device_id=torch.device("cuda", local))  # a device that does not answer fails here
    else:
        dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()  # not after an error: NCCL would wait for the others, which wait for this one


def train_and_record(train: Callable, study: Study, name: str, out: Path, params: dict, started: float) -> list[Path]:
    """Train `name` by `train` (segmentation.train or classification.pretrain) with the processes that torchrun started.

    Process 0 leaves its curves, and its record with `params`, in `out`, and returns the files that are needed no more once the
    stage has ended well: its checkpoint, and what kills left while one was written. started: seconds since the epoch.
    """
    checkpoints = study.artifacts("checkpoints")
    with joined():
        history, metrics, device = train(study, name, out, checkpoints)
        if rank() > 0:
            return []
    history.save(out)
    provenance = records.provenance(started, device=device, threads=torch.get_num_threads())
    records.write(out, status="done", params=params, metrics=metrics, provenance=provenance)
    return [checkpoints / f"{name}.pt", *checkpoints.glob(f".{name}.pt.*.part")]


def rank() -> int:
    """Which process this is, from 0. Only process 0 writes files and shows progress."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def describe(device: torch.device) -> str:
    """The hardware that trains, for the record."""
    return f"{world()} x {devices.describe(device)}" if world() > 1 else devices.describe(device)


def total(value: torch.Tensor) -> torch.Tensor:
    """The sum of every process's `value`."""
    return Sum.apply(value) if world() > 1 else value


class Sum(torch.autograd.Function):
    """All-reduce that gradients flow through: each process's input reaches every process's output."""

    @staticmethod
    def forward(ctx, value):
        value = value.clone()
        dist.all_reduce(value)
        return value

    backward = forward


def exchange(network: nn.Module, now: bool):
    """Around forward and backward of one part of a batch: gradients are exchanged `now`, with the last part, or only added up."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) and not now else contextlib.nullcontext()
