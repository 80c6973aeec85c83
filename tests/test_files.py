"""Files are there whole or not at all, and their digest is of all that a result is made of."""
import errno
import os
import subprocess
from pathlib import Path

import pytest

from pipeline import files


def test_a_digest_is_of_settings_files_and_code(tmp_path):
    (tmp_path / "code").mkdir()
    file, module = tmp_path / "file", tmp_path / "code/module.py"
    file.write_text("a")
    module.write_text("a = 1")
    digests = [files.digest({"rate": 1}, file, module.parent)]
    assert files.digest({"rate": 1}, file, module.parent) == digests[0]
    digests.append(files.digest({"rate": 2}, file, module.parent))
    file.write_text("b")
    digests.append(files.digest({"rate": 1}, file, module.parent))
    module.write_text("a = 2")
    digests.append(files.digest({"rate": 1}, file, module.parent))
    (tmp_path / "code/other.py").write_text("")
    digests.append(files.digest({"rate": 1}, file, module.parent))
    assert len(set(digests)) == 5


def test_a_file_has_the_mode_of_the_one_it_replaces_or_what_the_umask_leaves(tmp_path):
    def made(path, mode):
        with files.atomic(path) as partial:
            partial.write_text("x")
            partial.chmod(mode)  # as safetensors does
        return path.stat().st_mode & 0o777
    assert made(tmp_path / "new", 0o600) == 0o666 & ~files.UMASK
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o660)
    assert made(tmp_path / "old", 0o600) == 0o660


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        done = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, done=done: (steps.append(name), done(*given)))
    with files.atomic(tmp_path / "file") as partial:
        partial.write_text("x")
    assert steps == ["fsync", "replace"]


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
        with files.atomic(path) as partial:
            partial.write_text("x")
    removed = names.pop(f"a.txt.{ended.pid}")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "sub", *names.values()}
    assert {path.name for path in Path("sub").iterdir()} == {"a.txt", removed}


def test_only_a_full_disk_is_given_the_name_of_what_was_written(tmp_path, no_room):
    no_room(tmp_path / "a.txt")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/a.txt'"), files.atomic(tmp_path / "a.txt") as partial:
        partial.write_text("x")
    for error in (OSError(errno.ENOSPC, "full", "other"), OSError(errno.ECONNRESET, "reset"), OSError("no number")):
        with pytest.raises(OSError) as caught, files.atomic(tmp_path / "a.txt"):
            raise error
        assert caught.value.filename in (None, "other") and str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.iterdir())
