"""Label your own photos with a trained network."""
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pipeline import progress, records, study as studies
from pipeline.schema import Strategy
from pipeline.study import Study, StudyError
from pipeline.written import suggest
from stages import console

ENDINGS = ".labels.png", ".overlay.png"


def main(network: Annotated[str, typer.Argument(help="a run of params.yaml, or the folder or file (model.safetensors) of one")],
         images: Annotated[list[Path], typer.Argument(help="photos of any size and format that Pillow reads")],
         out: Annotated[Path | None, typer.Option(help="folder for the results; beside each photo if left out")] = None,
         strategy: Annotated[str | None, typer.Option(help="one of params.yaml; plain, as in training, if left out")] = None,
         longest: Annotated[int | None, typer.Option(min=33, help="longest side in pixels: larger photos are shrunk to it; "
                                                     "twice the training crop if left out")] = None):
    """Label your own photos: NAME.labels.png, a palette PNG, and NAME.overlay.png.

    Photos are turned as their EXIF says; what is transparent lies on grey, 16 bits become 8, CMYK becomes RGB.

    A photo that cannot be read is named, the rest goes on, and the exit code is 1. Results of an earlier call, where they lie
    beside their photos, are not labelled themselves, so FOLDER/* may be given twice.

    Example:  python -m stages.predict t2-x2 holiday.jpg --out labelled
    """
    study = studies.load()
    chosen = strategy and console.pick("strategy", strategy, study.strategies)
    if out and out.exists() and not out.is_dir():
        raise StudyError(f"--out {out} is a file: name a folder")
    folder, left = locate(study, network), results(images)
    targets = names([path for path in images if path not in left], out)
    if left:
        print(f"left out: results of an earlier call beside their photos, {len(left)} files such as {min(left)}", file=sys.stderr)
    from pipeline.datasets import palettes
    from pipeline.evaluation import photos, trained
    from pipeline.models import device as devices
    found = trained.described(folder)
    run = found.run
    chosen = chosen or Strategy(output_stride=run.output_stride, scales=(1.0,), flip=False)
    models = trained.load(study, folder, {chosen.output_stride}, devices.pick(autotune=False))
    data = study.dataset(run.dataset)
    if network in study.runs and data and data.source and data.source.generate:
        print(f"{network} has seen generated scenes only; networks for photos: docs/own-data.md, docs/zoo.md", file=sys.stderr)
    palette, failed = palettes.of(run.dataset, len(found.classes)), 0
    bar = progress.bar("predict", len(targets), "photo", of=targets.items())
    for path, (maps, overlay) in bar:
        try:
            image = photos.read(path)
            with devices.memory_explained("Lower --longest"):
                labels = photos.label(models, image, chosen, longest or photos.longest_side(found.crop))
            photos.save(labels, image, palette, maps, overlay)
        except (OSError, StudyError) as error:
            failed += 1
            bar.write(f"error: {path}: {error}", file=sys.stderr)
        else:
            bar.write(f"{path}: {photos.shares(labels, found.classes)} -> {maps}")
    if failed:
        raise StudyError(f"{failed} of {len(targets)} photos could not be labelled: see above")


def locate(study: Study, network: str) -> Path:
    """The folder of a trained network: a run's, or the one that is named itself or by its weights."""
    if network in study.runs:
        return study.artifacts("runs", network)
    path = Path(network)
    if not path.exists():
        raise StudyError(f"{network} is no folder and no run of params.yaml{suggest(network, study.runs)}")
    if path.is_file() and path.name != records.MODEL:
        raise StudyError(f"{network}: name the folder that a training left, or the {records.MODEL} in it")
    return path if path.is_dir() else path.parent


def results(images: list[Path]) -> set[Path]:
    """Those that are NAME.labels.png or NAME.overlay.png beside NAME, or a NAME.EXT, among `images`: no photos."""
    photos = {path.parent / name for path in images for name in (path.stem, path.name)}
    return {path for path in images for ending in ENDINGS
            if path.name.endswith(ending) and path.parent / path.name.removesuffix(ending) in photos}


def names(images: list[Path], out: Path | None) -> dict[Path, tuple[Path, Path]]:
    """For each photo its label map and its overlay: STEM.labels.png, or NAME.EXT.labels.png where two photos share a stem.
    StudyError where one of these is a photo itself, or another photo's."""
    images = list(dict.fromkeys(images))
    stems = {path: (out or path.parent) / path.stem for path in images}
    alike = Counter(stems.values())
    targets = {path: stem if alike[stem] == 1 else stem.with_name(path.name) for path, stem in stems.items()}
    users = Counter(targets.values())
    twice = [str(path) for path in images if users[targets[path]] > 1]
    if twice:
        raise StudyError(f"{', '.join(twice)} would leave the same files in {out}: label them with different --out")
    found = {path: tuple(Path(f"{target}{ending}") for ending in ENDINGS) for path, target in targets.items()}
    given = {path.resolve() for path in images}
    if lost := [f"{each}, by what {path} gives" for path, pair in found.items() for each in pair if each.resolve() in given]:
        raise StudyError(f"photos would be overwritten: {'; '.join(lost)}. Label them with another --out")
    return found


if __name__ == "__main__":
    console.run(main)
