"""What a result is made of, and where it was made."""
import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

from pipeline import records
from pipeline.evaluation import measure
from pipeline.reporting import runs
from pipeline.study import StudyError
from pipeline.tracking import curves


def test_a_digest_is_of_settings_files_and_code(tmp_path):
    (tmp_path / "code").mkdir()
    file, module = tmp_path / "file", tmp_path / "code/module.py"
    file.write_text("a")
    module.write_text("a = 1")
    digests = [records.digest({"rate": 1}, file, module.parent)]
    assert records.digest({"rate": 1}, file, module.parent) == digests[0]
    digests.append(records.digest({"rate": 2}, file, module.parent))
    file.write_text("b")
    digests.append(records.digest({"rate": 1}, file, module.parent))
    module.write_text("a = 2")
    digests.append(records.digest({"rate": 1}, file, module.parent))
    (tmp_path / "code/other.py").write_text("")
    digests.append(records.digest({"rate": 1}, file, module.parent))
    assert len(set(digests)) == 5


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


def test_a_file_has_the_mode_of_the_one_it_replaces_or_what_the_umask_leaves(tmp_path):
    def made(path, mode):
        with records.atomic(path) as partial:
            partial.write_text("x")
            partial.chmod(mode)  # as safetensors does
        return path.stat().st_mode & 0o777
    assert made(tmp_path / "new", 0o600) == 0o666 & ~records.UMASK
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o660)
    assert made(tmp_path / "old", 0o600) == 0o660


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        done = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, done=done: (steps.append(name), done(*given)))
    with records.atomic(tmp_path / "file") as partial:
        partial.write_text("x")
    assert steps == ["fsync", "replace"]


def test_the_processor_is_named_where_the_system_tells_it(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "CPUINFO", tmp_path / "cpuinfo")
    assert records.provenance(0.0)["processor"] is None
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC: 9B14\nmodel name\t: other\n")
    assert records.provenance(0.0)["processor"] == "AMD EPYC: 9B14"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp\n")  # as on ARM
    assert records.provenance(0.0)["processor"] is None


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    """Where it wrote the same file, and neither its number nor another machine's clock says that it may still be writing."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = {name: f".{name}.part" for name in (f"a.txt.{ended.pid}", f"b.txt.{ended.pid}", f"a.txt.{os.getppid()}", "a.txt.zip")}
    for name in names.values():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / names[f"a.txt.{ended.pid}"]).touch()  # just now
    monkeypatch.chdir(tmp_path)
    for path in (Path("a.txt"), Path("sub/a.txt")):
        with records.atomic(path) as partial:
            partial.write_text("x")
    removed = names.pop(f"a.txt.{ended.pid}")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "sub", *names.values()}
    assert {path.name for path in Path("sub").iterdir()} == {"a.txt", removed}


def test_only_a_full_disk_is_given_the_name_of_what_was_written(tmp_path, no_room):
    no_room(tmp_path / "a.txt")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/a.txt'"), records.atomic(tmp_path / "a.txt") as partial:
        partial.write_text("x")
    for error in (OSError(errno.ENOSPC, "full", "other"), OSError(errno.ECONNRESET, "reset"), OSError("no number")):
        with pytest.raises(OSError) as caught, records.atomic(tmp_path / "a.txt"):
            raise error
        assert caught.value.filename in (None, "other") and str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [lambda path: records.read(path.parent), lambda path: runs.history(Home, "t1"),
                                  lambda path: curves.of(path.parent), lambda path: measure.costs(Home)])
def test_a_file_that_a_stage_half_wrote_is_named(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    for name in (records.RECORD, records.HISTORY, "costs.parquet"):
        Path(name).write_bytes(b"PAR1 {")
    with pytest.raises(StudyError, match=r"(record.json|history.parquet|costs.parquet) is damaged .*: delete it; make study"):
        read(tmp_path / records.RECORD)
    with pytest.raises(FileNotFoundError):  # not damaged
        records.read_json(Path("none.json"))


class Home:
    """A study that has all of its files here."""
    artifacts = staticmethod(lambda *names: Path.cwd())
