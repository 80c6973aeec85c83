"""Train one run of params.yaml.

Example:  python -m stages.train t1-c48
"""
import time
from typing import Annotated

import typer

from pipeline import records, study as studies
from stages import console


def main(run: Annotated[str, typer.Argument(help="a key of `runs` in params.yaml")]):
    """Train one run of params.yaml: artifacts/SCALE/runs/RUN. Interrupted, the same command goes on.

    Example:  python -m stages.train t1-c48
    On several GPUs:  torchrun --nproc-per-node 4 -m stages.train t1-c48
    """
    study = studies.load()
    wanted = console.pick("run", run, study.runs)
    out, started = study.artifacts("runs", run), time.time()
    params = {"run": wanted.model_dump(mode="json")}
    inputs = study.artifacts("shards", wanted.dataset), study.artifacts(wanted.start)
    if (reason := study.skipped(run) or console.skipped(*inputs)):
        return console.skip(out, reason, params)
    from pipeline.training import distributed
    from pipeline.training.segmentation import train
    with distributed.joined():
        history, metrics, device = train(study, run, out, study.artifacts("checkpoints"))
        if distributed.rank() > 0:
            return
    history.save(out)
    training = study.dataset(wanted.dataset).train
    params |= {"training": training.model_dump(mode="json"), "network": study.settings.network.model_dump(mode="json")}
    records.write(out, status="done", params=params, metrics=metrics, provenance=records.provenance(started, device=device))


if __name__ == "__main__":
    console.run(main)
