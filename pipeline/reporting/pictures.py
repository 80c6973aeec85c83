"""Which images to show, chosen from the facts: a run's best and worst cases (Figure 6), the most improved (Figure 5b)."""
import numpy as np

from pipeline.datasets import palettes
from pipeline.evaluation.measure import classes, decoded, label_maps, ranked, read_facts, shard
from pipeline.reporting.panels import SIDE, Case, draw, shown
from pipeline.study import Study, StudyError


def cases(study: Study, run: str, count: int = 3, side: int | None = SIDE) -> tuple[list[Case], list[Case]]:
    """The best and the worst images of a run's first strategy, best and worst first."""
    found = ranked(study, run, study.evaluate[run][0])
    best, worst = found[::-1][:count], found[:count]
    album = Album(study, {"prediction": run}, side)
    return tuple([album.case(name, f"mIOU {score:.1f} %") for name, score in chosen] for chosen in (best, worst))


def improved(study: Study, better: str, worse: str, count: int = 3, side: int | None = SIDE) -> list[Case]:
    """The images on which `better` gains most over `worse`, its network without decoder, as in Figure 5b; none where it loses."""
    album = Album(study, {"without decoder": worse, "with decoder": better}, side)
    found = gains(study, better, worse, study.evaluate[better][0], study.evaluate[worse][0])
    return [album.case(name, change(before, after)) for name, before, after in found[:count] if after > before]


def gains(study: Study, better: str, worse: str, strategy: str, other: str) -> list[tuple[str, float, float]]:
    """Images with the mIOU of `worse` at strategy `other` and of `better` at `strategy`; where it gains most first."""
    before, after = dict(ranked(study, worse, other)), dict(ranked(study, better, strategy))
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
    """Pictures of one data set with the label maps of some runs: caption -> run, at its first strategy, whose maps are kept.
    StudyError where a run's evaluation kept those of another strategy."""

    def __init__(self, study: Study, runs: dict[str, str], side: int | None = SIDE):
        first = next(iter(runs.values()))
        self.shard, self.side = shard(study, first), side
        self.palette = palettes.of(study.runs[first].dataset, len(self.shard.classes))
        self.numbers = {name: number for number, name in enumerate(self.shard.ids)}
        self.maps = {caption: label_maps(study, run, study.evaluate[run][0]) for caption, run in runs.items()}
        for caption, run in runs.items():
            if not self.maps[caption]:
                raise StudyError(f"the evaluation of {run} kept no label maps of {study.evaluate[run][0]}, its first strategy "
                                 f"now: dvc repro evaluate@{run}")

    def case(self, name: str, caption: str) -> Case:
        example = self.shard[self.numbers[name]]
        guesses = {words: decoded(maps[name]) for words, maps in self.maps.items()}
        return Case(name, caption, draw(example.image, example.label, guesses, self.palette, self.side))


def palette_of(study: Study, run: str) -> list[tuple[str, str]]:
    """Class names of a run's data set with their colours as #rrggbb, void last."""
    names, _ = classes(study, run)
    colours = np.frombuffer(shown(palettes.of(study.runs[run].dataset, len(names))), np.uint8).reshape(-1, 3)
    seen = set(read_facts(study, run).target.tolist())
    return [(name, "#{:02x}{:02x}{:02x}".format(*tuple(colours[number]))) for number, name in enumerate(names)
            if number in seen] + [("void", "#{:02x}{:02x}{:02x}".format(*palettes.CREAM))]
