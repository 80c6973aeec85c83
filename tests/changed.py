"""Studies that params.yaml does not have: of another scale, of few runs, with other settings."""
from pipeline import study as studies


def at(scale: str) -> studies.Study:
    return studies.load().model_copy(update={"scale": scale})


def of_runs(study, *names: str) -> studies.Study:
    """`study` with these runs alone."""
    return study.model_copy(update={"runs": {name: study.runs[name] for name in names},
                                    "evaluate": {name: study.evaluate[name] for name in names if name in study.evaluate}})


def scale(study, **settings) -> studies.Study:
    """`study` with other settings of its scale, such as network=..."""
    return study.model_copy(update={"scales": study.scales | {study.scale: study.settings.model_copy(update=settings)}})


def dataset(study, name: str, **settings) -> studies.Study:
    """`study` with other settings of a data set at its scale, such as source=..."""
    return scale(study, **{name: getattr(study.settings, name).model_copy(update=settings)})


def training(study, name: str, **settings) -> studies.Study:
    """`study` with other settings of a data set's recipe `train` at its scale, such as crop=..."""
    return dataset(study, name, train=getattr(study.settings, name).train.model_copy(update=settings))
