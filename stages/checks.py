"""What is asked of the settings before anything runs, beyond what pipeline/study.py asks of them alone, and of the folder."""
from pathlib import Path
from typing import get_args

from pipeline import paper, study as studies, written
from pipeline.paper import claims
from pipeline.schema import DatasetName
from pipeline.study import Study, StudyError


def check(study: Study) -> None:
    """As check_settings; and StudyError where dvc.yaml lacks a data set, MLflow (' and %) or DVC ({ and }) cannot work in this
    folder, or `artifacts`, or a folder of outputs in it, is a link, which DVC refuses."""
    check_settings(study)
    listed = written.read(studies.ROOT / "dvc.yaml")["stages"]["download"]["foreach"]
    if lost := [name for name in get_args(DatasetName) if name not in listed]:
        raise StudyError(f"dvc.yaml: its first foreach lacks {lost[0]}, which nothing would prepare: add it there")
    if odd := sorted(set("'%{}") & set(str(Path.cwd()))):
        raise StudyError(f"{Path.cwd()} has {' and '.join(odd)} in its path, at which MLflow or DVC fails: rename that folder")
    folders = map(study.artifacts, ("", "data", "shards", "weights", "runs", "facts", "costs"))
    if link := next((folder for folder in (studies.ARTIFACTS, *folders) if folder.is_symlink()), None):
        raise StudyError(f"{link}/ is a link, and DVC keeps no outputs outside the repository: clone onto the larger disk, or "
                         "move DVC's cache there (docs/troubleshooting.md, No space left)")


def check_settings(study: Study) -> None:
    """StudyError where the paper's rows, a claim, or `evaluate.classes` names what the study, or the data set, does not have,
    where another data set than VOC names its classes, and where a network would be scored on images that it was trained on."""
    paper.check(study)
    claims.check(study)
    for name in study.included:
        if name in study.evaluate:
            _check_unseen(study, name)
    for name in get_args(DatasetName):
        if name != "voc" and (data := study.dataset(name)) and data.source and data.source.classes:
            raise StudyError(f"scales.{study.scale}.{name}.source.classes: only under voc has a folder classes of its own")
    for name in sorted({run.dataset for run in study.runs.values()}):
        if (data := study.dataset(name)) and data.evaluate.classes:
            from pipeline.datasets import native
            study.scored(name, native.classes(name, data))


def _check_unseen(study: Study, name: str) -> None:
    """StudyError where run `name`, or one that it starts from, trains on the split that it is scored on; trainval holds val. Of a
    published network its recipe says what it has seen."""
    dataset, step = study.runs[name].dataset, name
    split = study.dataset(dataset).evaluate.split
    while step:
        run = study.runs[step]
        data = study.dataset(run.dataset)
        training = data and data.recipes.get(run.recipe)
        if training and run.dataset == dataset and (training.split == split or training.split.startswith(f"train{split}")):
            raise StudyError(f"evaluate.{name}: {step} trains on {training.split}, and would be scored on images of {split} that "
                             f"it has seen: take {name} out of `evaluate`, or have it trained or scored on another split")
        step = run.start_run
