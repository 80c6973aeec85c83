"""Which images to show, chosen from the facts: a run's best and worst cases (Figure 6), the most improved (Figure 5b)."""
from collections.abc import Iterator

import numpy as np

from pipeline.datasets import palettes
from pipeline.evaluation.measure import classes, decoded, label_maps, ranked, read_facts, shard
from pipeline.reporting.panels import SIDE, Case, draw, shown
from pipeline.study import Study, StudyError


def cases(study: Study, run: str, count: int = 3, side: int | None = SIDE) -> tuple[list[Case], list[Case]]:
    """The best and the worst images of a run's first strategy, best and worst first."""
    found = [(name, f"mIOU {score:.1f} %") for name, score in ranked(study, run, study.evaluate[run][0])]
    best, worst = found[::-1][:count], found[:count]
    maps = {"prediction": _kept(study, run, best + worst)}
    return tuple(list(drawn(study, run, maps, chosen, side)) for chosen in (best, worst))


def improved(study: Study, better: str, worse: str, count: int = 3, side: int | None = SIDE) -> list[Case]:
    """The images on which `better` gains most over `worse`, its network without decoder, as in Figure 5b; none where it loses."""
    found = gains(study, better, worse, study.evaluate[better][0], study.evaluate[worse][0])
    chosen = [(name, change(before, after)) for name, before, after in found[:count] if after > before]
    maps = {"without decoder": _kept(study, worse, chosen), "with decoder": _kept(study, better, chosen)}
    return list(drawn(study, better, maps, chosen, side))


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


def _kept(study: Study, run: str, chosen: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """The label maps of the run's first strategy. StudyError where its evaluation kept those of another."""
    if not (maps := label_maps(study, run, study.evaluate[run][0])):
        raise StudyError(f"the evaluation of {run} kept no label maps of {study.evaluate[run][0]}, its first strategy now: "
                         f"dvc repro evaluate@{run}")
    return {name: decoded(maps[name]) for name, _ in chosen}


def drawn(study: Study, run: str, maps: dict[str, dict[str, np.ndarray]], chosen: list[tuple[str, str]],
          side: int | None = SIDE) -> Iterator[Case]:
    """The `chosen` images (id, caption) that `run` is evaluated on. maps: label maps by image, by what they are called."""
    images = shard(study, run)
    palette, numbers = palettes.of(study.runs[run].dataset, len(images.classes)), {name: at for at, name in enumerate(images.ids)}
    for name, caption in chosen:
        example = images[numbers[name]]
        guesses = {words: found[name] for words, found in maps.items()}
        yield Case(name, caption, draw(example.image, example.label, guesses, palette, side))


def palette_of(study: Study, run: str) -> list[tuple[str, str]]:
    """Class names of a run's data set with their colours as #rrggbb, void last."""
    names, _ = classes(study, run)
    colours = np.frombuffer(shown(palettes.of(study.runs[run].dataset, len(names))), np.uint8).reshape(-1, 3)
    seen = set(read_facts(study, run).target.tolist())
    return [(name, "#{:02x}{:02x}{:02x}".format(*tuple(colours[number]))) for number, name in enumerate(names)
            if number in seen] + [("void", "#{:02x}{:02x}{:02x}".format(*palettes.CREAM))]
