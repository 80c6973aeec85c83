"""What a Snakemake job's shell does around DVC: threads, and a device for each stage. `python`, which would call DVC, and `nvidia-smi` are fakes."""
import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace

import pytest
from dvc.stage.exceptions import StageCmdFailedError

from pipeline.study import ROOT
from stages.engine import repro
from tests.engines.checkout import Checkout


def test_ctrl_c_is_no_failure(start):
    job, *_ = start("a")
    os.killpg(job.pid, signal.SIGINT)
    assert job.communicate(timeout=60)[0].splitlines()[-1] == "stopped  a" and job.returncode == 1
    assert not (start.markers / "a").exists()


def test_a_closed_stdout_is_no_failure(start, tmp_path):
    """As `make study >&-` leaves it."""
    (tmp_path / "go").touch()
    command = f"exec bash stages/engine/job.sh a {start.markers}/a 3 1 0 >&-"
    job = subprocess.run(["bash", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False,
                         env=os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    assert job.returncode == 0 and not job.stderr and (start.markers / "a").exists()


def with_a_device(start, tmp_path, locks):
    """A job that needs one and has ended; its lock would lie in a folder of `locks`."""
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(locks), "CUDA_VISIBLE_DEVICES": "0"}
    return subprocess.run(["bash", "stages/engine/job.sh", "a", str(start.markers / "a"), "3", "1", "1"], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)


def test_a_folder_of_locks_that_somebody_else_may_have_laid_is_not_used(start, tmp_path):
    """Locks lie where anybody may write: a link there would have the job write somewhere else."""
    (tmp_path / "target").mkdir()
    (tmp_path / f"study-{os.getuid()}").symlink_to(tmp_path / "target")
    job = with_a_device(start, tmp_path, locks=tmp_path)
    assert job.returncode == 1 and "is not ours: remove it" in job.stdout and not list((tmp_path / "target").iterdir())


def test_a_folder_of_locks_that_cannot_be_made_is_a_failure_like_others(start, tmp_path):
    (tmp_path / "file").touch()
    job = with_a_device(start, tmp_path, locks=tmp_path / "file")
    assert job.returncode == 1 and f"FAILED   a: {tmp_path}/file/study-{os.getuid()} cannot be made: have TMPDIR name" in job.stdout
    assert (start.markers.parent / ".failed/a").exists()


def test_an_account_without_a_shell_runs_stages(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.run("python", "-m", "stages.engine.repro", "download@voc", SHELL="/usr/sbin/nologin")
    assert (checkout.root / "artifacts/tiny/data/voc/source.json").exists()


@pytest.mark.parametrize("code, told, hidden", [(130, False, True), (-2, False, True), (-15, False, False), (-15, True, True),
                                                (-9, True, False), (1, True, False)])
def test_that_a_stage_was_killed_is_an_error_unless_we_were_told_to_stop(monkeypatch, code, told, hidden):
    """Something that frees memory, say, ends a stage alone by SIGTERM."""
    monkeypatch.setattr(repro, "ENDINGS", list(repro.ENDINGS))
    monkeypatch.setattr("psutil.Process", lambda: SimpleNamespace(children=lambda recursive: []))
    if told:
        with pytest.raises(KeyboardInterrupt) as nothing_ran:
            repro.hand_on(signal.SIGTERM, None)
        assert repro.stopped(nothing_ran.value)
    failed = RuntimeError()
    failed.__cause__ = StageCmdFailedError("python -m stages.train t2-x2", code)
    assert repro.stopped(failed) == hidden


def test_on_slurm_the_job_keeps_what_it_was_given(start):
    given = {"STUDY_REMOTE": "1", "CUDA_VISIBLE_DEVICES": "0"}
    _, device, threads = start("a", SLURM_JOB_ID="1", SLURM_CPUS_PER_TASK="6", **given)
    assert (device, threads) == ("0", "6")
    assert start("b", SLURM_JOB_ID="2", **given)[1] == "0"  # another job's device 0 may be another device


def test_a_stage_that_a_job_on_another_machine_runs_is_waited_for(start):
    """The scheduler was killed there, its job runs on, and the study is started again."""
    first, *_ = start("a", gpu=0, STUDY_REMOTE="1")
    with ThreadPoolExecutor() as waits:
        second = waits.submit(start, "a", 0, STUDY_REMOTE="1")
        assert not wait([second], 1).done
        assert start("b", gpu=0, STUDY_REMOTE="1")[1] == "none"
        os.killpg(first.pid, signal.SIGKILL)
        assert second.result(60)[1] == "none"


def test_what_another_machine_is_at_does_not_stop_a_job(tmp_path):
    """DVC would call the file busy, or strike the other out, by what process has that number here."""
    checkout = Checkout(tmp_path)
    folder = checkout.root / ".dvc/tmp"
    folder.mkdir(parents=True, exist_ok=True)
    held = json.dumps({"write": {str(checkout.root / "artifacts/tiny/data/voc"): {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}})
    (folder / "rwlock").write_text(held)
    assert "is busy" in checkout.run("python", "-m", "stages.engine.repro", "download@voc", fails=True)
    checkout.run("python", "-m", "stages.engine.repro", "download@voc", STUDY_REMOTE="1")
    assert (folder / "rwlock").read_text() == held and (checkout.root / "artifacts/tiny/data/voc/source.json").exists()


def test_the_marker_is_there_only_after_success(start, tmp_path):
    start.go()
    job, *_ = start("a")
    assert job.wait(60) == 0 and (start.markers / "a").exists()
    (tmp_path / "bin/python").write_text("#!/bin/bash\necho device=x threads=1\nexit 3\n")
    job, *_ = start("b")
    assert job.wait(60) == 1 and not (start.markers / "b").exists()
    assert [path.name for path in (start.markers.parent / ".failed").iterdir()] == ["b"]
    (tmp_path / "bin/python").write_text("#!/bin/bash\necho device=x threads=1\n")
    job, *_ = start("b")  # its second try
    assert job.wait(60) == 0 and not list((start.markers.parent / ".failed").iterdir())


@pytest.mark.parametrize("line, same", [
    ("scale: paper   # was tiny", False), ("scale: tiny2", False), ("", False),
    ("scale: tiny", True), ("scale:  'tiny'\t# a remark", True), ('scale: "tiny"', True),
])
def test_a_job_of_another_scale_than_the_settings_now_have_does_nothing(tmp_path, line, same):
    """The study began at a scale; somebody edits that line of params.yaml while it runs."""
    (tmp_path / "params.yaml").write_text(f"runs: {{}}\n{line}\n")
    (tmp_path / "python").symlink_to(shutil.which("true"))
    (marker := tmp_path / "artifacts/tiny/.markers/download@voc").parent.mkdir(parents=True)
    job = subprocess.run(["bash", ROOT / "stages/engine/job.sh", "download@voc", marker, "3", "1", "0"], cwd=tmp_path, capture_output=True, text=True,
                         env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (job.returncode == 0) == marker.exists() == same, job.stderr
    assert same or "FAILED   download@voc: the scale in params.yaml is no longer tiny" in job.stdout
    assert (tmp_path / "artifacts/tiny/.failed/download@voc").exists() != same
