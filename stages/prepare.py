"""Decode a data set once into memory-mapped shards, with a data sheet and a contact sheet."""
import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from pipeline import files, records, schema, study as studies
from pipeline.datasets import native, pool
from pipeline.study import StudyError
from stages import console


def main(dataset: Annotated[str, typer.Argument(help=", ".join(get_args(schema.DatasetName)))]) -> None:
    """Decode DATASET, as stage download left it, into artifacts/SCALE/shards/DATASET.

    Writes SPLIT.arrow (and SPLIT-0001.arrow, ...) for the splits that the scale trains and evaluates on, sheet.json (counts,
    class frequencies, sizes) and contact.png. Stops with one list of all files that are missing, unreadable, of the wrong size or
    wrongly labelled; a long one is in a file. Interrupted, it goes on where it was.

    Examples:

      python -m stages.prepare voc

      OMP_NUM_THREADS=4 python -m stages.prepare coco     (on four cores)
    """
    study = studies.load()
    console.pick("data set", dataset, dict.fromkeys(get_args(schema.DatasetName)))
    downloaded, out = study.artifacts("data", dataset), study.artifacts("shards", dataset)
    if downloaded.exists() and not any((downloaded / name).exists() for name in ("source.json", records.RECORD)):
        raise StudyError(f"{downloaded} is not complete, its download was stopped: python -m stages.download {dataset} goes on "
                         "with it")
    if reason := console.upstream_skipped(downloaded):
        shutil.rmtree(out, ignore_errors=True)
        return console.skip(out, reason)
    root = Path(files.read_json(downloaded / "source.json", root=str)["root"])
    shutil.rmtree(out, ignore_errors=True)
    sheet = _shards(dataset, study.dataset(dataset), root, out, study.artifacts("unfinished", dataset))
    files.write_file(out / "sheet.json", json.dumps(sheet, indent=2) + "\n")
    # No times or machine here: shards that come out the same must look the same to what depends on them.
    records.write(out, status="done", metrics={f"{split}_images": row["images"] for split, row in sheet["splits"].items()})
    counts = ", ".join(f"{row['images']} {split}" for split, row in sheet["splits"].items())
    print(f"prepare {dataset}: {counts} images in {out}")


def _shards(dataset: schema.DatasetName, data: schema.Dataset, root: Path, out: Path, unfinished: Path) -> dict:
    """Write the shards and the contact sheet; returns the data sheet."""
    from pipeline.datasets import preparation
    from pipeline.datasets.contact import contact_sheet
    from pipeline.datasets.shards import Shard
    reader = native.reader(dataset)
    options = {"proportional": True} if dataset == "coco" and data.source.generate else {}
    found, classes = reader.splits(root, **options), native.classes(dataset, data, root)
    splits = _wanted(dataset, data, root, list(found))
    counts = reader.counts(root) if dataset == "coco" else {name: len(items) for name, items in found.items()}
    incomplete = _incomplete(dataset, data.source, counts, splits)
    size = data.evaluate.canvas if dataset == "imagenet" and not data.source.generate else None
    rows, unusable = {}, []
    for name in splits:
        try:
            rows[name] = preparation.write_shard(out / f"{name}.arrow", unfinished, dataset, classes, found[name], size=size,
                                                 distances=name == data.evaluate.split, workers=pool.workers())
        except preparation.UnusableFiles as error:
            unusable.append(error)
    if unusable:
        raise StudyError(_listed(unusable, unfinished / "unusable.txt"))
    _check_labels(dataset, data.evaluate, rows)
    _check_canvas(dataset, data.evaluate, rows[data.evaluate.split])
    colours = reader.colours(len(classes)) if dataset != "imagenet" else None
    contact_sheet(Shard(out / f"{splits[0]}.arrow"), colours, out / "contact.png")
    shutil.rmtree(unfinished, ignore_errors=True)
    sheet = {"dataset": dataset, "classes": classes, "colours": colours.tolist() if colours is not None else None, "splits": rows}
    return sheet | ({"incomplete": incomplete} if incomplete else {})


