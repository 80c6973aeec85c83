"""How the paper's networks were built, trained and evaluated, as data, and which networks at scale paper were so otherwise."""
import functools
from pathlib import Path

from pipeline import records
from pipeline.study import Study
from pipeline.written import read

PROTOCOL = Path(__file__).with_name("protocol.yaml")


@functools.cache
def protocol() -> dict[str, dict]:
    """The sections of protocol.yaml: network, backbones, strategies, and each data set's."""
    return read(PROTOCOL)


def departing(study: Study) -> dict[str, list[str]]:
    """Each trained run that is not the paper's by its protocol, and in what: "steps 2, not 30000". At scale paper only."""
    if study.scale != "paper":
        return {}
    found = {}
    for name in study.runs:
        record = records.done(study.artifacts("runs", name))
        if record and (words := _of_run(study, name, record["params"])):
            found[name] = words
    return found


def _of_run(study: Study, name: str, params: dict) -> list[str]:
    """What a run was trained with is in its record, `params`; what it is evaluated with is the study's."""
    run, network = study.runs[name], params["network"]
    known, dataset = protocol(), protocol().get(run.dataset, {})
    found = departures(params["training"], dataset.get(params["run"]["recipe"], {}))
    found += departures(network, known["network"])
    found += departures(network["backbones"][run.backbone], known["backbones"].get(run.backbone, {}), f"{run.backbone}'s ")
    if name in study.evaluate:
        scored = study.dataset(run.dataset).evaluate.model_dump(mode="json")
        found += departures(scored, dataset.get("evaluate", {}), "evaluation's ")
    for each in study.evaluate.get(name, ()):
        strategy = study.strategies[each].model_dump(mode="json")
        found += departures(strategy, known["strategies"].get(each, {}), f"{each}'s ")
    return found


def departures(settings: dict, wanted: dict, whose: str = "") -> list[str]:
    """What `settings` have that the protocol's section `wanted` has not, in words. A number may be wanted [low, high]."""
    found = []
    for key, value in wanted.items():
        own = settings.get(key, value)
        ranged = isinstance(value, list) and not isinstance(own, list)
        if not (value[0] <= own <= value[1] if ranged else own == value):
            said = f"{value[0]} to {value[1]}" if ranged else _spoken(value)
            found.append(f"{whose}{key.replace('_', ' ')} {_spoken(own)}, not {said}")
    return found


def _spoken(value) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "all" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
