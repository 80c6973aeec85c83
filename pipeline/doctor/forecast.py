"""How long the study will take on this machine, before anything of it runs: its multiply-adds over a rate that is measured here.

A stage's work is the multiply-adds of its forward passes; those that it learns from have backward passes too. Each kind of
network has a rate of its own (calibration.py): depthwise convolutions are slower.
"""
import contextlib
import dataclasses
import functools
import math
import os
from pathlib import Path

from pipeline.datasets import native
from pipeline.doctor.calibration import Rate, classifier, kind_of, pretrained
from pipeline.evaluation import strategies
from pipeline.models import cost, layers
from pipeline.schema import Dataset, Run, Training
from pipeline.study import Study, StudyError
from pipeline.training import segmentation


@dataclasses.dataclass(frozen=True)
class Work:
    """One stage. training, inference: multiply-adds of the forward passes that it learns from, and of its others."""
    stage: str
    kind: str                       # of network, whose rate it runs at
    after: str                      # the stage that it starts from
    training: float
    inference: float


def works(study: Study) -> list[Work]:
    """The pretraining, trainings and evaluations of this scale, without those that it skips."""
    count, found = cost.Costs(study, study.scale), []

    def madds(run: Run, stride: int, crop: int) -> float:
        return count.single(run, stride, (crop, crop)).madds_executed / crop ** 2  # a pixel

    for name in pretrained(study):
        data, crop = study.settings.imagenet, study.settings.imagenet.train.crop
        each = cost.cost(cost.on_meta(lambda name=name: classifier(study, name)), (crop, crop)).madds_executed / crop ** 2
        found.append(Work(f"pretrain@{name}", f"{name}, pretraining", "",
                          *_training(data, data.train, image_count(data, "imagenet"), each)))
    for name in study.included:
        run, training = study.runs[name], study.training(name)
        data = study.dataset(run.dataset)
        if training:
            shown = min(image_count(data, run.dataset), segmentation.VALIDATION_IMAGES)
            each = madds(run, run.output_stride, training.crop)
            after = f"train@{run.start_run}" if run.start_run else f"pretrain@{run.backbone}"
            found.append(Work(f"train@{name}", kind_of(run), after, *_training(data, training, shown, each)))
        if name in study.evaluate:
            chosen = [study.strategies[strategy] for strategy in study.evaluate[name]]
            shared = {(each.output_stride, *one) for each in chosen for one in strategies.passes(each)}
            pixels = image_count(data, run.dataset) * math.prod(data.evaluate.canvas)
            side = min(data.evaluate.canvas)
            inference = sum(scale ** 2 * pixels * madds(run, stride, side) for stride, _, scale in shared)
            found.append(Work(f"evaluate@{name}", kind_of(run), f"train@{name}", 0, inference))
    return found


def evaluation_memory(study: Study) -> int:
    """Bytes of the activations of the largest batch that is evaluated: the largest image at the smallest output stride."""
    count, found = cost.Costs(study, study.scale), [0]
    for name in study.included:
        run = study.runs[name]
        chosen = [study.strategies[strategy] for strategy in study.evaluate.get(name, ())]
        if chosen:
            data = study.dataset(run.dataset)
            stride, scale = min(each.output_stride for each in chosen), max(max(each.scales) for each in chosen)
            single = count.single(run, stride, layers.scaled(data.evaluate.canvas, scale))
            found.append(data.evaluate_batch * single.activation_bytes)
    return max(found)


def _training(data: Dataset, training: Training, shown: int, madds: float) -> tuple[float, float]:
    """Multiply-adds of a training's steps, and of its validations on `shown` images; madds: of a pixel."""
    validations = -(-training.steps // training.validate_every)
    learnt = training.steps * training.batch * training.crop ** 2 * madds
    return learnt, validations * shown * math.prod(data.evaluate.canvas) * madds


def image_count(data: Dataset, name: str, split: str | None = None) -> int:
    """Images of a split, or of the one evaluated; the published number where none are there yet, and of COCO, slow to list."""
    split = split or data.evaluate.split
    if data.source and data.source.generate:
        return data.source.generate.val if split == "val" else data.source.generate.train
    if data.source and data.source.folder and name != "coco":
        with contextlib.suppress(StudyError, OSError, KeyError):  # the stages that read it say what is wrong
            return _counted(name, data.source.folder, split)
    return native.reader(name).COUNTS.get(split, 0)


@functools.cache  # many runs are evaluated on the same images
def _counted(name: str, folder: str, split: str) -> int:
    return len(native.reader(name).splits(Path(os.path.expanduser(folder)))[split])


def seconds(work: Work, rates: dict[str, Rate]) -> float:
    """The time of a stage's computation."""
    return work.training / rates[work.kind].training + work.inference / rates[work.kind].inference


def total(study: Study, works: list[Work], rates: dict[str, Rate], lanes: int, start: float) -> float:
    """Seconds until the report with `lanes` stages at a time, each of which needs `start` seconds before it computes: all work
    shared out, but no less than the longest row of stages that wait for each other."""
    ends: dict[str, float] = {}
    for work in sorted(works, key=lambda work: _depth(study, work.stage)):
        ends[work.stage] = ends.get(work.after, 0) + seconds(work, rates) + start
    shared = sum(seconds(work, rates) + start for work in works) / lanes
    return max([shared, *ends.values()])


def _depth(study: Study, stage: str) -> int:
    """How many stages come before one at the most."""
    kind, _, name = stage.partition("@")
    if kind == "pretrain":
        return 0
    start = study.runs[name].start_run
    return (kind == "evaluate") + 1 + (_depth(study, f"train@{start}") if start else 0)


def account(works: list[Work], rates: dict[str, Rate]) -> str:
    """A table: number, multiply-adds and time of each kind of stage, run one after the other. A backward pass counts double."""
    lines = [f"{'':<10}  stages  multiply-adds  time, one after the other"]
    for kind in ("pretrain", "train", "evaluate"):
        some = [work for work in works if work.stage.startswith(kind)]
        madds = sum(3 * work.training + work.inference for work in some)
        lines.append(f"{kind:<10}  {len(some):>6}  {madds:>13.1e}  {spoken(sum(seconds(work, rates) for work in some))}")
    return "\n".join(lines)


def spoken(duration: float) -> str:
    """Seconds as people say them: 95 seconds, 10 minutes, 3.5 hours, 12 days."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if duration >= 2 * size:
            return f"{duration / size:.{int(duration < 10 * size)}f} {unit}"
    return f"{duration:.0f} seconds"
