"""How a stage's command ends: its exit code is what DVC, Snakemake and a shell go by."""
import contextlib
import errno
import os
import re
import subprocess
import sys

import pytest
import typer

from pipeline.study import ROOT, StudyError
from stages import console


def stop(error):
    def command():
        if error:
            raise error
    return command


@pytest.mark.parametrize("error, code, said", [
    (None, 0, ""),
    (typer.Exit(), 0, ""),
    (typer.Exit(1), 1, ""),
    (typer.Exit(3), 3, ""),
    (StudyError("wrong"), 1, "error: wrong\n"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "error: a file that was to be written: No space left on device. Make room and give the same command again\n"),
    (OSError(errno.EDQUOT, "of Arrow. Detail: [errno 122]", "out/a"), 1, "error: out/a: Disk quota exceeded. Make room and give the same command again\n"),
    (PermissionError(errno.EACCES, "Permission denied", "out/a.png"), 1, "error: out/a.png: Permission denied\n"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "out/aaa.png"), 1, "error: out/aaa.png: File name too long\n"),
    *((OSError(number, os.strerror(number), "data/a"), 1, f"error: data/a: {os.strerror(number)}\n")
      for number in (errno.ELOOP, errno.EIO, errno.ESTALE)),
    (KeyboardInterrupt(), 130, "stopped; the same command goes on from what was saved last"),
])
def test_exit_codes(monkeypatch, capsys, error, code, said):
    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(SystemExit) if code else contextlib.nullcontext() as ended:
        console.run(stop(error))
    assert (ended.value.code == code if code else ended is None) and said in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(FileNotFoundError):
        console.run(stop(FileNotFoundError(errno.ENOENT, "No such file or directory", "shards/train.arrow")))


@pytest.mark.parametrize("line, code, said", [("os.kill(os.getpid(), signal.SIGINT)", 130, "^\nstopped\n$"),
                                              ("1 / 0", 1, "^Traceback(?s:.*)ZeroDivisionError: division by zero\n$")])
def test_ctrl_c_while_modules_load_is_one_line(tmp_path, line, code, said):
    (tmp_path / "typer.py").write_text(f"import os, signal\n{line}\n")
    done = subprocess.run([sys.executable, "-m", "stages.scale", "tiny"], cwd=ROOT, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == code and re.search(said, done.stderr), done.stderr


def test_a_wrong_option_points_to_the_help(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["stage", "--nothing"])
    with pytest.raises(SystemExit) as ended:
        console.run(stop(None))
    assert ended.value.code == 2 and "see --help" in capsys.readouterr().err


def test_a_name_that_is_no_text_is_printed():
    code = "from stages import console; console.run(lambda: print('caf\\udce9.jpg'))"
    ran = subprocess.run([sys.executable, "-c", code], env={"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert ran.returncode == 0 and ran.stdout == b"caf\\udce9.jpg\n"
