"""ImageNet weights of one backbone: trained here where the scale says how, else the published ones.

Example:  python -m stages.pretrain resnet101
"""
import time
from typing import Annotated

import typer

from pipeline import records, study as studies
from stages import console


def main(backbone: Annotated[str, typer.Argument(help="a key of `backbones` in params.yaml")]):
    """ImageNet weights of one backbone: artifacts/SCALE/weights/BACKBONE. Trained here (Table 4), or the published ones.

    Example:  python -m stages.pretrain resnet101
    """
    study = studies.load()
    family = console.pick("backbone", backbone, study.backbones)
    out, started = study.artifacts("weights", backbone), time.time()
    size = study.settings.network.backbones.get(backbone)
    if size is None:
        return console.skip(out, f"scale {study.scale} has no {backbone}: see scales.{study.scale}.network.backbones")
    params = {"backbone": {"name": backbone, **family.model_dump(mode="json"), **size.model_dump(mode="json")}}
    if size.weights is not None:
        from pipeline.models.checkpoints import published
        metrics, device = published(size, family.family, out), "CPU"
    else:
        if (reason := console.skipped(study.artifacts("shards", "imagenet"))):
            return console.skip(out, reason, params)
        from pipeline.training import distributed
        from pipeline.training.classification import pretrain
        with distributed.joined():
            history, metrics, device = pretrain(study, backbone, out, study.artifacts("checkpoints"))
            if distributed.rank() > 0:
                return
        history.save(out)
        params["training"] = study.settings.imagenet.train.model_dump(mode="json")
    records.write(out, status="done", params=params, metrics=metrics, provenance=records.provenance(started, device=device))


if __name__ == "__main__":
    console.run(main)
