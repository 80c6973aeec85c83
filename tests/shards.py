"""Shards of the examples that a test makes."""
from pipeline.datasets.shards import Shard, Writer


def shard(path, examples, classes, dataset: str = "voc", **options) -> Shard:
    """A shard of `examples` at `path`. classes: their names."""
    with Writer(path, dataset, list(classes), **options) as writer:
        for example in examples:
            writer.add(example)
    return Shard(path)