def _wanted(dataset: str, data: schema.Dataset, root: Path, known: list[str]) -> list[str]:
    """The splits that the scale trains and evaluates on, each once. StudyError where one is not among those `known` at `root`."""
    users = data.recipes | {"evaluate": data.evaluate}
    splits = list(dict.fromkeys(user.split for user in users.values()))
    for name in splits:
        if name not in known:
            keys = ", ".join(f"{dataset}.{key}.split" for key, user in users.items() if user.split == name)
            masks = " train_aug takes the masks of SBD: docs/data.md says where they go." if name == "train_aug" else ""
            raise StudyError(f"{dataset} in {root} has no split {name}; there are {', '.join(known)}.{masks} "
                             f"See {keys} of this scale in params.yaml")
    return splits


def _listed(unusable: list, path: Path) -> str:
    """The message about files of all splits that cannot be used. Where it is cut short, the whole list goes to `path`."""
    said, whole = "\n".join(map(str, unusable)), "\n".join(line for error in unusable for line in error.lines)
    if said == whole:
        return said
    files.write_file(path, f"{whole}\n".encode(errors="backslashreplace"))
    return f"{said}\nAll of them are in {path}"


def _check_labels(dataset: str, evaluation: schema.Evaluation, rows: dict[str, dict]) -> None:
    """StudyError where a score would mislead: labels have one class, such as masks of 0 and 255, with void objects: 100 %; or
    they lack one that is scored, and the mean is of the others."""
    for split, row in rows.items():
        found = [name for name, pixels in row.get("pixels", {}).items() if pixels]
        if "pixels" in row and len(found) < 2:
            said = f"each labelled pixel is {found[0]}" if found else "no pixel is labelled"
            raise StudyError(f"{dataset}'s split {split}: {said}, so there is nothing to tell apart. In a label 255 is void; "
                             "objects have the numbers of their classes")
    if lost := [name for name in evaluation.classes or () if not rows[evaluation.split].get("pixels", {}).get(name)]:
        raise StudyError(f"{dataset}'s split {evaluation.split} has no pixel of {', '.join(lost)}: evaluate.classes of {dataset} "
                         "in params.yaml says of which classes mIOU is the mean")


def _check_canvas(dataset: str, evaluation: schema.Evaluation, sheet: dict) -> None:
    """The images that networks are evaluated on have to fit the canvas: after days of training is too late to say so."""
    sides = sheet["height"][1], sheet["width"][1]
    if any(side > limit for side, limit in zip(sides, evaluation.canvas)):
        here, there = ("x".join(map(str, each)) for each in (sides, evaluation.canvas))
        raise StudyError(f"images of {dataset}'s split {evaluation.split} have up to {here} pixels (height x width), the "
                         f"canvas they are evaluated on has {there}: enlarge evaluate.canvas of {dataset} in params.yaml")


def _incomplete(dataset: str, source: schema.Source, counts: dict[str, int], splits: list[str]) -> list[str]:
    """What a folder lacks of the complete data set, whose counts are known, a line a split. StudyError where anything else than a
    folder, which may be a part of it, has other counts: that was lost on the way."""
    expected = {} if source.classes else native.reader(dataset).COUNTS  # with classes of its own, it is no part of it
    if source.generate:
        train = "train_aug" if dataset == "voc" else "train"
        expected = {train: source.generate.train, "val": source.generate.val}
    wrong = [f"{name} has {counts[name]} images, not {expected[name]}" for name in splits
             if counts[name] != expected.get(name, counts[name])]
    found = f"{dataset} is not complete: {'; '.join(wrong)}"
    if wrong and source.folder:
        print(f"warning: {found}. Scores on a part of it are not those that others publish", file=sys.stderr)
    elif wrong:
        unsure = ", ".join(each.name for each in source.archives or () if not each.md5)
        first = f"; first delete {unsure} in {studies.ARTIFACTS}/archives, of which no md5 is named" if unsure else ""
        raise StudyError(f"{found}. dvc repro --force download@{dataset} makes it anew{first}")
    return wrong


if __name__ == "__main__":
    console.run(main)
