"""How much the nested pass saves, and what the facts cost beside it, both in one run.

    python benchmarks/evaluation.py [--device cpu] [--scale miniature]

Three evaluations one by one (plain, MS, MS + Flip at output stride 16) against the one nested pass, each with reading, counting
and label maps, on random images with an untrained network of run t2-x2: what is measured does not depend on what it has learnt.
The facts cost what the same passes take longer with them than without: labels onto the canvas, counting, rows of the table, and,
on a GPU, the waits for it. CPU time of one thread on a CPU, wall time on a GPU; the quickest of some repetitions. Exits with 1
where a bound does not hold.
"""
import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pyarrow as pa
import torch

from pipeline import records, study as studies
from pipeline.datasets import palettes
from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.datasets.trimap import void_distance
from pipeline.evaluation import evaluate, metrics, trained
from pipeline.evaluation.inference import predictions
from pipeline.models import deeplab, device as devices

CLASSES, NAMES = 21, ("os16", "os16-ms", "os16-ms-flip")
NESTED_AT_MOST, FACTS_AT_MOST = 0.70, {"cpu": 0.10, "cuda": 0.03}
BATCHES = {"cpu": 4, "cuda": 16}
SCALES = {"cpu": "miniature", "cuda": "paper"}  # a GPU waits for Python at miniature, a CPU takes hours at paper


def seconds(works: dict, device: torch.device, repetitions: int) -> dict[str, float]:
    """The quickest of some runs of each of `works`, taken in turn so that what else the machine does meets them alike."""
    clock, best = (time.process_time if device.type == "cpu" else time.perf_counter), {}
    for _ in range(repetitions):
        for name, work in works.items():
            began = clock()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best.get(name, float("inf")), clock() - began)
    return best


def shard_of(folder: Path, size: tuple[int, int], images: int) -> Shard:
    """Random images whose labels are 16-pixel squares, with void around some of them."""
    rng = np.random.default_rng(0)
    with Writer(folder / "val.arrow", "voc", [str(number) for number in range(CLASSES)]) as writer:
        for number in range(images):
            label = rng.integers(0, CLASSES, (size[0] // 16 + 1, size[1] // 16 + 1)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
            label[::16], label[:, ::16] = 255, 255
            label = np.ascontiguousarray(label[:size[0], :size[1]])
            writer.add(Example(str(number), rng.integers(0, 256, (*size, 3)).astype(np.uint8), label, void_distance(label)))
    return Shard(folder / "val.arrow")


def measure(device: torch.device, scale: str, repetitions: int) -> dict[str, float]:
    """Seconds of each strategy alone and of the nested pass; of bare forward passes and of such with facts, plain and nested."""
    study = studies.load().model_copy(update={"scale": scale})
    run, data = study.runs["t2-x2"], study.dataset("voc")
    torch.manual_seed(0)
    model = deeplab.build(run, study.backbones[run.backbone].family, study.settings.network, CLASSES, 16)
    models = {16: model.eval().to(device, memory_format=torch.channels_last)}
    strategies = {name: study.strategies[name] for name in NAMES}
    palette = palettes.of("voc", CLASSES)
    size, batch = data.evaluate.canvas, data.evaluate_batch
    with tempfile.TemporaryDirectory() as folder:
        shard = shard_of(Path(folder), size, BATCHES[device.type] * batch)
        numbers = list(range(len(shard)))

        def evaluated(names):
            with tempfile.TemporaryDirectory() as unfinished:
                wanted = {name: strategies[name] for name in names}
                evaluate.confusion_facts(models, shard, wanted, size, batch, None, palette, Path(unfinished))

        @torch.inference_mode()
        def passed(names, counting):
            wanted = {name: strategies[name] for name in names}
            for examples, maps in predictions(models, shard, wanted, size, batch, numbers):
                if counting:
                    evaluate.facts_of(examples, maps, CLASSES)

        works = {name: partial(evaluated, [name]) for name in NAMES} | {"nested": partial(evaluated, NAMES)}
        passes = {}
        for kind, names in (("plain", NAMES[:1]), ("nested", NAMES)):
            passes |= {f"{kind} pass": partial(passed, names, False), f"{kind} with facts": partial(passed, names, True)}
        seconds(works | passes, device, 1)  # warm
        return seconds(works, device, repetitions) | seconds(passes, device, 4 * repetitions)  # passes differ by little


def report(device: torch.device, scale: str, repetitions: int) -> bool:
    """Print the ratios; whether they keep the bounds."""
    found = measure(device, scale, repetitions)
    alone = sum(found[name] for name in NAMES)
    nested, bound = found["nested"] / alone, FACTS_AT_MOST[device.type]
    facts = {key: found[f"{key} with facts"] / found[f"{key} pass"] - 1 for key in ("plain", "nested")}
    print(f"{devices.describe(device)}, scale {scale}:")
    print("  " + "  ".join(f"{name} {value:.3f} s" for name, value in found.items()))
    print(f"  nested pass / three separate evaluations: {nested:.3f} (at most {NESTED_AT_MOST})")
    print(f"  facts / forward passes: plain alone {facts['plain']:.3f}, nested {facts['nested']:.3f} (at most {bound})")
    return nested <= NESTED_AT_MOST and max(facts.values()) <= bound


@torch.inference_mode()
def effect_of_bf16(device: torch.device, scale: str) -> str:
    """mIOU of run t2-x2, plain, with the network computing in float32 and in bfloat16; needs the trained run and its data."""
    study = studies.load().model_copy(update={"scale": scale})
    data, folder = study.dataset("voc"), study.artifacts("runs", "t2-x2")
    if not (folder / records.MODEL).exists():
        return f"not measured, t2-x2 is not trained at scale {scale}"
    shard = Shard.of(study, "voc", data.evaluate.split)
    models = trained.load(study, folder, {16}, device)
    strategies = {"os16": study.strategies["os16"]}
    numbers = list(range(len(shard)))
    scores = []
    for bf16 in (False, True):
        passes = predictions(models, shard, strategies, data.evaluate.canvas, data.evaluate_batch, numbers, bf16)
        facts = pa.concat_tables([evaluate.facts_of(*batch, len(shard.classes)) for batch in passes])
        scores.append(float(metrics.miou(metrics.confusion(metrics.Facts.of(facts), "os16", len(shard.classes)))))
    return f"{scores[1]:.3f} against {scores[0]:.3f} in float32 ({scores[1] - scores[0]:+.3f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(SCALES), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scale", help="whose network, canvas and batch; paper on a GPU, miniature on a CPU if left out")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = devices.pick() if options.device == "cuda" else torch.device("cpu")
    scale = options.scale or SCALES[device.type]
    kept = report(device, scale, options.repetitions)
    print(f"  mIOU of t2-x2 in bfloat16: {effect_of_bf16(device, scale)}")
    sys.exit(not kept)
