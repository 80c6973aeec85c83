"""A made-up study on disk: every artifact of the contract between stages, from noise, in a folder of its own. For tests and for
drawing."""
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy import ndimage

from pipeline import records
from pipeline.datasets.contact import contact_sheet
from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.datasets.trimap import BANDS, TRIMAP_WIDTHS, void_distance
from pipeline.study import Study

CLASSES = ["background", "cat", "cow", "dog", "horse", "sheep", "person", "car", "boat"]
COLOURS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
           (64, 0, 0)]
PALETTE = bytes(sum((list(colour) for colour in COLOURS), [])).ljust(765, b"\0") + bytes((224, 224, 192))
STARTED = 1_700_000_000.0


def write(study: Study, images: int = 12, size: int = 65, missing=()) -> None:
    """Fill `artifacts/SCALE` under the current folder. Runs in `missing` are left out, as if not trained yet."""
    scenes = {}
    for dataset in ("voc", "cityscapes", "coco"):
        if study.dataset(dataset) is not None:
            scenes[dataset] = _shard(study, dataset, images, size)
    if study.settings.imagenet is not None:
        _imagenet(study)
    for backbone in study.backbones:
        _weights(study, backbone)
    for name, run in study.runs.items():
        if name in missing:
            continue
        reason = study.skipped(name)
        folder = study.artifacts("runs", name)
        if reason:
            records.write(folder, status="skipped", reason=reason)
            if name in study.evaluate:
                records.write(study.artifacts("facts", name), status="skipped", reason=reason)
            continue
        quality = _quality(run)
        _train(study, name, quality)
        if name in study.evaluate:
            _facts(study, name, scenes[run.dataset], quality)
    _costs(study)


def _quality(run) -> float:
    gain = 4 * (run.decoder != "none") - 3 * (run.output_stride == 32) + 2 * (run.backbone != "resnet101")
    return 2.0 - 0.12 * gain + 0.1 * (abs(run.low_level_channels - 48) / 40)


def _scene(rng, height: int, width: int) -> np.ndarray:
    label = np.zeros((height, width), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(rng.integers(2, 5)):
        y, x = rng.integers(8, height - 8), rng.integers(8, width - 8)
        radius, kind = rng.integers(6, 16), rng.integers(1, len(CLASSES))
        label[(rows - y) ** 2 + (columns - x) ** 2 < radius ** 2] = kind
    return label


def _shard(study, dataset, images, size):
    rng, scenes = np.random.default_rng(len(dataset)), []
    with Writer(study.artifacts("shards", dataset) / f"{study.dataset(dataset).evaluate.split}.arrow", dataset,
                CLASSES) as writer:
        for number in range(images):
            truth = _scene(rng, size, size if dataset != "cityscapes" else 2 * size)
            label = np.where(ndimage.grey_dilation(truth, 3) != ndimage.grey_erosion(truth, 3), 255, truth).astype(np.uint8)
            image = (np.array(COLOURS)[truth] + rng.integers(0, 90, (*truth.shape, 3))).clip(0, 255).astype(np.uint8)
            example = Example(f"2026_{number:06d}", image, label, void_distance(label))
            scenes.append((example.id, truth, label, example.distance))
            writer.add(example)
    folder = study.artifacts("shards", dataset)
    pixels = np.array([[(label == kind).sum() for kind in range(len(CLASSES))] for _, _, label, _ in scenes])
    sheet = {"images": images, "digest": f"{images:016x}", "height": [size, size], "width": sorted({label.shape[1] for _, _, label, _ in scenes}) * 2,
             "images_with": dict(zip(CLASSES, (pixels > 0).sum(0).tolist())), "mean_classes": float((pixels > 0).sum(1).mean()),
             "frequency": dict(zip(CLASSES, (pixels.sum(0) / pixels.sum()).tolist())), "void": 0.25}
    (folder / "sheet.json").write_text(json.dumps({"classes": CLASSES, "splits": {"val": sheet}}))
    contact_sheet(Shard(folder / f"{study.dataset(dataset).evaluate.split}.arrow"), np.array(COLOURS), folder / "contact.png")
    records.write(folder, status="done")
    return scenes


def _imagenet(study, images=40):
    with Writer(study.artifacts("shards", "imagenet") / f"{study.settings.imagenet.evaluate.split}.arrow", "imagenet",
                CLASSES[1:]) as writer:
        for number in range(images):
            writer.add(Example(f"{number}", np.zeros((9, 9, 3), np.uint8), target=number % 8))


def _predict(rng, truth, quality, decoder: bool) -> np.ndarray:
    if not decoder:  # coarse: the labels on a grid of 4, as without a decoder
        coarse = truth[2::4, 2::4].repeat(4, 0).repeat(4, 1)
        truth = np.pad(coarse, ((0, max(0, truth.shape[0] - coarse.shape[0])), (0, max(0, truth.shape[1] - coarse.shape[1]))),
                       mode="edge")[:truth.shape[0], :truth.shape[1]]
    wobble = ndimage.gaussian_filter(rng.normal(size=(2, *truth.shape)), (0, 3, 3)) * 8 * quality
    rows, columns = np.mgrid[:truth.shape[0], :truth.shape[1]]
    y = (rows + wobble[0]).round().astype(int).clip(0, truth.shape[0] - 1)
    x = (columns + wobble[1]).round().astype(int).clip(0, truth.shape[1] - 1)
    moved = truth[y, x]
    swapped = {kind: (rng.integers(1, len(CLASSES)) if rng.random() < .12 * quality and kind else kind)
               for kind in range(len(CLASSES))}
    return np.array([swapped[kind] for kind in range(len(CLASSES))], np.uint8)[moved]


def _facts(study, name, scenes, quality):
    columns, labels = {key: [] for key in ("strategy", "image", "band", "target", "prediction", "pixels")}, []
    run = study.runs[name]
    for strategy in study.evaluate[name]:
        better = quality * (1 - .05 * ("ms" in strategy) - .05 * ("os8" in strategy) - .01 * ("flip" in strategy))
        for number, (image, truth, label, distance) in enumerate(scenes):
            prediction = _predict(np.random.default_rng(number + 1000 * run.seed), truth, better, run.decoder != "none")
            band = np.searchsorted(TRIMAP_WIDTHS, distance)
            valid = label != 255
            key = (band[valid].astype(np.int64) * 256 + label[valid]) * 256 + prediction[valid]
            cells, counts = np.unique(key, return_counts=True)
            columns["strategy"] += [strategy] * len(cells)
            columns["image"] += [image] * len(cells)
            columns["band"].append(cells >> 16)
            columns["target"].append((cells >> 8) & 255)
            columns["prediction"].append(cells & 255)
            columns["pixels"].append(counts)
            if strategy == study.evaluate[name][0]:
                picture, buffer = Image.fromarray(prediction, "P"), io.BytesIO()
                picture.putpalette(PALETTE)
                picture.save(buffer, "PNG")
                labels.append({"strategy": strategy, "image": image, "png": buffer.getvalue()})
    assert BANDS == 15
    types = {"strategy": pa.string(), "image": pa.string(), "band": pa.uint8(), "target": pa.uint8(), "prediction": pa.uint8(),
                 "pixels": pa.int64()}
    table = pa.table({key: pa.array(np.concatenate(value) if key not in ("strategy", "image") else value).cast(types[key])
                      for key, value in columns.items()})
    folder = study.artifacts("facts", name)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.sort_by([(key, "ascending") for key in table.column_names[:-1]]), folder / "facts.parquet")
    pq.write_table(pa.Table.from_pylist(labels), folder / "labels.parquet")
    strategies = {each: study.strategies[each].model_dump(mode="json") for each in study.evaluate[name]}
    records.write(folder, status="done", params={"run": name, "classes": CLASSES, "strategies": strategies, "trained": STARTED},
                  provenance=_provenance(2.5))


