"""Export a trained network for other programs: torch.export (.pt2) and ONNX."""
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline import study as studies
from stages import console, predict


class Kind(StrEnum):
    pt2 = "pt2"
    onnx = "onnx"


def main(network: Annotated[str, typer.Argument(help="a run of params.yaml, or the folder or file (model.safetensors) of one")],
         out: Annotated[Path, typer.Option(help="folder for NETWORK.pt2 and NETWORK.onnx")] = Path(),
         kind: Annotated[list[Kind], typer.Option("--format", help="only this one")] = (Kind.pt2, Kind.onnx),
         output_stride: Annotated[int | None, typer.Option(help="8, 16 or 32; the training's if left out")] = None):
    """Export a trained network as NETWORK.pt2 and NETWORK.onnx: photo (1, H, W, 3) uint8 -> labels (1, H, W) uint8, any size from
    2x2 up.

    The photo is labelled at its own size, while stages.predict first shrinks larger ones to twice the training crop. That size is
    in the file as "longest", beside the class names; docs/python.md has the lines that shrink a photo likewise.

    Example:  python -m stages.export t2-x2 --out exported
    """
    study = studies.load()
    folder = predict.locate(study, network)
    if output_stride not in (None, 8, 16, 32):
        raise studies.StudyError(f"--output-stride is 8, 16 or 32, got {output_stride}")
    import torch

    from pipeline.evaluation import export, photos, trained
    found = trained.described(folder)
    stride = output_stride or found.run.output_stride
    program = export.traced(trained.load(study, folder, {stride}, torch.device("cpu"))[stride])
    longest = photos.longest_side(found.crop)
    for each in kind:
        path = out / f"{folder.name}.{each}"
        export.write(program, found.classes, longest, path)
        print(path)


if __name__ == "__main__":
    console.run(main)
