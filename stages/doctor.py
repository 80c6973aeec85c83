"""What this machine lacks for a scale, and how long the study will take, before anything of it runs."""
import os
import sys
import time
from typing import Annotated, get_args

import typer

from pipeline import records, study as studies
from pipeline.schema import DatasetName
from pipeline.study import Study, StudyError
from stages import console, scale as scales

CALIBRATION = 10.0          # seconds of training steps
STAGE = 2.5                 # seconds of DVC's and Python's start a stage (docs/performance.md), beside the import of torch
ELSE = 60.0                 # seconds of generating, counting costs, tables and page
BUSY = 1.0                  # processes on average in the last minute


def main(scale: Annotated[str | None, typer.Option(help="the scale to look at, where it is not that of params.yaml")] = None):
    """Say what this machine lacks for the scale of params.yaml, what to do about it, and how long the study takes here.

    Exit code 0: the study can run; 1: something is missing. Nothing is fetched or written.

    Examples:

      python -m stages.doctor

      python -m stages.doctor --scale paper
    """
    study = studies.load()
    if scale:
        study = scales.chosen(study, scale)
    print(f"scale {study.scale}: measuring how fast this machine trains; about {CALIBRATION:.0f} seconds", file=sys.stderr)
    began = time.perf_counter()
    import torch

    from pipeline.doctor import calibration, findings, forecast
    start = STAGE + time.perf_counter() - began
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    lanes, threads = _lanes(study, gpus)
    torch.set_num_threads(threads)
    works, rates, found = forecast.works(study), {}, []
    try:
        rates = calibration.measure(study, CALIBRATION)
    except StudyError as error:
        found.append(findings.Finding("training", "missing", "not one step", str(error)))
    # Stages with next to nothing to compute: download and prepare, and those of `works` that this scale skips.
    idle = 2 * len(get_args(DatasetName)) + len(study.backbones) + len(study.runs) + len(study.evaluate) - len(works)
    needed = ELSE + STAGE * idle / lanes
    needed += forecast.total(study, works, rates, lanes, start) if rates else 0
    found += findings.machine(study, gpus, rates, lanes, needed) + findings.data(study)
    _show(found)
    if rates:
        print(f"\n{forecast.account(works, rates)}")
        print(f"The study takes about {forecast.spoken(needed)} here, {lanes} stage{'s' * (lanes > 1)} at a time.")
        if os.getloadavg()[0] > BUSY:
            print("Other programs ran meanwhile: on a quiet machine it takes less.")
    if any(finding.state == "missing" for finding in found):
        raise typer.Exit(1)


def _show(found: list) -> None:
    wide = [max(len(getattr(finding, name)) for finding in found) for name in ("what", "state", "here")]
    for finding in found:
        columns = finding.what, finding.state, finding.here, finding.advice
        print("  ".join(text.ljust(width) for text, width in zip(columns, (*wide, 0))).rstrip())


def _lanes(study: Study, gpus: int) -> tuple[int, int]:
    """Stages at once, and threads each, as the Snakefile has it: one a GPU; else the cores are shared among as many as runs."""
    cores, beside = records.cores(), gpus or len(study.included) or 1
    return gpus or min(cores, beside), max(1, cores // beside)


if __name__ == "__main__":
    console.run(main)
