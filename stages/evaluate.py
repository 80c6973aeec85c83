"""Evaluate one trained run with all its strategies.

Example:  python -m stages.evaluate t2-x2
"""
import time
from typing import Annotated

import typer

from pipeline import records, study as studies
from stages import console


def main(run: Annotated[str, typer.Argument(help="a key of `evaluate` in params.yaml")]):
    """Evaluate one trained run with all its strategies: artifacts/SCALE/facts/RUN, counts from which every metric follows.

    Example:  python -m stages.evaluate t2-x2
    """
    study = studies.load()
    names = console.pick("run", run, study.evaluate)
    out, trained, started = study.artifacts("facts", run), study.artifacts("runs", run), time.time()
    wanted = study.runs[run]
    if (reason := study.skipped(run) or console.skipped(trained)):
        return console.skip(out, reason)
    import pyarrow.parquet as pq
    from pipeline.evaluation import facts
    from pipeline.evaluation.trained import evaluate
    tables, labels, device = evaluate(study, wanted, trained, {name: study.strategies[name] for name in names}, run)
    facts.save(tables, out)
    with records.atomic(out / "labels.parquet") as partial:
        pq.write_table(labels, partial)
    params = {"run": run, "strategies": {name: study.strategies[name].model_dump(mode="json") for name in names}}
    records.write(out, status="done", params=params, provenance=records.provenance(started, device=device))


if __name__ == "__main__":
    console.run(main)
