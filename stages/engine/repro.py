"""What a job of Snakemake calls: `dvc --quiet repro --single-item STAGE`, with what DVC does not do.

It says its errors in spite of --quiet, Ctrl-C excepted. SIGTERM, with which a scheduler ends a job, it hands to the stage and
waits for that, as after Ctrl-C: a training saves. Of dvc.lock only the stage's own lines are written, in one go: DVC writes the
whole file anew, which takes a second at 70 stages, and a kill meanwhile leaves half of it. And a job on another machine does
without DVC's list of who reads and writes which file: it knows processes by number, so one machine removes the entries of
another's. job.sh has a lock for each stage there.

Example:  python -m stages.engine.repro train@t1-c48
"""
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import sys
from pathlib import Path

from dvc import cli, dvcfile, lock, logger, rwlock
from dvc.stage import serialize
from dvc.stage.exceptions import StageCmdFailedError
from dvc.utils.serialize import dumps_yaml, parse_yaml

from pipeline import files
from stages.console import STOPPED

EMPTY = "schema: '2.0'\nstages:\n"
ENDINGS = [STOPPED, -signal.SIGINT]  # a stage's exit codes that say no more than that it was stopped


def main() -> int:
    """Run one stage if it is stale. The exit code is DVC's."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.engine.repro STAGE, such as train@t1-c48")
    levels = logger.set_loggers_level
    logger.set_loggers_level = lambda level: levels(min(level, logging.ERROR))
    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(lambda record: not (record.exc_info and stopped(record.exc_info[1])))
    dvcfile.Lockfile.dump_stages = dump
    if os.environ.get("STUDY_REMOTE"):
        rwlock.rwlock = lambda *arguments: contextlib.nullcontext()
    os.environ["SHELL"] = shutil.which("bash")  # DVC starts stages through it: others stay between, and some accounts have none
    mend()
    signal.signal(signal.SIGTERM, hand_on)
    return cli.main(["--wait-for-lock", "repro", "--quiet", "--single-item", sys.argv[1]])


def stopped(error: BaseException) -> bool:
    """Whether DVC's `error` is that it was stopped, or its stage, which says so itself."""
    return isinstance(error, KeyboardInterrupt) or (isinstance(error.__cause__, StageCmdFailedError)
                                                    and str(error.__cause__).endswith(tuple(f" {code}" for code in ENDINGS)))


def hand_on(number: int, frame) -> None:
    """Pass SIGTERM on to the stage. KeyboardInterrupt where none runs."""
    import psutil
    ENDINGS.append(-number)  # a stage that dies of a SIGTERM of its own was not stopped by us: that is an error
    if not (children := psutil.Process().children(recursive=True)):
        raise KeyboardInterrupt
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.terminate()


def mend(folder: Path = Path(".dvc/tmp")) -> None:
    """Remove the file `rwlock` of DVC's `folder` where a kill has left half of it, with which DVC refuses to work."""
    path = folder / "rwlock"

    def broken() -> bool:
        try:
            json.loads(path.read_text())
        except FileNotFoundError:
            return False
        except ValueError:
            return True
        return False
    if broken():  # or a process is writing: then it holds the guard
        with contextlib.suppress(lock.LockError), lock.make_lock(f"{path}.lock", tmp_dir=str(folder)):
            if broken():
                path.unlink()


def refill(repo) -> None:
    """Put back into DVC's cache what `artifacts` still has as dvc.lock knows it: DVC would have it made again. Somebody may have
    deleted the cache to make room."""
    with repo.lock:
        for out in repo.index.outs:
            if out.use_cache and out.hash_info and out.exists and out.changed_cache() and not out.changed_checksum():
                print(f"{out} is not in DVC's cache: put back", file=sys.stderr)
                out.commit()


def dump(lockfile, stages, **options) -> None:
    """Write what `stages` depended on and made into dvc.lock, in place of Lockfile.dump_stages."""
    path = Path(lockfile.path)
    text = before = path.read_text("utf-8") if path.exists() else EMPTY
    if re.search(r"[&*]id\d{3}", text):                       # DVC has written it: one stage's lines may refer to another's
        text = plainly(parse_yaml(text, path))
    for stage in stages:
        text = spliced(text, stage.name, serialize.to_lockfile(stage, **options))
    if text != before:
        files.write_file(path, text)
        lockfile.repo.scm_context.track_file(lockfile.relpath)


def spliced(text: str, name: str, entry: dict) -> str:
    """dvc.lock's `text` with `entry`, {name: ...}, in place of the lines of stage `name`, or at its end."""
    lines = plainly({"stages": entry}).partition("\n")[2]
    own = re.compile(rf"^  {re.escape(name)}:\n(?:    .*\n|\n)*", re.MULTILINE)
    return own.sub(lambda _: lines, text, count=1) if own.search(text) else text + lines


def plainly(data: dict) -> str:
    """YAML without anchors, which values used twice in params.yaml would get, and whose names hold in the whole file."""
    return dumps_yaml(json.loads(json.dumps(data)))


if __name__ == "__main__":
    sys.exit(main())
