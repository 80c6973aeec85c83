"""Train one run of params.yaml."""
import time
from typing import Annotated

import typer

from pipeline import study as studies
from stages import console
from stages.engine import torchrun


def main(run: Annotated[str, typer.Argument(help="a key of `runs` in params.yaml")]):
    """Train one run of params.yaml: artifacts/SCALE/runs/RUN. Interrupted, the same command goes on.

    Example:  python -m stages.train t1-c48

    On several GPUs:  STUDY_GPUS=4 python -m stages.train t1-c48
    """
    study = studies.load()
    wanted = console.pick("run", run, study.runs)
    if wanted.published:
        raise studies.StudyError(f"{run} is published, nothing is trained: python -m stages.fetch {run}")
    out, started = study.artifacts("runs", run), time.time()
    params = {"run": wanted.model_dump(mode="json")}
    inputs = study.artifacts("shards", wanted.dataset), study.artifacts(wanted.start)
    if (reason := study.skipped(run) or console.upstream_skipped(*inputs)):
        return console.skip(out, reason, params)
    from pipeline.datasets.shards import Shard
    network = study.settings.network.of(wanted.backbone)
    training = study.training(run)
    params |= {"training": training.model_dump(mode="json"), "network": network.model_dump(mode="json"),
               "classes": Shard.of(study, wanted.dataset, training.split).classes}
    if torchrun.relaunch_on_gpus():
        return
    from pipeline.training import distributed, segmentation
    console.needless += distributed.train_and_record(segmentation.train, study, run, out, params, started)


if __name__ == "__main__":
    console.run(main)
