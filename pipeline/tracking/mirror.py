"""MLflow as a view: one experiment per table of the paper, one run per row, made from the plain files that the stages left.

Idempotent by a digest tag: a row that did not change is left alone, one that changed is replaced, one that is gone is deleted;
rows of other scales are not touched. Times are the original ones. Training never imports mlflow: DVC's run cache restores results
without running anything, so a stage that logs by itself loses its log, and processes that open a fresh SQLite store at the same
time break it.
"""
import contextlib
import functools
import hashlib
from typing import NamedTuple, get_args

from pipeline import files, paper, progress, records
from pipeline.paper.rows import TITLES, TRAININGS
from pipeline.schema import DatasetName
from pipeline.study import ROOT, Study
from pipeline.tracking import live, local, store
from pipeline.tracking.store import DIGEST, PARENT, WRITER

SHOWN = local.FOLDER / "shown"  # the fingerprint of what the local store shows
CODE = [ROOT / "pipeline" / room for room in ("datasets", "evaluation", "paper", "tracking")]  # it decides what is shown


class Mirrored(NamedTuple):
    """`changes`: how many runs were written or deleted. `runs`: (table, key) -> the id of the run that shows it."""
    changes: int
    runs: dict[tuple[str, str], str]


def current(study: Study) -> bool:
    """Whether the local store shows the files as they are now. Needs no mlflow. Of a store elsewhere that is never known."""
    return store.is_ours() and local.here() and SHOWN.exists() and SHOWN.read_text() == fingerprint(study)


def fingerprint(study: Study) -> str:
    """What the mirror depends on: settings, the paper's numbers and code; sizes and times of the files, which are not read."""
    sha = hashlib.sha256(f"{study.model_dump_json()} {_code()}".encode())
    names = [(kind, name) for kind, group in (("weights", study.backbones), ("runs", study.runs), ("facts", study.evaluate),
                                             ("data", get_args(DatasetName)), ("shards", get_args(DatasetName)))
             for name in group]
    for folder in [study.artifacts(kind, name) for kind, name in names] + [study.artifacts("costs")]:
        for name in (records.RECORD, records.HISTORY, "facts.parquet", "labels.parquet", "costs.parquet", "sheet.json",
                     "source.json"):
            with contextlib.suppress(FileNotFoundError):
                found = (folder / name).stat()
                sha.update(f"{folder / name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return sha.hexdigest()


@functools.cache  # what this process works with: while `make ui` is open, files may be edited
def _code() -> str:
    return files.digest(paper.TABLES, *CODE)


def mirror(study: Study) -> Mirrored:
    """Make MLflow show what the study has measured. Raises StudyError where the store cannot be used."""
    from pipeline.tracking.entries import entries  # not above: pyarrow, numpy and mlflow would cost `current` a second
    with local.alone(), store.explained():
        before, client = fingerprint(study), store.connect()
        existing = {table: store.existing(client, study, table) for table in TITLES}
        changes, shown, digests = 0, {}, {}
        last_first = sorted(entries(study), key=lambda entry: -list(TITLES).index(entry.table))  # MLflow then lists Table 1 first
        for entry in progress.bar("MLflow", None, "run", of=last_first):
            found, own = entry.content(), (entry.table, entry.key)
            there = existing[entry.table].pop(entry.key, [])
            if found is not None:
                above = (entry.table, entry.parent)
                digests[own] = found.digest(entry.name, str(entry.place), digests.get(above, ""))
                parent = shown.get(above)
                same = [run for run in there if store.complete(run) and run.data.tags[DIGEST] == digests[own]
                        and run.data.tags.get(PARENT) == parent]
                shown[own] = same[0].info.run_id if same else store.log(client, study, entry, found, digests[own], parent)
                there = [run for run in there if run.info.run_id != shown[own]]
                changes += not same
            elif entry.table == TRAININGS and live.follows(study, entry.key):
                continue  # it is training: `live` draws it
            changes += store.delete(client, [run for run in there if _ours(run)])
        changes += sum(store.delete(client, [run for run in there if _ours(run)])
                       for table in existing.values() for there in table.values())
        if store.is_ours():
            files.write_file(SHOWN, before)
        else:
            _agree(client, study, shown, digests)
        return Mirrored(changes, shown)


def _ours(run) -> bool:
    """Whether we may delete a run: all in the local store; elsewhere what this folder wrote."""
    return store.is_ours() or run.data.tags.get(WRITER) == store.writer()


def _agree(client, study: Study, shown: dict, digests: dict) -> None:
    """Of what several writers logged at once, keep the run with the lowest id, which `shown` then names: all choose alike."""
    for table in {table for table, _ in shown}:
        found = store.existing(client, study, table)
        for key, there in sorted(found.items(), key=lambda item: "/" in item[0]):  # parents first: their keys are names of runs
            same = [run for run in there if store.complete(run) and run.data.tags[DIGEST] == digests.get((table, key))]
            if same:
                store.delete(client, same[1:])
                shown[table, key] = same[0].info.run_id
                parent = shown.get((table, key.partition("/")[0])) if PARENT in same[0].data.tags else None
                if parent and same[0].data.tags[PARENT] != parent:
                    client.set_tag(shown[table, key], PARENT, parent)


def read_back(study: Study, runs: dict[tuple[str, str], str]) -> dict[tuple[str, str], dict]:
    """What MLflow has in the `runs` that `mirror` named, by (table, row key): {"metrics": name -> value, "curves": name ->
    {width: value}}. Curves are only those of Figure 5: each is one more request, a search gives a metric's last value."""
    with store.explained():
        client = store.connect()
        there = {run.info.run_id: run for table in TITLES if table != TRAININGS
                 for found in store.existing(client, study, table).values() for run in found}
        # another writer may have deleted it since; a deleted run can still be read
        return {(table, key): _numbers(client, there.get(run_id) or client.get_run(run_id), curves=table == "figure5")
                for (table, key), run_id in runs.items() if table != TRAININGS}


def _numbers(client, run, curves: bool) -> dict:
    wanted = [curve for curve in run.data.metrics if curve.startswith("trimap_")] if curves else []
    return {"metrics": dict(run.data.metrics),
            "curves": {curve: {point.step: point.value for point in client.get_metric_history(run.info.run_id, curve)}
                       for curve in wanted}}
