"""What every stage's command line shares: errors in one line, a Ctrl-C that is safe, help with examples."""
import contextlib
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import typer

from pipeline import files, records, study as studies
from pipeline.study import Study, StudyError
from pipeline.written import suggest
from stages.engine import guard

STOPPED = 130  # the exit code after Ctrl-C
needless: list[Path] = []  # from which a stage would have gone on: removed when it has ended well, in the guard's eyes too
OUTSIDE = (*files.REFUSED, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
           errno.EIO, errno.ESTALE)  # no bug; the last two: a disk, or one that is shared, does not answer


def run(command: Callable) -> None:
    """Run a typer command and exit as it does; a StudyError or a disk that refuses is one line and exits with 1, Ctrl-C 130."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    try:
        with guard.unchanged():
            if "DVC_STAGE" in os.environ and "STUDY_JOB" not in os.environ:  # a plain `dvc repro`: Snakemake has asked before
                from stages import checks
                checks.check(studies.load())
            code = app(standalone_mode=False) or 0  # typer.Exit comes back as its code, Ctrl-C as STOPPED
        remove_needless()
    except StudyError as error:
        failed(str(error))
    except KeyboardInterrupt:
        code = STOPPED
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        full = error.errno in files.FULL
        failed(f"{error.filename or 'a file that was to be written'}: "
               + (f"{os.strerror(error.errno)}. Make room and give the same command again" if full else error.strerror))
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            print(f"error: {error.format_message()}\nsee --help", file=sys.stderr)
            sys.exit(2)
        raise
    if code == STOPPED and "TORCHELASTIC_RUN_ID" not in os.environ:  # one of several processes leaves it to the stage
        print("\nstopped; the same command goes on from what was saved last", file=sys.stderr)
    if code:
        sys.exit(code)


def remove_needless() -> None:
    """Remove the files and folders of `needless`, those that are there."""
    while needless:
        path = needless.pop()
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def failed(reason: str) -> NoReturn:
    """Print `reason` and exit with 1. One of several processes leaves it to torchrun (torchrun.main), which prints one of all."""
    said = {"message": {"message": reason, "extraInfo": {"timestamp": int(time.time())}}}
    try:
        files.write_file(Path(os.environ["TORCHELASTIC_ERROR_FILE"]), json.dumps(said))
    except (KeyError, OSError):  # a disk may be full
        print(f"error: {reason}", file=sys.stderr)
    sys.exit(1)


def pick(what: str, name: str, known: Mapping):
    """`known[name]`, or a StudyError that says which names there are."""
    if name not in known:
        raise StudyError(f"params.yaml has no {what} {name!r}{suggest(name, known)}")
    return known[name]


def require_evaluated(study: Study) -> None:
    """StudyError where nothing has been evaluated at the study's scale."""
    if not any(records.done(study.artifacts("facts", run)) for run in study.evaluate):
        raise StudyError(f"nothing has been evaluated here at scale {study.scale}, and a report of nothing would replace the one "
                         "in reports/: make study")


def skip(out: Path, reason: str, params: dict | None = None) -> None:
    """Leave only a record that says why the stage had nothing to do."""
    print(f"skipped: {reason}")
    records.write(out, status="skipped", reason=reason, params=params)


def upstream_skipped(*inputs: Path) -> str | None:
    """Why the first of `inputs` that an earlier stage skipped was skipped, or None. StudyError where one is not there yet."""
    for folder in inputs:
        if not any((folder / name).exists() for name in (records.RECORD, "source.json")):  # a download leaves the second
            raise StudyError(f"{folder} is not there yet: make study, or dvc repro, makes what comes before this")
        if (record := records.read(folder)) and record["status"] == "skipped":
            return record["reason"]
    return None
