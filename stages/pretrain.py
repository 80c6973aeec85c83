"""ImageNet weights of one backbone: trained here where the scale says how, else the published ones."""
import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline import records, schema, study as studies
from stages import console
from stages.engine import torchrun


def main(backbone: Annotated[str, typer.Argument(help="a key of `backbones` in params.yaml")]):
    """ImageNet weights of one backbone: artifacts/SCALE/weights/BACKBONE. Trained here (Table 4), or the published ones.

    Example:  python -m stages.pretrain resnet101
    """
    study = studies.load()
    wanted = console.pick("backbone", backbone, study.backbones)
    out, started = study.artifacts("weights", backbone), time.time()
    size = study.settings.network.backbones.get(backbone)
    if size is None:
        return console.skip(out, f"scale {study.scale} has no {backbone}: see scales.{study.scale}.network.backbones")
    params = {"backbone": {"name": backbone, **wanted.model_dump(mode="json"), **size.model_dump(mode="json")}}
    if size.weights is not None:
        return published(study, size, wanted.family, out, params)
    if (reason := console.upstream_skipped(study.artifacts("shards", "imagenet"))):
        return console.skip(out, reason, params)
    if study.settings.imagenet.train is None:
        key = f"scales.{study.scale}"
        return console.skip(out, f"{key}.network.backbones.{backbone} names no weights, and {key}.imagenet.train is null", params)
    params["training"] = study.settings.imagenet.train.model_dump(mode="json")
    if torchrun.relaunch_on_gpus():
        return
    from pipeline.training import classification, distributed
    console.needless += distributed.train_and_record(classification.pretrain, study, backbone, out, params, started)


def published(study: studies.Study, size: schema.BackboneSize, family: str, out: Path, params: dict) -> None:
    """Fetch the published weights; count Table 4's errors where the scale has ImageNet val and the weights a classifier."""
    data = study.settings.imagenet
    reason = console.upstream_skipped(study.artifacts("shards", "imagenet"))
    from pipeline.datasets.shards import Shard
    from pipeline.models.published import checkpoints
    pictures = None if reason else Shard.of(study, "imagenet", data.evaluate.split)
    metrics = checkpoints.save_backbone(size, family, out, pictures, data.evaluate_batch if data else 1)
    if not reason and "top1_error" not in metrics:
        reason = f"{size.weights} holds no classifier, so it has no errors on ImageNet"
    # No times or machine here: weights that come out the same must look the same to the trainings that start from them.
    records.write(out, status="done", reason=reason, params=params, metrics=metrics)


if __name__ == "__main__":
    console.run(main)
