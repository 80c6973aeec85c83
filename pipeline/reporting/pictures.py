"""Figure 6: image | truth | prediction, the best and the worst cases of a run; Figure 5b: where the decoder improves most.

Chosen from the facts, drawn from the shards and the label maps that the evaluation kept.
"""
import io
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.datasets.shards import Shard
from pipeline.evaluation import metrics
from pipeline.study import Study
from pipeline.tracking.measure import classes, read_facts

SIDE = 320  # pixels of a picture's longer side at most
VOID = 255
CREAM = (224, 224, 192)  # void, as in VOC's own pictures


@dataclass(frozen=True)
class Case:
    """One image and what networks made of it. `panels`: (caption, file bytes, is a label map), in the order they are shown."""
    image: str
    caption: str
    panels: tuple[tuple[str, bytes, bool], ...]


def cases(study: Study, run: str, count: int = 3) -> tuple[list[Case], list[Case]]:
    """The best and the worst images of a run's first strategy, best and worst first."""
    strategy = study.evaluate[run][0]
    names, only = classes(study, run)
    ranked = metrics.by_score(read_facts(study, run), strategy, len(names), only)
    best, worst = ranked[::-1][:count], ranked[:count]
    album = Album(study, {"prediction": run})
    return tuple([album.case(name, f"mIOU {score:.1f} %") for name, score in chosen] for chosen in (best, worst))


def improved(study: Study, better: str, worse: str, count: int = 3) -> list[Case]:
    """The images on which `better` gains most over `worse`, as in Figure 5b."""
    scores = []
    for run in (better, worse):
        names, only = classes(study, run)
        scores.append(dict(metrics.by_score(read_facts(study, run), study.evaluate[run][0], len(names), only)))
    gains = sorted(((name, score - scores[1][name]) for name, score in scores[0].items() if name in scores[1]),
                   key=lambda pair: (-pair[1], pair[0]))
    album = Album(study, {"without decoder": worse, "with decoder": better})
    return [album.case(name, f"mIOU {scores[1][name]:.1f} % to {scores[0][name]:.1f} % ({gain:+.1f})") for name,
            gain in gains[:count]]


class Album:
    """Pictures of one data set with the label maps of some runs: caption -> run."""

    def __init__(self, study: Study, runs: dict[str, str]):
        dataset = study.runs[next(iter(runs.values()))].dataset
        self.shard = Shard(study.artifacts("shards", dataset) / f"{study.dataset(dataset).evaluate.split}.arrow")
        self.numbers = {name: number for number, name in enumerate(self.shard.ids)}
        self.labels = {}
        for caption, run in runs.items():
            table = pq.ParquetFile(study.artifacts("facts", run) / "labels.parquet").read(["image", "png"])
            self.labels[caption] = dict(zip(table["image"].to_pylist(), table["png"]))

    def case(self, name: str, caption: str) -> Case:
        example = self.shard[self.numbers[name]]
        guesses = {words: Image.open(io.BytesIO(maps[name].as_py())) for words, maps in self.labels.items()}
        palette = next(iter(guesses.values())).getpalette()
        truth = Image.fromarray(example.label, "P")
        panels = [("image", _photo(example.image), False), ("truth", _labels(truth, palette), True)]
        panels += [(words, _labels(guess, palette), True) for words, guess in guesses.items()]
        return Case(name, caption, tuple(panels))


def palette_of(study: Study, run: str) -> list[tuple[str, str]]:
    """Class names of a run's data set with their colours as #rrggbb, void last."""
    names, _ = classes(study, run)
    first = pq.ParquetFile(study.artifacts("facts", run) / "labels.parquet").read(["png"])["png"][0].as_py()
    colours = np.array(Image.open(io.BytesIO(first)).getpalette()).reshape(-1, 3)
    facts = read_facts(study, run)
    seen = set(facts.target.tolist())
    return [(name, "#{:02x}{:02x}{:02x}".format(*tuple(colours[number]))) for number, name in enumerate(names)
            if number in seen] + [("void", "#{:02x}{:02x}{:02x}".format(*CREAM))]


def strip(found: list[Case], scale: int = 1) -> bytes:
    """Cases below each other as one PNG, for pages that cannot lay them out."""
    rows = [[Image.open(io.BytesIO(data)).convert("RGB") for _, data, _ in case.panels] for case in found]
    gap = 6
    width = max(sum(panel.width * scale + gap for panel in row) for row in rows) - gap
    sheet = Image.new("RGB", (width, sum(max(panel.height for panel in row) * scale + gap for row in rows) - gap), "white")
    top = 0
    for row in rows:
        left = 0
        for panel in row:
            sheet.paste(panel.resize((panel.width * scale, panel.height * scale), Image.Resampling.NEAREST), (left, top))
            left += panel.width * scale + gap
        top += max(panel.height for panel in row) * scale + gap
    return _file(sheet, "PNG", optimize=True)


def _photo(image: np.ndarray) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    return _file(picture, "JPEG", quality=88)


def _labels(labels: Image.Image, palette: list[int]) -> bytes:
    labels = labels.copy()
    labels.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
    palette = (palette + [0] * 768)[:768]
    labels.putpalette(palette[:3 * VOID] + list(CREAM))
    return _file(labels, "PNG", optimize=True)


def _file(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
