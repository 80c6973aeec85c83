"""Claims in words as data, the paper's and others': which cells each compares, and under which differences it is true."""
import functools
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.paper import checked, named
from pipeline.study import Study, StudyError
from pipeline.written import suggest

CLAIMS = Path(__file__).with_name("claims.yaml")


class Claim(BaseModel):
    """One claim. Field meanings: the head of `claims.yaml`."""
    model_config = ConfigDict(extra="forbid", frozen=True)
    sentence: str
    where: str
    measure: Literal["miou", "trimap1", "trimap1-miou", "madds", "madds_saved", "top1_error", "top5_error"]
    predicts: float | None = None
    a: str | None = None
    b: tuple[str, ...] = ()
    than: tuple[str, str] | None = None
    at_least: float | None = None
    at_most: float | None = None
    status: str | None = None
    test_server: Literal["voc", "cityscapes"] | None = None

    @model_validator(mode="after")
    def _testable_or_not(self):
        if (self.status is None) != bool(self.a and self.b):
            raise ValueError("a claim has either a and b, or a status that says why nobody can test it")
        if self.a in self.b:
            raise ValueError(f"{self.a} is compared with itself")
        if self.than and not self.of_images:
            raise ValueError(f"than is for differences of mIOU, not of {self.measure}")
        if self.bounds[0] >= self.bounds[1]:
            raise ValueError(f"no difference is at least {self.bounds[0]:g} and at most {self.bounds[1]:g}")
        return self

    @property
    def of_backbones(self) -> bool:
        """Whether it compares backbones on ImageNet; otherwise runs at a strategy."""
        return self.measure in ("top1_error", "top5_error")

    @property
    def of_images(self) -> bool:
        """Whether it compares mIOU, image by image."""
        return not self.of_backbones and not self.measure.startswith("madds")

    @property
    def cells(self) -> list[str]:
        """All that it compares."""
        return [*filter(None, [self.a]), *self.b, *(self.than or ())]

    @property
    def bounds(self) -> tuple[float, float]:
        """The differences a - b (less that of `than`) under which the claim is true, as an interval."""
        low = 0.0 if self.at_least is None and self.at_most is None else self.at_least
        return (float("-inf") if low is None else low), (float("inf") if self.at_most is None else self.at_most)


@functools.cache
def claims() -> dict[str, Claim]:
    """Every claim by its id, in the order of the ledger."""
    return {name: checked(Claim, claim, f"{CLAIMS.name}: {name}") for name, claim in named(CLAIMS).items()}


def check(study: Study) -> None:
    """Raise StudyError listing what is wrong with the claims of `claims.yaml`, as `problems` finds it."""
    if found := [f"{name}: {problem}" for name, claim in claims().items() for problem in problems(study, claim)]:
        raise StudyError(f"claims in {CLAIMS.name} that the study does not cover:\n  " + "\n  ".join(found))


def problems(study: Study, claim: Claim) -> list[str]:
    """The runs, strategies and backbones of a claim that the study lacks, and data sets whose images cannot be paired."""
    found = []
    for cell in claim.cells:
        run, _, strategy = cell.partition("/")
        if claim.of_backbones:
            if run not in study.backbones:
                found.append(f"there is no backbone {run!r} in params.yaml{suggest(run, study.backbones)}")
        elif run not in study.runs:
            found.append(f"there is no run {run!r} in params.yaml{suggest(run, study.runs)}")
        elif not strategy:
            found.append(f"{cell}: write RUN/STRATEGY, such as {run}/{study.evaluate.get(run, ('os16',))[0]}")
        elif strategy not in study.evaluate.get(run, ()):
            found.append(f"evaluate.{run} in params.yaml lacks {strategy!r}")
    if not found and claim.of_images:
        sets = {cell: study.runs[cell.partition("/")[0]].dataset for cell in claim.cells}
        if len(set(sets.values())) > 1:
            where = ", ".join(f"{cell} on {name}" for cell, name in sets.items())
            found.append(f"images are paired, so both sides are evaluated on one data set: here {where}")
    return found
