"""What a machine has and lacks for a study: data, published weights, GPU, memory, disk; each with what to do about it."""
import dataclasses
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import psutil
import torch

from pipeline import study as studies
from pipeline.datasets import archives, mirrors, native
from pipeline.doctor import forecast
from pipeline.schema import Dataset, DatasetName, Run
from pipeline.study import Study

TOO_LONG = 48 * 3600.0      # a study that takes longer without a GPU needs one
UNPACKED, KEPT = 1.1, 2  # unpacked bytes a byte of archive, copies (one is DVC's cache)
GB = 1e9


@dataclasses.dataclass
class Finding:
    """A line of the table. state: OK, missing (the study would fail), or left out (rows of the report say so)."""
    what: str
    state: str
    here: str
    advice: str = ""


def data(study: Study) -> list[Finding]:
    """Each data set and each file of published weights: there, fetched or generated, or not named."""
    found = []
    for name in get_args(DatasetName):
        if (wanted := study.dataset(name)) is None:  # nothing that this scale does needs it
            continue
        source, key = wanted.source, f"scales.{study.scale}.{name}.source"
        if source is None:
            runs = [run for run in study.runs.values() if bool(run.published) != study.settings.trains]
            lost = "Table 4" if name == "imagenet" else f"{sum(name in _datasets(study, run) for run in runs)} of the runs"
            found.append(Finding(name, "left out", "not named", f"without {lost}; or name a folder in {key} of params.yaml"))
        elif source.generate:
            found.append(Finding(name, "OK", "generated"))
        elif source.folder:
            found.append(_there(name, Path(os.path.expanduser(source.folder)), f"no such folder: see {key}"))
        else:
            found.append(_archives(name, source.archives))
    files = {f"scales.{study.scale}.network.backbones.{name}.weights": size.weights
             for name, size in study.settings.network.backbones.items()}
    files |= {f"zoo.{name}.published": study.runs[name].published for name in study.included}
    for key, address in files.items():
        what = f"{key.split('.')[-1]} {key.split('.')[-2]}"
        if address and "://" in address:
            found.append(_archives(what, [archives.at(address)]))
        elif address:
            found.append(_there(what, Path(os.path.expanduser(address)), f"no such file: see {key}"))
    return found


def _datasets(study: Study, run: Run) -> set[str]:
    """The data set that `run` sees, and those of the runs that it starts from."""
    return {run.dataset} | (_datasets(study, study.runs[run.start_run]) if run.start_run else set())


def _there(what: str, path: Path, advice: str) -> Finding:
    there = path.exists() or path.with_name(f"{path.name}.index").exists()  # a checkpoint's prefix
    return Finding(what, "OK", str(path)) if there else Finding(what, "missing", str(path), advice)


def _archives(name: str, archives) -> Finding:
    """Archives that are on this machine, or will be fetched; some need a login, or lie where they are not."""
    lacking = [each for each in archives if not (studies.ARTIFACTS / "archives" / each.name).exists()
               and not any(path and path.is_file() for path in map(mirrors.local, each.mirrors))]
    if not lacking:
        return Finding(name, "OK", "archives are here")
    size = sum(each.size or 0 for each in lacking)
    here = f"to be fetched: {len(lacking)} archive{'s' * (len(lacking) > 1)}" + (f", {size / GB:.1f} GB" if size else "")
    needed = [next(map(_needed, each.mirrors), f"no mirror: put {each.name} into {studies.ARTIFACTS}/archives")
              for each in lacking if not each.optional and all(map(_needed, each.mirrors))]
    if needed:
        return Finding(name, "missing", here, "; ".join(dict.fromkeys(needed)))
    return Finding(name, "OK", here)


def _needed(mirror: str) -> str | None:
    """What to do before `mirror` can give an archive that is not on this machine; None where it can be fetched."""
    return f"there is no {path}" if (path := mirrors.local(mirror)) else mirrors.lacking(mirror)


def machine(study: Study, gpus: int, rates: dict, lanes: int, needed: float) -> list[Finding]:
    """GPU and its memory, memory, disk. rates: of each kind of network (calibration.measure), {} where none could be measured.
    lanes: how many stages run at once. needed: seconds that the study takes."""
    found = []
    process = min((rate.memory for rate in rates.values()), default=0)
    most = max([rate.memory for rate in rates.values()] + [process + forecast.evaluation_memory(study)])
    if gpus:
        there = torch.cuda.get_device_properties(0)
        found.append(Finding("GPU", "OK", f"{gpus} x {there.name}"))
        if rates:
            found.append(_enough("GPU memory", most, there.total_memory, "lower batch, or see accumulate in params.yaml"))
    elif _driver():
        found.append(Finding("GPU", "missing", "nvidia-smi shows one, torch does not", "docs/troubleshooting.md says why"))
    elif rates and needed > TOO_LONG:
        advice = f"the study takes {forecast.spoken(needed)} without one; how large a GPU: docs/paper-scale.md"
        found.append(Finding("GPU", "missing", "none", advice))
    else:
        found.append(Finding("GPU", "OK", "none", "not needed at this scale"))
    if rates and not gpus:
        memory = psutil.virtual_memory()
        at_once = min(lanes, max(1, int(memory.total // most)))
        advice = f"fewer stages at once: --cores {at_once}" if most < memory.total else "a smaller batch, or a GPU"
        found.append(_enough("memory", lanes * most, memory.total, advice))
    free = shutil.disk_usage(studies.ARTIFACTS if studies.ARTIFACTS.exists() else ".").free
    return [*found, _enough("disk", disk(study), free, "docs/troubleshooting.md: another disk for DVC's cache")]


def _driver() -> bool:
    """Whether nvidia-smi lists a GPU that nobody has hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return False
    try:
        return b"GPU" in subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).stdout
    except OSError:
        return False


def _enough(what: str, needed: float, here: float, advice: str) -> Finding:
    said = f"{needed / GB:.1f} GB needed, {here / GB:.0f} GB here"
    return Finding(what, "OK", said) if needed <= here else Finding(what, "missing", said, advice)


def disk(study: Study) -> float:
    """Bytes that the study leaves, roughly, and more rather than less: data, shards, networks, DVC's copies of them."""
    total = 5e8
    for name in get_args(DatasetName):
        source = wanted.source if (wanted := study.dataset(name)) else None
        if source and source.generate:
            total += KEPT * 6 * (source.generate.train + source.generate.val) * source.generate.size ** 2
        elif source:
            size = sum(each.size or 0 for each in source.archives or ())
            total += size + KEPT * UNPACKED * size + KEPT * _shards(name, wanted)
    return total + KEPT * len(study.included) * 2.5e8 * study.settings.network.width ** 2


def _shards(name: str, wanted: Dataset) -> float:
    """Bytes of a data set's shards: colours, labels, and distances where it is evaluated."""
    splits = {recipe.split for recipe in wanted.recipes.values()} | {wanted.evaluate.split}
    each = {split: 3 + (name != "imagenet") * (1 + (split == wanted.evaluate.split)) for split in splits}
    pixels = native.reader(name).FILLED * math.prod(wanted.evaluate.canvas)
    return pixels * sum(forecast.image_count(wanted, name, split) * each[split] for split in splits)
