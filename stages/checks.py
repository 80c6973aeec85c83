"""What is asked of the settings before anything runs, beyond what pipeline/study.py asks of them alone."""
from pathlib import Path

from pipeline import paper
from pipeline.paper import claims
from pipeline.study import Study


def check(study: Study) -> None:
    """StudyError where the paper's rows, a claim, or `evaluate.classes` names what the study, or the data set, does not have."""
    paper.check(study)
    claims.check(study)
    for name in sorted({run.dataset for run in study.runs.values()}):
        if (data := study.dataset(name)) and data.evaluate.classes:
            from pipeline.datasets import native
            study.scored(name, native.reader(name).classes(Path()))
