"""Which images to show: Figure 6's best and worst cases of a run, Figure 5b's most improved ones. Chosen from the facts, drawn
from the shards and the label maps that the evaluation kept.
"""
import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.evaluation import metrics
from pipeline.reporting.panels import CREAM, SIDE, Case, draw
from pipeline.study import Study
from pipeline.tracking.measure import classes, read_facts, shard


def cases(study: Study, run: str, count: int = 3, side: int | None = SIDE) -> tuple[list[Case], list[Case]]:
    """The best and the worst images of a run's first strategy, best and worst first."""
    ranked = scored(study, run, study.evaluate[run][0])
    best, worst = ranked[::-1][:count], ranked[:count]
    album = Album(study, {"prediction": run}, side)
    return tuple([album.case(name, f"mIOU {score:.1f} %") for name, score in chosen] for chosen in (best, worst))


def improved(study: Study, better: str, worse: str, count: int = 3, side: int | None = SIDE) -> list[Case]:
    """The images on which `better` gains most over `worse`, its network without decoder, as in Figure 5b; none where it loses."""
    album = Album(study, {"without decoder": worse, "with decoder": better}, side)
    found = gains(study, better, worse, study.evaluate[better][0], study.evaluate[worse][0])
    return [album.case(name, change(before, after)) for name, before, after in found[:count] if after > before]


def scored(study: Study, run: str, strategy: str) -> list[tuple[str, float]]:
    """The images of a run with their mIOU in percent, worst first."""
    names, only = classes(study, run)
    return metrics.by_score(read_facts(study, run), strategy, len(names), only)


def gains(study: Study, better: str, worse: str, strategy: str, other: str) -> list[tuple[str, float, float]]:
    """Images with the mIOU of `worse` at strategy `other` and of `better` at `strategy`; where it gains most first."""
    before, after = dict(scored(study, worse, other)), dict(scored(study, better, strategy))
    return sorted(((name, before[name], score) for name, score in after.items() if name in before),
                  key=lambda each: (each[1] - each[2], each[0]))


def change(before: float, after: float) -> str:
    """Two scores of one image in words."""
    return f"mIOU {before:.1f} % to {after:.1f} % ({after - before:+.1f})"


def without_decoder(study: Study, run: str) -> str | None:
    """The run that differs from `run` in having no decoder, None where there is none or `run` has none itself."""
    wanted = study.runs[run].model_copy(update={"decoder": "none"})
    return next((name for name, other in study.runs.items() if other == wanted and name != run), None)


class Album:
    """Pictures of one data set with the label maps of some runs: caption -> run, at the strategy whose maps were kept."""

    def __init__(self, study: Study, runs: dict[str, str], side: int | None = SIDE):
        self.shard, self.side, self.labels = shard(study, next(iter(runs.values()))), side, {}
        self.numbers = {name: number for number, name in enumerate(self.shard.ids)}
        for caption, run in runs.items():
            table = pq.ParquetFile(study.artifacts("facts", run) / "labels.parquet").read(["image", "png"])
            self.labels[caption] = dict(zip(table["image"].to_pylist(), table["png"]))

    def case(self, name: str, caption: str) -> Case:
        example = self.shard[self.numbers[name]]
        guesses = {words: Image.open(io.BytesIO(maps[name].as_py())) for words, maps in self.labels.items()}
        palette = next(iter(guesses.values())).getpalette()
        maps = {words: np.asarray(guess) for words, guess in guesses.items()}
        return Case(name, caption, draw(example.image, example.label, maps, palette, self.side))


def palette_of(study: Study, run: str) -> list[tuple[str, str]]:
    """Class names of a run's data set with their colours as #rrggbb, void last."""
    names, _ = classes(study, run)
    first = pq.ParquetFile(study.artifacts("facts", run) / "labels.parquet").read(["png"])["png"][0].as_py()
    colours = np.array(Image.open(io.BytesIO(first)).getpalette()).reshape(-1, 3)
    facts = read_facts(study, run)
    seen = set(facts.target.tolist())
    return [(name, "#{:02x}{:02x}{:02x}".format(*tuple(colours[number]))) for number, name in enumerate(names)
            if number in seen] + [("void", "#{:02x}{:02x}{:02x}".format(*CREAM))]
