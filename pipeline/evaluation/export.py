"""A trained network as one file for programs that know nothing of this project: torch.export (.pt2) and ONNX.

The exported graph takes a photo and gives its label map, (1, H, W, 3) uint8 RGB -> (1, H, W) uint8, for any H and W from 2 up:
what `photos.label` does with the plain strategy, but for the size: the graph shrinks no photo. The class names and the size that
`photos.longest_side` gives travel with it: as classes and longest in ONNX's metadata, as classes.json and longest.json in a .pt2.
"""
import io
import json
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.files import atomic
from pipeline.models.layers import normalise, resize
from pipeline.study import StudyError

MAKERS = {"pt2": (), "onnx": ("onnx", "onnxscript")}  # file ending: packages beside torch that writing it takes


class Labeller(nn.Module):
    """forward: (1, H, W, 3) uint8 RGB -> (1, H, W) uint8 labels. The canvas is H and W rounded up to 16k+1, as for photos."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.to(memory_format=torch.contiguous_format)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:3]
        # Padded by more than is needed, then cut: sizes that need no padding would be another graph to torch.export.
        x = F.pad(normalise(image), (0, 16, 0, 16))
        x = x[:, :, :height + (1 - height) % 16, :width + (1 - width) % 16]
        logits = resize(self.network(x).float(), x.shape[-2:])
        labels = F.softmax(logits, dim=1).argmax(1).to(torch.uint8)  # softmax: ties fall as in strategies.py
        return F.pad(labels, (0, 1, 0, 1))[:, :height, :width]


def traced(network: nn.Module) -> torch.export.ExportedProgram:
    """The graph of `network` (on the CPU), from photo to label map."""
    image = torch.zeros(1, 90, 125, 3, dtype=torch.uint8)
    sides = {1: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
    with torch.no_grad():
        return torch.export.export(Labeller(network).eval(), (image,), dynamic_shapes={"image": sides})


def write(program: torch.export.ExportedProgram, classes: list[str], longest: int, path: Path) -> None:
    """Write `program` to `path`, whose ending says how: .pt2 or .onnx. StudyError where a package is missing."""
    kind = path.suffix.removeprefix(".")
    if lacking := [name for name in MAKERS[kind] if find_spec(name) is None]:
        raise StudyError(f"{path} not written: it takes the packages {' and '.join(MAKERS[kind])}; missing: {', '.join(lacking)}")
    about = {"classes": json.dumps(classes), "longest": json.dumps(longest)}
    with atomic(path) as partial:
        if kind == "pt2":
            content = io.BytesIO()  # on a full disk torch's own writer ends the process
            torch.export.save(program, content, extra_files={f"{name}.json": text for name, text in about.items()})
            partial.write_bytes(content.getbuffer())
        else:
            onnx = torch.onnx.export(program, dynamo=True, input_names=["image"], output_names=["labels"], verbose=False)
            onnx.model.metadata_props.update(about)
            onnx.save(partial)
