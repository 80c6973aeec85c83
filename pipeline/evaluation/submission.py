"""Label maps of a test split in the archive that its evaluation server takes.

VOC: results/VOC2012/Segmentation/comp6_SPLIT_cls/ID.png, palette PNGs of the images' sizes, in a tar (development kit, section
"Submission of results"; comp6: trained with other data too). Cityscapes: ID_pred.png, 8-bit label ids (not train ids) of
2048x1024 pixels, in a zip (cityscapesscripts, evalPixelLevelSemanticLabeling.getPrediction).
"""
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from pipeline import progress
from pipeline.datasets import cityscapes, native, palettes, voc
from pipeline.datasets.preparation import UnusableFiles
from pipeline.datasets.shards import Example
from pipeline.evaluation.inference import predictions
from pipeline.files import atomic, write_file
from pipeline.schema import Strategy
from pipeline.study import StudyError

ENDINGS = {"voc": "tar", "cityscapes": "zip"}  # the data sets that have a server


class Images:
    """The images of a split as a shard gives them, but decoded when they are asked for: each is needed once."""

    def __init__(self, items: list[native.Item]):
        self.items = items

    def __getitem__(self, number: int) -> Example:
        item = self.items[number]
        try:
            return Example(item.id, native.read_image(item.image))
        except Exception as error:  # decoders raise SyntaxError, struct.error and more on broken bytes
            raise StudyError(f"{item.image} cannot be read: {error}") from error


def images(dataset: str, root: Path, split: str, complete: bool) -> list[native.Item]:
    """The images of `split` under `root`. StudyError where files are missing or, if `complete`, some that the server scores."""
    reader = native.reader(dataset)
    try:
        items = reader.images(root, split)
    except StudyError as error:
        raise StudyError(f"{error} docs/data.md says how to get the images of the split {split}") from error
    if not items:
        raise StudyError(f"{root} has no {dataset} images of the split {split}: docs/data.md says how to get them")
    if absent := [str(item.image) for item in items if not item.image.is_file()]:
        raise UnusableFiles(f"{dataset} {split}", [f"{path}: missing" for path in absent], len(items))
    if complete and len(items) != reader.COUNTS.get(split, len(items)):
        raise StudyError(f"{dataset} {split} has {len(items)} images in {root}, the server wants {reader.COUNTS[split]}")
    return items


@torch.inference_mode()
def label(models: dict[int, nn.Module], items: list[native.Item], dataset: str, strategy: Strategy, size: tuple[int, int],
          batch: int, folder: Path, title: str, bf16: bool = False) -> None:
    """Write FOLDER/ID.png for every image, as `encode` makes it. Those that are there are not computed again."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {path.stem for path in folder.glob("*.png")}
    missing = [number for number, item in enumerate(items) if item.id not in done]
    bar = progress.bar(title, len(items), "image", initial=len(items) - len(missing))
    for examples, maps in predictions(models, Images(items), {"it": strategy}, size, batch, missing, bf16):
        for example, values in zip(examples, maps["it"].cpu().numpy()):
            height, width = example.image.shape[:2]
            write_file(folder / f"{example.id}.png", encode(values[:height, :width], dataset))
        bar.update(len(examples))
    bar.close()


def encode(labels: np.ndarray, dataset: str) -> bytes:
    """A label map, (H, W) uint8 class numbers, as the PNG that the server of `dataset` takes."""
    if dataset == "voc":
        return palettes.png(labels, voc.palette().tobytes())
    return palettes.encoded(Image.fromarray(cityscapes.label_ids()[labels]))


def member(dataset: str, split: str, name: str) -> str:
    """The path in the archive of image `name`'s label map."""
    return f"results/VOC2012/Segmentation/comp6_{split}_cls/{name}.png" if dataset == "voc" else f"{name}_pred.png"


def pack(items: list[native.Item], dataset: str, split: str, folder: Path, path: Path) -> None:
    """Write the archive `path` from FOLDER/ID.png. Same pictures, same bytes: it holds no times and no owner."""
    pictures = {member(dataset, split, item.id): (folder / f"{item.id}.png").read_bytes() for item in items}
    with atomic(path) as partial:
        if ENDINGS[dataset] == "zip":
            with zipfile.ZipFile(partial, "w") as archive:
                for name, content in pictures.items():
                    archive.writestr(zipfile.ZipInfo(name), content)
        else:
            with tarfile.open(partial, "w") as archive:
                for name, content in pictures.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
