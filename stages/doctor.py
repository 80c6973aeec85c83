"""What this machine lacks for the chosen scale, and how long the study will take, before anything of it runs.

Example:  python -m stages.doctor
"""
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import typer

from pipeline import study as studies
from pipeline.datasets import mirrors
from pipeline.schema import Archive, DatasetName
from pipeline.study import Study, StudyError
from stages import console, download

CALIBRATION = 10.0          # seconds of training steps
STAGE = 2.5                 # seconds of DVC's and Python's start a stage (docs/scale.md), beside the import of torch
ELSE = 60.0                 # seconds of generating, counting costs, tables and page
BUSY = 1.0                  # processes on average in the last minute
TOO_LONG = 48 * 3600.0      # a study that takes longer without a GPU needs one
UNPACKED, SHARDS, KEPT = 1.1, 9, 2  # bytes a byte of an archive, decoded bytes a byte of JPEG, copies with DVC's cache
GB = 1e9


@dataclasses.dataclass
class Finding:
    """A line of the table. state: OK, missing (the study would fail), or left out (rows of the report say so)."""
    what: str
    state: str
    here: str
    advice: str = ""


def main():
    """Say what this machine lacks for the scale of params.yaml, what to do about it, and how long the study takes here.

    Exit code 0: the study can run; 1: something is missing. Nothing is fetched or written.

    Example:  python -m stages.doctor
    """
    study = studies.load()
    print(f"scale {study.scale}: measuring how fast this machine trains; about {CALIBRATION:.0f} seconds", file=sys.stderr)
    began = time.perf_counter()
    import torch

    from pipeline.training import calibration, forecast
    start = STAGE + time.perf_counter() - began
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    lanes, threads = _lanes(study, gpus)
    torch.set_num_threads(threads)
    works, rates, findings = forecast.works(study), {}, []
    try:
        rates = calibration.measure(study, CALIBRATION)
    except StudyError as error:
        findings.append(Finding("training", "missing", "not one step", str(error)))
    needed = ELSE + STAGE * (8 + len(study.backbones) + 2 * len(study.runs) - len(works)) / lanes
    needed += forecast.total(study, works, rates, lanes, start) if rates else 0
    findings += _machine(study, gpus, rates, lanes, needed) + _data(study)
    _show(findings)
    if rates:
        print(f"\n{forecast.account(works, rates)}")
        print(f"The study takes about {forecast.spoken(needed)} here, {lanes} stages at a time.")
        if os.getloadavg()[0] > BUSY:
            print("Other programs ran meanwhile: on a quiet machine it takes less.")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _show(findings: list[Finding]) -> None:
    wide = [max(len(getattr(finding, name)) for finding in findings) for name in ("what", "state", "here")]
    for finding in findings:
        columns = finding.what, finding.state, finding.here, finding.advice
        print("  ".join(text.ljust(width) for text, width in zip(columns, (*wide, 0))).rstrip())


