"""The data sheets that `prepare` left, as the report shows them: where each data set comes from, its splits, its classes."""
from pathlib import Path
from typing import get_args

from PIL import Image

from pipeline import files, records
from pipeline.datasets import native, palettes
from pipeline.schema import DatasetName, Source
from pipeline.study import Study

CLASSES = 60  # more than these are not listed


def generated(study: Study, dataset: str) -> bool:
    """Whether the scale makes the data set's pictures itself."""
    data = study.dataset(dataset)
    return data is not None and data.source is not None and data.source.generate is not None


def title(study: Study, dataset: str) -> str:
    """The data set's name, which says when generated pictures stand in its place; the folder's, where it names its classes."""
    name, data = native.reader(dataset).TITLE, study.dataset(dataset)
    if data and data.source and data.source.classes:
        return f"The folder {Path(data.source.folder).name}"
    return f"Generated, in place of {name}" if generated(study, dataset) else name


def build(study: Study) -> list[dict]:
    """One entry a data set that the scale uses: {"id", "name", "source", "skipped": why it is not there, or "splits", "classes",
    "contact": a picture}, and "incomplete": sentences on what its source lacks."""
    found = []
    for name in get_args(DatasetName):
        data, folder = study.dataset(name), study.artifacts("shards", name)
        if data is None:
            continue
        sheet = {"id": name, "name": title(study, name), "source": _source(data.source), "incomplete": []}
        if (record := records.read(folder)) is None:
            found.append(sheet | {"skipped": f"not prepared yet: dvc repro prepare@{name}"})
        elif record["status"] != "done":
            found.append(sheet | {"skipped": record["reason"]})
        else:
            kept = files.read_json(folder / "sheet.json", classes=list, splits=dict)
            found.append(sheet | {"skipped": None, "contact": _contact(folder / "contact.png"), "classes": _classes(kept),
                                  "count": len(kept["classes"]), "splits": [_split(*one) for one in kept["splits"].items()],
                                  "incomplete": kept.get("incomplete", [])})
    return found


def digests(data: list[dict]) -> str:
    """What the decoded images and labels of each split add up to, in words. data: as `build` gives it."""
    return "; ".join(f"{sheet['id']} " + ", ".join(f"{split['name']} {split['digest']}" for split in sheet["splits"])
                     for sheet in data if not sheet["skipped"]) or "none"


def _source(source: Source | None) -> str:
    if source is None:
        return "not named"
    if source.generate:
        return f"generated, seed {source.generate.seed}"
    if source.folder:
        return f"the folder {source.folder}"
    return "archives " + ", ".join(f"{one.name} (MD5 {one.md5})" if one.md5 else one.name for one in source.archives)


def _split(name: str, sheet: dict) -> dict:
    """One split: images, what they add up to, the range of their sizes, classes an image, share of void pixels in percent."""
    def span(values):
        return f"{values[0]} to {values[1]}" if values[0] != values[1] else str(values[0])
    void = sheet.get("void")
    return {"name": name, "height": span(sheet["height"]), "width": span(sheet["width"]),
            "mean_classes": sheet.get("mean_classes"), "void": None if void is None else 100 * void,
            **{key: sheet[key] for key in ("images", "digest")}}


def _classes(sheet: dict) -> list[tuple[str, list[tuple[int, float | None]]]]:
    """(class, [(images with it, percent of the labelled pixels or None) for each split]) of the classes that occur."""
    splits = list(sheet["splits"].values())
    found = [(name, [(split["images_with"][name], 100 * split["frequency"][name] if "frequency" in split else None)
                     for split in splits]) for name in sheet["classes"]]
    found = [(name, counts) for name, counts in found if any(images for images, _ in counts)]
    return found if len(found) <= CLASSES else []


def _contact(path: Path) -> bytes:
    """The contact sheet, small enough for a page."""
    with files.whole(path):
        return palettes.encoded(Image.open(path).convert("RGB"), "WEBP", quality=70, method=4)
