"""Claims in words as data: which cells of the study each compares, and the differences under which it is true. The paper's, and
what others add."""
import functools
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.paper import checked
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
    at_least: float | None = None
    at_most: float | None = None
    status: str | None = None

    @model_validator(mode="after")
    def _testable_or_not(self):
        if (self.status is None) != bool(self.a and self.b):
            raise ValueError("a claim has either a and b, or a status that says why nobody can test it")
        return self

    @property
    def of_backbones(self) -> bool:
        """Whether it compares backbones on ImageNet; otherwise runs at a strategy."""
        return self.measure in ("top1_error", "top5_error")

    @property
    def bounds(self) -> tuple[float, float]:
        """The differences a - b under which the claim is true, as an interval."""
        low = 0.0 if self.at_least is None and self.at_most is None else self.at_least
        return (float("-inf") if low is None else low), (float("inf") if self.at_most is None else self.at_most)


@functools.cache
def claims() -> dict[str, Claim]:
    """Every claim by its id, in the order of the ledger."""
    return {name: checked(Claim, claim, f"{CLAIMS.name}: {name}") for name, claim in yaml.safe_load(CLAIMS.read_text()).items()}


def check(study: Study) -> None:
    """Raise StudyError listing every claim that names a run, strategy or backbone which the study lacks."""
    problems = []
    for name, claim in claims().items():
        for cell in filter(None, (claim.a, *claim.b)):
            run, _, strategy = cell.partition("/")
            if claim.of_backbones:
                if run not in study.backbones:
                    problems.append(f"{name}: there is no backbone {run!r} in params.yaml")
            elif run not in study.runs:
                problems.append(f"{name}: there is no run {run!r} in params.yaml{suggest(run, study.runs)}")
            elif strategy not in study.evaluate.get(run, ()):
                problems.append(f"{name}: evaluate.{run} in params.yaml lacks {strategy!r}")
    if problems:
        raise StudyError(f"claims in {CLAIMS.name} that the study does not cover:\n  " + "\n  ".join(problems))
