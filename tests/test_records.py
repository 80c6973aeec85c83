"""What stages leave beside a result: where it was made, and its curves; and what reads them says of a damaged one."""
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import files, records
from pipeline.evaluation import measure
from pipeline.reporting import runs, sheets
from pipeline.study import StudyError
from pipeline.tracking import curves


def test_a_curves_points_have_the_time_in_milliseconds():
    history, before = records.History(), time.time()
    history.log(3, loss=0.5)
    (step, metric, value, when), = history.rows
    assert (step, metric, value) == (3, "loss", 0.5) and 1000 * before - 1 <= when <= 1000 * time.time()


def test_without_git_there_is_no_commit_and_no_error(monkeypatch, tmp_path):
    assert records.provenance(time.time())["commit"]
    monkeypatch.setenv("PATH", str(tmp_path))
    found = records.provenance(time.time())
    assert found["commit"] is None and found["dirty"] is None and found["python"]


def test_a_checkout_of_another_users_has_its_commit_too(monkeypatch):
    """As a container sees a folder from outside: git refuses it, DVC does not."""
    commit = records.provenance(time.time())["commit"]
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own
    assert subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=False).returncode
    assert records.provenance(time.time())["commit"] == commit


def test_the_processor_is_named_where_the_system_tells_it(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "CPUINFO", tmp_path / "cpuinfo")
    assert records.provenance(0.0)["processor"] is None
    first = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC: 9B14\n"  # a virtual machine may call others so, too
    (tmp_path / "cpuinfo").write_text(f"{first}\nprocessor\t: 1\nmodel\t\t: 2\nmodel name\t: other\n")
    assert records.provenance(0.0)["processor"] == "AMD EPYC: 9B14 (family 25, model 1)"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp\n")  # as on ARM
    assert records.provenance(0.0)["processor"] is None


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20, 1001])
def test_a_curve_is_thinned_to_so_many_points_with_both_ends(count):
    points = list(range(count))
    kept = records.thinned(points, 8)
    assert kept == points if count <= 8 else len(kept) == 8 and (kept[0], kept[-1]) == (0, count - 1)
    gaps = [after - before for before, after in zip(kept, kept[1:])]
    assert not gaps or max(gaps) - min(gaps) <= 1 and min(gaps) > 0


@pytest.mark.parametrize("content", [b"PAR1 {", b"null", b"[]", b'{"status": "done"}', b'{"status": 1, "params": {}, "metrics": {}, "provenance": {}}'])
@pytest.mark.parametrize("read", [lambda path: records.read(path.parent), lambda path: runs.history(Home, "t1"),
                                  lambda path: curves.of(path.parent), lambda path: measure.costs(Home),
                                  lambda path: measure.label_maps(Home, "t1", "os16"), lambda path: sheets._contact(path.parent / "contact.png")])
def test_a_damaged_file_is_named(tmp_path, monkeypatch, content, read):
    monkeypatch.chdir(tmp_path)
    for name in (records.RECORD, records.HISTORY, "costs.parquet", "labels.parquet", "contact.png"):
        Path(name).write_bytes(content)
    with pytest.raises(StudyError, match=r"(record.json|history.parquet|costs.parquet|labels.parquet|contact.png) is damaged .*: delete it; make study"):
        read(tmp_path / records.RECORD)


@pytest.mark.parametrize("read", [files.read_json, files.digest, sheets._contact])
def test_a_file_that_somebody_deleted_is_named(read):
    with pytest.raises(StudyError, match="shards/voc/none is missing: make study, or dvc repro, makes it anew"):
        read(Path("shards/voc/none"))


def test_costs_of_no_run_are_damaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"strategy": ["os16"]}), "costs.parquet")
    with pytest.raises(StudyError, match="costs.parquet is damaged"):
        measure.costs(Home)


class Home:
    """A study that has all of its files here."""
    artifacts = staticmethod(lambda *names: Path.cwd())
