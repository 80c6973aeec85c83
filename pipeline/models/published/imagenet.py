"""Table 4 from published weights: the authors' whole classifier on the ImageNet validation images.

Both rows of the table were trained at 299x299 (section 4.3); an image's central 87.5 % is resized to that (datasets/imagenet.py).
"""
import re

import numpy as np
import torch

from pipeline import progress
from pipeline.datasets.shards import Shard
from pipeline.models import deeplab, device as devices
from pipeline.models.layers import normalise
from pipeline.models.published import tensorflow
from pipeline.schema import BackboneSize
from pipeline.study import StudyError


def has_classifier(variables: dict[str, np.ndarray]) -> bool:
    """Whether a checkpoint has the layer after the backbone's global average, besides the backbone."""
    return f"{tensorflow.scope_of(variables)}/logits/weights" in variables


@devices.memory_explained()
@torch.inference_mode()
def errors(variables: dict[str, np.ndarray], family: str, size: BackboneSize, shard: Shard, batch: int) -> dict[str, float]:
    """top1_error and top5_error in percent, of the checkpoint `variables` on all pictures of `shard`.

    The authors' classifiers have a class 0, background, before ImageNet's; it takes part, as in their evaluation. Raises
    StudyError where the shard has other classes than the checkpoint.
    """
    if strange := [name for name in shard.classes if not re.fullmatch(r"n\d{8}", name)]:
        raise StudyError(f"{shard.path} has a class {strange[0]}: the published classifiers number ImageNet's classes in the "
                         "order of their synsets, so each folder of val/ has the name of one, such as n01440764")
    outputs = variables[f"{tensorflow.scope_of(variables)}/logits/weights"].shape[-1]
    offset = outputs - len(shard.classes)
    if offset not in (0, 1):
        raise StudyError(f"the published classifier tells {outputs} classes apart (with a background class, perhaps), but "
                         f"{shard.path} has {len(shard.classes)}: val/ needs one folder for each of ImageNet's classes")
    device = devices.pick()
    model = deeplab.build_classifier(family, size, outputs)
    tensorflow.load(model, variables)
    model.eval().to(device, memory_format=torch.channels_last)
    right, bar = torch.zeros(2, dtype=torch.int64), progress.bar("ImageNet val", len(shard), "image")
    for start in range(0, len(shard), batch):
        examples = [shard[number] for number in range(start, min(start + batch, len(shard)))]
        pictures = normalise(torch.from_numpy(np.stack([example.image for example in examples])).to(device))
        targets = torch.tensor([example.target + offset for example in examples], device=device)
        hits = model(pictures).topk(min(5, outputs)).indices == targets[:, None]
        right += torch.stack([hits[:, 0].sum(), hits.any(1).sum()]).cpu()
        bar.update(len(examples))
    bar.close()
    top1, top5 = (100 * (1 - each / len(shard)) for each in right.tolist())
    return {"top1_error": top1, "top5_error": top5}
