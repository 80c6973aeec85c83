"""How fast a training step is: ours against the same on a fixed batch that lies on the device already, against the common loop (a
DataLoader that decodes JPEGs, torchvision's v2 transforms on the CPU, contiguous layout), and against
segmentation_models_pytorch's DeepLabV3Plus with the encoder of that name, where it is installed.

    python benchmarks/training.py [--threads 2] [--rounds N] [SETTING ...]

Each variant is a process of its own. On a CPU they take turns step by step, so that what else the machine does meets them alike;
a ratio is the median of the rounds' ratios. On a GPU one is there after the other, for 30 steps a round; compiled is
one more, and so is bfloat16 on a CPU that has it.
"""
import argparse
import contextlib
import importlib.util
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import steps
from pipeline import records
from pipeline.models import device as devices

WARM, GPU_STEPS, ROUNDS = 2, 30, {"cpu": 15, "cuda": 3}
PAIRS = [("fixed batch", "ours", "of a fixed batch's pace"), ("ours", "ours, compiled", "times its own pace, compiled"),
         ("ours", "ours, bfloat16", "times its own pace, in bfloat16"),
         ("common loop", "ours", "times the common loop's pace"),
         ("smp", "ours, as smp's", "times smp's pace"),
         ("smp, memory kept", "ours, as smp's", "times the pace of smp's if it kept freed memory as ours does")]


def seconds(step: Callable[[], None], count: int, device: torch.device) -> float:
    """Wall time of a step; CPU time where one thread does it all, because other programs disturb that less."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    wait()
    began = clock()
    for _ in range(count):
        step()
    wait()
    return (clock() - began) / count


def madds(step: Callable[[], None]) -> float:
    """Multiply-adds of a step's convolutions: three times the forward pass's, as torch's counter errs on depthwise gradients."""
    with FlopCounterMode(display=False) as counter:
        step()
    return 3 * counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 2


def peak(step: Callable[[], None], device: torch.device) -> int:
    """Bytes that tensors take at most in a step on a GPU, weights included; 0 on a CPU."""
    if device.type == "cpu":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device)


def matrix_rate(device: torch.device) -> float:
    """Multiply-adds a second of this GPU's bf16 matrix product, measured at 8192."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    return 8192 ** 3 / min(seconds(lambda: a @ a, 20, device) for _ in range(3))


def serve(name: str, variant: str, folder: str, threads: int, end) -> None:
    """A process that takes steps when asked to: sends a step's multiply-adds and peak of memory, then the time of a step for each
    count that comes."""
    torch.set_num_threads(threads)
    setting = steps.SETTINGS[name]
    device = devices.pick() if setting.device == "cuda" else torch.device("cpu")
    step = steps.make(setting, variant, Path(folder), device)
    work = 0 if variant == "ours, compiled" else madds(step)  # the counter does not see into compiled code
    for _ in range(WARM + (steps.ahead(device) if variant == "common loop" else 0)):
        step()
    end.send((work, peak(step, device)))
    with contextlib.suppress(EOFError):  # the one that asks is gone
        while (count := end.recv()):
            end.send(seconds(step, count, device))


@contextlib.contextmanager
def process(name: str, variant: str, folder: str, threads: int):
    """Yield its multiply-adds and peak of memory, and a function from a count of steps to the time of one."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(name, variant, folder, threads, there))  # no daemon: a DataLoader starts others
    child.start()
    there.close()

    def ask(count: int) -> float:
        here.send(count)
        return here.recv()
    try:
        yield here.recv(), ask
    finally:
        here.close()
        child.join()


def measure(name: str, threads: int, rounds: int | None) -> None:
    """Print one setting's table."""
    setting = steps.SETTINGS[name]
    gpu = setting.device == "cuda"
    if gpu and not torch.cuda.is_available():
        print(f"{name}: not measured: no GPU")
        return
    variants = steps.variants(setting)
    if setting.encoder and not importlib.util.find_spec("segmentation_models_pytorch"):
        print(f"{name}: not measured against smp: segmentation_models_pytorch is not installed")
        variants = [variant for variant in variants if "smp" not in variant]
    times, work, held = {variant: [] for variant in variants}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        steps.pictures(Path(folder), round(setting.crop * 0.97))
        rounds = rounds or ROUNDS[setting.device]
        groups = [[variant] for variant in variants] * rounds if gpu else [variants]
        for group in groups:
            with contextlib.suppress(EOFError), contextlib.ExitStack() as stack:  # a process died: too little shared memory, say
                asked = {variant: stack.enter_context(process(name, variant, folder, threads)) for variant in group}
                for _ in range(1 if gpu else rounds):
                    for variant, ((work[variant], held[variant]), ask) in asked.items():
                        times[variant].append(ask(GPU_STEPS if gpu else 1))
    work |= {"ours, compiled": work.get("ours", 0)}
    times = {variant: values for variant, values in times.items() if values}
    median = {variant: statistics.median(values) for variant, values in times.items()}
    device = torch.device(setting.device)
    rate = matrix_rate(device) if gpu else None
    hardware = devices.describe(device) + ("" if gpu else f", {threads} threads")
    print(f"{name}: crop {setting.crop}, batch {setting.batch}, {hardware}")
    for variant, values in times.items():
        pace = work[variant] / median[variant]
        share = f", {pace / rate:.0%} of the matrix rate; {held[variant] / 2**30:.1f} GiB" if gpu else ""
        print(f"  {variant:17}{1000 * median[variant]:9.1f} ms a step ({1000 * min(values):.1f} to {1000 * max(values):.1f}); "
              f"{work[variant] / 1e9:.1f} G multiply-adds, {pace / 1e9:.1f} G a second{share}")
    for variant in set(variants) - times.keys():
        print(f"  {variant}: not measured: its process died, see above")
    for over, under, meaning in PAIRS:
        if over in times and under in times:
            ratio = statistics.median(theirs / ours for theirs, ours in zip(times[over], times[under]))
            heavier = work[under] / work[over]
            more = f"; {ratio * heavier:.2f} for each multiply-add" if abs(heavier - 1) > 0.01 else ""
            print(f"  {ratio:.2f} {meaning}{more}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", choices=[[], *steps.SETTINGS], default=list(steps.SETTINGS), metavar="SETTING")
    parser.add_argument("--threads", type=int, default=records.cores(), help="on a CPU; all cores if left out")
    parser.add_argument("--rounds", type=int, help="15 on a CPU, 3 on a GPU if left out")
    options = parser.parse_args()
    for wanted in options.settings:
        measure(wanted, options.threads, options.rounds)
