"""Fetch one published network: training done by others."""
from typing import Annotated

import typer

from pipeline import files, records, study as studies
from stages import console

CROP = {"voc": 513, "coco": 513, "cityscapes": 769}  # pixels, of the authors' trainings (released code)


def main(run: Annotated[str, typer.Argument(help="a key of `zoo` in params.yaml")]):
    """Fetch one published network of params.yaml: artifacts/SCALE/runs/RUN, as if it had been trained here (docs/zoo.md).

    Example:  python -m stages.fetch xception65_coco_voc_trainaug
    """
    study = studies.load()
    wanted = console.pick("published network", run, {name: each for name, each in study.runs.items() if each.published})
    out = study.artifacts("runs", run)
    params = {"run": wanted.model_dump(mode="json")}
    if (reason := study.skipped(run) or console.upstream_skipped(study.artifacts("shards", wanted.dataset))):
        return console.skip(out, reason, params)
    from pipeline.datasets import native
    from pipeline.models.published.checkpoints import save_network
    classes = native.classes(wanted.dataset, None)
    metrics = save_network(wanted, study.backbones[wanted.backbone].family, study.settings.network, len(classes), out)
    network = study.settings.network.of(wanted.backbone)
    params |= {"training": {"crop": CROP[wanted.dataset]}, "network": network.model_dump(mode="json"), "classes": classes}
    data = study.dataset(wanted.dataset).evaluate
    images = sorted(study.artifacts("shards", wanted.dataset).glob(f"{data.split}*.arrow"))
    params["evaluate"] = data.model_dump(mode="json") | {"images": files.digest(*images)}  # of others it is evaluated again
    records.write(out, status="done", params=params, metrics=metrics)  # no times: the same network is not evaluated again


if __name__ == "__main__":
    console.run(main)
