"""What stands above every page, and in every picture of measured numbers, that is not of the paper's experiment."""
from pipeline.reporting import sheets
from pipeline.study import Study

NO_RESULT = "not a result of the paper's experiment"


def build(study: Study, missing: int, departing: dict[str, list[str]], data: list[dict]) -> dict | None:
    """{"short", "long": in a word, and why; "mark": for a picture of its own}, or None where it is the paper's experiment.

    missing: rows not measured yet; departing: as `protocol.departing` gives it; data: as `sheets.build` does.
    """
    if study.scale == "paper":
        why = [f"rows not measured yet: {missing}"] if missing else []
        why += departures(departing, data)
        return {"short": "draft", "long": "; ".join(why), "mark": f"Scale paper, a draft: {NO_RESULT}"} if why else None
    if sheets.generated(study, "voc"):
        why = ["generated data and small networks, not a result. Its percentages are not comparable with the paper's; what "
               "can be compared is the order of the rows"]
    elif study.settings.trains:
        why = [f"not the paper's data or networks, so {NO_RESULT}", *departures({}, data)]
    else:
        why = [f"published networks, evaluated here; nothing was trained, so {NO_RESULT}", *departures({}, data)]
    return {"short": study.scale, "long": "; ".join(why), "mark": mark(study.scale)}


def mark(scale: str) -> str:
    """What a picture says that somebody may pass on alone; empty at scale paper."""
    return "" if scale == "paper" else f"Scale {scale}: {NO_RESULT}"


def departures(departing: dict[str, list[str]], data: list[dict]) -> list[str]:
    """In what the experiment is not the paper's: how many networks, and which data. Arguments as `build` takes them."""
    lacks = [f"{sheet['name']}: {', '.join(sheet['incomplete'])}" for sheet in data if sheet["incomplete"]]
    found = [f"networks not trained and evaluated by the paper's protocol: {len(departing)}"] if departing else []
    return found + ([f"the data are not complete ({'; '.join(lacks)})"] if lacks else [])
