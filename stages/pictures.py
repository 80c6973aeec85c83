"""Draw image | truth | prediction | errors for images that a run does best, worst, or better than another run."""
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline import files, records, study as studies
from pipeline.study import Study, StudyError
from pipeline.written import suggest
from stages import console

LEAST = 240  # pixels: smaller panels are enlarged by a whole factor


def main(run: Annotated[str, typer.Argument(help="an evaluated run of params.yaml")],
         strategy: Annotated[str | None, typer.Option(help="one that the run is evaluated with; its first if left out. Label "
                                                           "maps of others are not kept: the network is run again")] = None,
         worst: Annotated[int | None, typer.Option(min=0, help="how many of the worst images; 3 if nothing is chosen")] = None,
         best: Annotated[int | None, typer.Option(min=0, help="how many of the best images; 3 if nothing is chosen")] = None,
         image: Annotated[list[str] | None, typer.Option(help="an image by its id; may be given again and again")] = None,
         against: Annotated[str | None, typer.Option(help="another run: best is where RUN gains most over it")] = None,
         out: Annotated[Path | None, typer.Option(help="folder for the pictures; pictures/RUN/STRATEGY if left out")] = None):
    """Write a PNG for each image: image | truth | prediction | errors. Images are ranked by their mIOU, from the facts.

    Examples:

      python -m stages.pictures t2-x2 --worst 5

      python -m stages.pictures t2-x2 --against t3-os16-nodec --best 3     (most improved by the decoder)

      python -m stages.pictures t2-x2 --strategy os8-ms --image 2012_010021
    """
    study = studies.load()
    from pipeline.evaluation import measure
    from pipeline.reporting import banner, panels, pictures
    from pipeline.tracking.entries import file_name
    rival = (against, _strategy(study, against, strategy, needed=False)) if against else None
    own = run, _strategy(study, run, strategy, needed=True)
    if against and study.runs[against].dataset != study.runs[run].dataset:
        raise StudyError(f"{run} and {against} see different images: {study.runs[run].dataset} and {study.runs[against].dataset}")
    chosen = _choose(study, own, rival, best, worst, image or [])
    if not chosen:
        raise StudyError(f"no image of {run} is chosen: ask for --best or --worst above 0, or for an --image")
    shard = measure.shard(study, run)
    shown = {f"{name} {how}": (name, how) for name, how in (rival, own)} if rival else {"prediction": own}
    maps = {words: _maps(study, *cell, shard, [picked for _, picked, _ in chosen]) for words, cell in shown.items()}
    out = out or Path("pictures") / run / (f"{own[1]}-against-{'-'.join(rival)}" if rival else own[1])
    cases = pictures.drawn(study, run, maps, [(picked, caption) for _, picked, caption in chosen], side=None)
    for (words, picked, caption), case in zip(chosen, cases):
        scale = max(1, -(-LEAST // max(next(iter(maps.values()))[picked].shape)))
        path = out / file_name(words, picked)
        files.write_file(path, panels.strip([case], scale, banner.mark(study.scale)))
        print(f"{path}: {caption}")


def _strategy(study: Study, run: str, wanted: str | None, needed: bool) -> str:
    """The strategy a run is drawn with: the wanted one where it has it, else its first. StudyError where it is `needed`, or the
    run has not been evaluated."""
    names = console.pick("evaluated run", run, study.evaluate)
    if needed and wanted and wanted not in names:
        raise StudyError(f"evaluate.{run} in params.yaml lacks {wanted!r}{suggest(wanted, names)}")
    folder = study.artifacts("facts", run)
    if not (folder / "facts.parquet").exists():
        why = study.skipped(run) or (records.read(folder) or {}).get("reason") or f"dvc repro evaluate@{run}"
        raise StudyError(f"{run} has not been evaluated: {why}")
    return wanted if wanted in names else names[0]


def _choose(study: Study, own: tuple[str, str], rival: tuple[str, str] | None, best: int | None, worst: int | None,
            images: list[str]) -> list[tuple[str, str, str]]:
    """(what it was chosen as, image, caption) of each picture, in the order they are written. own, rival: run and strategy."""
    from pipeline.evaluation import measure
    from pipeline.reporting import pictures
    run, how = own
    if rival:
        gains = pictures.gains(study, run, rival[0], how, rival[1])
        ranked = [(name, pictures.change(before, after)) for name, before, after in gains]
    else:
        ranked = [(name, f"mIOU {score:.1f} %") for name, score in measure.ranked(study, run, how)[::-1]]
    captions = dict(ranked)
    if unknown := [name for name in images if name not in captions]:
        raise StudyError(f"{run} was not evaluated on {', '.join(unknown)}: ids are the data set's, such as {ranked[0][0]}")
    if best is None and worst is None and not images:
        best = worst = 3
    picked = [(f"best-{place}", *one) for place, one in enumerate(ranked[:best or 0], 1)]
    picked += [(f"worst-{place}", *one) for place, one in enumerate(ranked[::-1][:worst or 0], 1)]
    return picked + [("", name, captions[name]) for name in images]


def _maps(study: Study, run: str, strategy: str, shard, images: list[str]) -> dict[str, np.ndarray]:
    """The label maps (H, W) uint8 of `images`: those that the evaluation kept, or predicted now."""
    from pipeline.evaluation import measure
    if kept := measure.label_maps(study, run, strategy):
        return {name: measure.decoded(kept[name]) for name in images}
    return _predicted(study, run, strategy, shard, images)


def _predicted(study: Study, run: str, strategy: str, shard, images: list[str]) -> dict[str, np.ndarray]:
    import torch

    from pipeline.evaluation import trained
    from pipeline.evaluation.inference import predictions
    from pipeline.models import device
    how, data = study.strategies[strategy], study.dataset(study.runs[run].dataset)
    models = trained.load(study, study.artifacts("runs", run), {how.output_stride}, device.pick())
    numbers, found = [shard.ids.index(name) for name in images], {}
    with torch.inference_mode():
        for examples, maps in predictions(models, shard, {strategy: how}, data.evaluate.canvas, data.evaluate_batch, numbers):
            for example, values in zip(examples, maps[strategy].cpu().numpy()):
                height, width = example.label.shape
                found[example.id] = values[:height, :width]
    return found


if __name__ == "__main__":
    console.run(main)
