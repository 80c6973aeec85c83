"""Write generated data the way the real data sets lie on disk, so that the real readers read it.

Every image is drawn from (seed, split, number) alone: the same bytes in any order and on any number of cores.
"""
import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import progress, schema
from pipeline.datasets import coco, palettes, pool, voc
from pipeline.datasets.miniature import scenes
from pipeline.datasets.miniature.borders import borders
from pipeline.datasets.miniature.looks import LOOKS
from pipeline.datasets.miniature.street import street
from pipeline.study import StudyError

QUALITY = 92  # of JPEG images


def generate(dataset: schema.DatasetName, settings: schema.Generate, root: Path, workers: int = 1) -> None:
    """Write data set `dataset` under `root` in its native layout. VOC: `settings.train` counts train_aug, of which a quarter is
    the official train list. Cityscapes: `settings.size` is the height, the width is twice that."""
    jobs = [(split, index) for split, count in (("train", settings.train), ("val", settings.val)) for index in range(count)]
    layouts = {"voc": _voc, "coco": _coco, "cityscapes": _cityscapes, "imagenet": _imagenet}
    if dataset not in layouts:
        raise StudyError(f"nothing generates {dataset}: name a folder or archives as its source in params.yaml")
    draw = partial(layouts[dataset], Path(root), settings)
    workers = workers if len(jobs) >= 64 else 1  # for fewer images, starting processes costs more than it saves
    results = []
    with progress.bar(f"generate {dataset}", len(jobs), "image") as bar:
        for result in pool.mapped(draw, *zip(*jobs), workers=workers, chunk=8):
            results.append(result)
            bar.update()
    if dataset == "voc":
        _voc_lists(Path(root), *([name for split, name in results if split == wanted] for wanted in ("train", "val")))
    elif dataset == "coco":
        _coco_annotations(Path(root), jobs, results)


def _rng(settings: schema.Generate, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, split == "val", index])


def _save(image: Image.Image, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def palette_png(labels: np.ndarray, path: Path) -> None:
    """Write uint8 (H, W) labels as a palette PNG in VOC's colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(palettes.png(labels, palettes.of("voc", len(voc.CLASSES))))


def _voc(root: Path, settings: schema.Generate, split: str, index: int) -> tuple[str, str]:
    rng = _rng(settings, split, index)
    scene = scenes.scene(settings.size, scenes.VOC, rng)
    base, name = root / "VOCdevkit/VOC2012", f"2012_{index + (10000 if split == 'val' else 0):06d}"
    ids = np.array([0] + [voc.CLASSES.index(each) for each in scene.names], np.uint8)
    labels = ids[scene.objects]
    official = split == "val" or index < _official(settings.train)
    if official:
        labels[borders(scene.objects)] = 255
    _save(Image.fromarray(scene.image), base / f"JPEGImages/{name}.jpg", quality=QUALITY)
    palette_png(labels, base / ("SegmentationClass" if official else "SegmentationClassAug") / f"{name}.png")
    return split, name


def _official(train: int) -> int:
    return max(1, train // 4)


def _voc_lists(root: Path, train: list[str], val: list[str]) -> None:
    lists = root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    official = train[:_official(len(train))]
    for name, ids in (("train", official), ("val", val), ("trainval", sorted(official + val)), ("trainaug", train)):
        (lists / f"{name}.txt").write_text("".join(f"{each}\n" for each in ids))


def _coco(root: Path, settings: schema.Generate, split: str, index: int) -> tuple[dict, list[dict]]:
    rng = _rng(settings, split, index)
    scene = scenes.scene(settings.size, scenes.COCO, rng)
    height, width = map(int, scene.objects.shape)
    number = index + 1 + (500000 if split == "val" else 0)
    _save(Image.fromarray(scene.image), root / f"{split}2017/{number:012d}.jpg", quality=QUALITY)
    annotations = []
    for each, name in enumerate(scene.names):
        mask = scene.objects == each + 1
        if mask.any():
            y, x = np.nonzero(mask)
            changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False))  # down the columns, background first
            annotations.append({
                "image_id": number, "category_id": coco.CATEGORY_IDS[coco.coco_name(name)], "iscrowd": 0, "area": int(mask.sum()),
                "bbox": [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1],
                "segmentation": {"size": [height, width], "counts": np.diff([0, *changes, mask.size]).tolist()}})
    return {"id": number, "file_name": f"{number:012d}.jpg", "height": height, "width": width}, annotations


def _coco_annotations(root: Path, jobs, results) -> None:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    categories = [{"id": number, "name": name} for name, number in coco.CATEGORY_IDS.items()]
    for split in ("train", "val"):
        mine = [result for job, result in zip(jobs, results) if job[0] == split]
        annotations = [{"id": number, **each} for number, each in enumerate((a for _, many in mine for a in many), 1)]
        content = {"images": [image for image, _ in mine], "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))


def _cityscapes(root: Path, settings: schema.Generate, split: str, index: int) -> None:
    image, labels = street(settings.size, _rng(settings, split, index))
    city = {"train": ("aachen", "bochum", "zurich"), "val": ("frankfurt", "munster")}[split]
    city = city[index % len(city)]
    stem = f"{split}/{city}/{city}_{index:06d}_000019"
    _save(Image.fromarray(image), root / f"leftImg8bit/{stem}_leftImg8bit.png", compress_level=1)
    _save(Image.fromarray(labels), root / f"gtFine/{stem}_gtFine_labelIds.png", compress_level=1)


def _imagenet(root: Path, settings: schema.Generate, split: str, index: int) -> None:
    names = sorted(LOOKS)
    name = names[index % len(names)]
    image = scenes.scene(settings.size, scenes.COCO, _rng(settings, split, index), name).image
    _save(Image.fromarray(image), root / split / name / f"{name}_{index:05d}.JPEG", quality=QUALITY)
