"""Multiply-adds, parameters and activation memory of every network of the study."""
from pipeline import files, progress, study as studies
from stages import console


def main():
    """Count what every (run, strategy) of params.yaml costs: artifacts/SCALE/costs/costs.parquet. No data, no training.

    Example:  python -m stages.cost
    """
    study = studies.load()
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.models import cost
    count = sum(map(len, study.evaluate.values()))
    rows = list(progress.bar("costs", count, "strategy", of=cost.rows(study)))
    types = {"run": pa.string(), "strategy": pa.string()} | dict.fromkeys(cost.COLUMNS, pa.float64())
    types |= dict.fromkeys(("activation_bytes_paper", "activation_bytes_here"), pa.int64())
    table = pa.Table.from_pylist(rows, pa.schema(list(types.items())))
    with files.atomic(study.artifacts("costs") / "costs.parquet") as partial:
        pq.write_table(table, partial)


if __name__ == "__main__":
    console.run(main)