def _lanes(study: Study, gpus: int) -> tuple[int, int]:
    """How many trainings run at once, and on how many threads each: as the Snakefile has it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    beside = gpus or sum(not study.skipped(run) for run in study.runs) or 1
    return gpus or min(cores, beside), max(1, cores // beside)


def _data(study: Study) -> list[Finding]:
    """Each data set and each file of published weights: there, fetched or generated, or not named."""
    found = []
    for name in get_args(DatasetName):
        source = data.source if (data := study.dataset(name)) else None
        key = f"scales.{study.scale}.{name}.source"
        lost = sum(run.dataset == name and bool(run.published) != study.settings.trains for run in study.runs.values())
        if source is None and (lost or study.settings.trains):  # scale zoo has no use for COCO
            lost = "Table 4" if name == "imagenet" else f"{lost} of the runs"
            found.append(Finding(name, "left out", "not named", f"without {lost}; or name a folder in {key} of params.yaml"))
        elif source is None:
            continue
        elif source.generate:
            found.append(Finding(name, "OK", "generated"))
        elif source.folder:
            found.append(_there(name, Path(source.folder).expanduser(), f"no such folder: see {key}"))
        else:
            found.append(_archives(name, source.archives))
    files = {f"scales.{study.scale}.network.backbones.{name}.weights": size.weights
             for name, size in study.settings.network.backbones.items()}
    files |= {f"zoo.{name}.published": run.published for name, run in study.runs.items() if not study.skipped(name)}
    for key, address in files.items():
        what = f"{key.split('.')[-1]} {key.split('.')[-2]}"
        if address and "://" in address:
            found.append(_archives(what, [Archive(name=Path(address).name, mirrors=(address,))]))
        elif address:
            found.append(_there(what, Path(address).expanduser(), f"no such file: see {key}"))
    return found


def _there(what: str, path: Path, advice: str) -> Finding:
    there = path.exists() or path.with_name(f"{path.name}.index").exists()  # a checkpoint's prefix
    return Finding(what, "OK", str(path)) if there else Finding(what, "missing", str(path), advice)


def _archives(name: str, archives) -> Finding:
    """Archives that are on this machine, or will be fetched; some need a login."""
    lacking = [each for each in archives if not (studies.ARTIFACTS / "archives" / each.name).exists()
               and not any(Path(mirror.removeprefix("file://")).exists() for mirror in each.mirrors)]
    if not lacking:
        return Finding(name, "OK", "archives are here")
    size = sum(each.size or 0 for each in lacking)
    here = f"to be fetched: {len(lacking)} archive{'s' * (len(lacking) > 1)}" + (f", {size / GB:.1f} GB" if size else "")
    needed = [mirrors.lacking(each.mirrors[0]) for each in lacking
              if each.mirrors and not each.optional and all(map(mirrors.lacking, each.mirrors))]
    if needed:
        return Finding(name, "missing", here, "; ".join(dict.fromkeys(needed)))
    return Finding(name, "OK", here)


def _machine(study: Study, gpus: int, rates: dict, lanes: int, needed: float) -> list[Finding]:
    """GPU and its memory, memory, disk."""
    import psutil
    import torch

    from pipeline.training import forecast
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
        advice = f"the study takes {forecast.spoken(needed)} without one; a CUDA GPU with 16 GB is a start"
        found.append(Finding("GPU", "missing", "none", advice))
    else:
        found.append(Finding("GPU", "OK", "none", "not needed at this scale"))
    if rates and not gpus:
        memory = psutil.virtual_memory()
        at_once = min(lanes, max(1, int(memory.total // most)))
        advice = f"fewer stages at once: --cores {at_once}" if most < memory.total else "a smaller batch, or a GPU"
        found.append(_enough("memory", lanes * most, memory.total, advice))
    free = shutil.disk_usage(studies.ARTIFACTS if studies.ARTIFACTS.exists() else ".").free
    return [*found, _enough("disk", _disk(study), free, "docs/troubleshooting.md: another disk for DVC's cache")]


def _driver() -> bool:
    """Whether nvidia-smi lists a GPU."""
    try:
        return b"GPU" in subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).stdout
    except OSError:
        return False


def _enough(what: str, needed: float, here: float, advice: str) -> Finding:
    said = f"{needed / GB:.1f} GB needed, {here / GB:.0f} GB here"
    return Finding(what, "OK", said) if needed <= here else Finding(what, "missing", said, advice)


def _disk(study: Study) -> float:
    """Bytes that the study leaves, roughly, and more rather than less: data, shards, networks, DVC's copies of them."""
    total = 5e8
    for name in get_args(DatasetName):
        source = data.source if (data := study.dataset(name)) else None
        if source and source.generate:
            total += KEPT * 6 * (source.generate.train + source.generate.val) * source.generate.size ** 2
        elif source and source.folder:
            files = filter(os.path.exists, download.paths(Path(source.folder).expanduser()))
            total += KEPT * SHARDS * sum(os.path.getsize(each) for each in files if each.lower().endswith(("jpg", "jpeg", "png")))
        elif source and source.archives:
            size = sum(each.size or 0 for each in source.archives)
            total += size + KEPT * UNPACKED * size + KEPT * SHARDS / 3 * size  # a third of the images has labels
    runs = sum(not study.skipped(run) for run in study.runs)
    return total + KEPT * runs * 2.5e8 * study.settings.network.width ** 2


if __name__ == "__main__":
    console.run(main)