def _provenance(seconds):
    return {"commit": "0" * 40, "dirty": False, "python": "3.11.7", "torch": "2.8.0", "numpy": "2.1.0",
            "requirements": "ab" * 32, "machine": "x86_64", "cpus": 2, "started": STARTED, "seconds": seconds, "device": "CPU"}


def _history(folder, curves: dict, steps: int):
    rows = [(step, metric, float(curve(step / steps)), int(1000 * (STARTED + step / 10))) for metric,
            (curve, every) in curves.items()
            for step in range(every, steps + 1, every)]
    pq.write_table(pa.table([pa.array(column) for column in zip(*sorted(rows))], names=["step", "metric", "value", "timestamp"]),
                   folder / records.HISTORY)


def _train(study, name, quality):
    run, folder = study.runs[name], study.artifacts("runs", name)
    training = study.training(name)
    if training is None:  # a published network
        return records.write(folder, status="done", metrics={"parameters": 400_000}, provenance=_provenance(1.5), params={
            "run": run.model_dump(mode="json"), "training": {"crop": 513}, "network": study.settings.network.model_dump(mode="json")})
    records.write(folder, status="done", params={"run": run.model_dump(mode="json"), "training": training.model_dump(mode="json"),
                                                 "network": study.settings.network.model_dump(mode="json")},
                  metrics={"miou": 70 - 5 * quality, "parameters": 400_000}, provenance=_provenance(21.5))
    steps = max(training.steps, 10)
    _history(folder, {"loss": (lambda t: 2 * np.exp(-3 * t) + .2 * quality, max(1, steps // 15)),
                      "learning_rate": (lambda t: .05 * (1 - t) ** .9, max(1, steps // 15)),
                      "miou": (lambda t: (70 - 5 * quality) * (1 - np.exp(-3 * t)), max(1, steps // 3)),
                      "images_per_second": (lambda t: 100, max(1, steps // 15))}, steps)


def _weights(study, backbone):
    folder = study.artifacts("weights", backbone)
    if backbone not in study.settings.network.backbones:
        return records.write(folder, status="skipped", reason=f"scale {study.scale} has no {backbone}")
    errors = {"top1_error": 41.5 if backbone == "resnet101" else 38.25, "top5_error": 9.5} if study.settings.imagenet else {}
    records.write(folder, status="done", params={"backbone": {"name": backbone}}, provenance=_provenance(30.0),
                  metrics={"parameters": 300_000, **errors})
    _history(folder, {"loss": (lambda t: 2 * np.exp(-2 * t), 20), "top1_error": (lambda t: 90 - 50 * t, 200)}, 400)
    return None


def _costs(study):
    rows = []
    for name, strategies in study.evaluate.items():
        for strategy in strategies:
            run, how = study.runs[name], study.strategies[strategy]
            madds = 60 * (1 + 2.3 * (how.output_stride == 8)) * (9 if len(how.scales) > 1 else 1)
            madds *= (1 + how.flip) * (.6 if run.separable else 1)
            rows.append({"run": name, "strategy": strategy, "madds_counted_as_paper": madds * 1.05, "madds_executed": madds,
                         "madds_here": madds / 1e4,
                         "parameters_paper": 59.3, "parameters_here": 0.4, "activation_bytes_paper": 1.13e8, "activation_bytes_here": 1e7})
    folder = study.artifacts("costs")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "costs.parquet")
