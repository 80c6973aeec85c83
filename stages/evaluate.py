"""Evaluate one trained run with all its strategies."""
import time
from typing import Annotated

import typer

from pipeline import files, records, study as studies
from pipeline.study import StudyError
from stages import console


def main(run: Annotated[str, typer.Argument(help="a key of `evaluate` in params.yaml")],
         bf16: Annotated[bool, typer.Option("--bf16", help="in bfloat16, to compare: into artifacts/SCALE/facts-bf16/RUN. The "
                                             "study's own facts stay in float32")] = False):
    """Evaluate one trained run with all its strategies: artifacts/SCALE/facts/RUN, counts from which every metric follows.

    Interrupted, the same command goes on without computing finished images again.

    Example:  python -m stages.evaluate t2-x2
    """
    study = studies.load()
    console.pick("run", run, study.runs)
    if (names := study.evaluate.get(run)) is None:
        raise StudyError(f"`evaluate` in params.yaml has no line for {run}: it says with which strategies")
    out, started = study.artifacts("facts-bf16" if bf16 else "facts", run), time.time()
    trained = study.artifacts("runs", run)
    if (reason := study.skipped(run) or console.upstream_skipped(trained)):
        return console.skip(out, reason)
    import pyarrow.parquet as pq

    from pipeline.datasets.shards import Shard
    from pipeline.evaluation import facts, trained as networks
    from pipeline.evaluation.evaluate import evaluate
    dataset = study.runs[run].dataset
    if networks.described(trained).classes != Shard.of(study, dataset, study.dataset(dataset).evaluate.split).classes:
        return console.skip(out, f"{run} knows other classes than {dataset} has at scale {study.scale}")
    unfinished = study.artifacts("unfinished", f"evaluate{'-bf16' * bf16}-{run}")  # what ends well clears its own
    strategies = {name: study.strategies[name] for name in names}
    counts, labels, device = evaluate(study, trained, strategies, run, unfinished, bf16)
    facts.save(counts, out)
    with files.atomic(out / "labels.parquet") as partial:
        pq.write_table(labels.combine_chunks(), partial)
    params = {"run": run, "strategies": {name: each.model_dump(mode="json") for name, each in strategies.items()}, "bf16": bf16,
              "trained": records.read(trained)["provenance"].get("started")}  # which training it is: measure.outdated
    records.write(out, status="done", params=params, provenance=records.provenance(started, device=device))
    console.needless.append(unfinished)


if __name__ == "__main__":
    console.run(main)
