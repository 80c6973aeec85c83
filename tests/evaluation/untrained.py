"""A run's folder with a network that learnt nothing, and whose labels vary all the same."""
import torch
from safetensors.torch import save_file

from pipeline import records
from pipeline.datasets import native
from pipeline.models import deeplab


def save(folder, study, run: str, classes: int) -> None:
    """Leave in `folder` what stage train would of `run` at the scale of `study`, the crop being 33."""
    wanted, network = study.runs[run], study.settings.network
    torch.manual_seed(0)
    model = deeplab.build(wanted, study.backbones[wanted.backbone].family, network, classes)
    with torch.inference_mode():
        model.eval().logits.weight /= model(torch.randn(1, 3, 33, 33)).std()  # untrained logits are so small that all classes tie
    params = {"run": wanted.model_dump(mode="json"), "network": network.model_dump(mode="json"), "training": {"crop": 33}}
    if classes != len(native.classes(wanted.dataset, None)):
        params["classes"] = [f"class-{number}" for number in range(classes)]
    records.write(folder, status="done", params=params)
    save_file(model.state_dict(), folder / records.MODEL)
