"""How the paper's networks were trained, as data, and which trainings at scale paper were trained otherwise."""
import functools
from pathlib import Path

from pipeline import records
from pipeline.study import Study
from pipeline.written import read

PROTOCOL = Path(__file__).with_name("protocol.yaml")


@functools.cache
def protocol() -> dict[str, dict[str, dict]]:
    """By data set and recipe: setting -> its value, or [low, high] where the sources leave it open."""
    return read(PROTOCOL)


def departures(dataset: str, recipe: str, training: dict) -> list[str]:
    """What a training's settings have that the paper's protocol has not, in words: "steps 2, not 30000"."""
    found = []
    for key, wanted in protocol().get(dataset, {}).get(recipe, {}).items():
        low, high = wanted if isinstance(wanted, list) else (wanted, wanted)
        if not low <= training.get(key, low) <= high:
            found.append(f"{key.replace('_', ' ')} {training[key]}, not {low if low == high else f'{low} to {high}'}")
    return found


def departing(study: Study) -> dict[str, list[str]]:
    """Each run whose record says that it was not trained by the paper's protocol, and in what; at scale paper only."""
    if study.scale != "paper":
        return {}
    done = {name: records.read(study.artifacts("runs", name)) for name in study.runs}
    said = {name: departures(record["params"]["run"]["dataset"], record["params"]["run"]["recipe"], record["params"]["training"])
            for name, record in done.items() if record and record["status"] == "done"}
    return {name: words for name, words in said.items() if words}
