"""A stage that is given several devices is one process a device, through torchrun, and a kill leaves none of them behind."""
import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipeline.study import ROOT, StudyError
from stages import console
from stages.engine import torchrun
from tests.engines.checkout import Checkout
from tests.processes import wait_for


@pytest.mark.parametrize("environment, count", [
    ({}, 1),                                                       # by hand
    ({"DVC_STAGE": "train@t2-x2"}, 1),                             # dvc.yaml's meta
    ({"DVC_STAGE": "train@t2-x2", "STUDY_GPUS": "4"}, 4),          # what the job was given
    ({"DVC_STAGE": "train@t2-x2", "STUDY_GPUS": "0"}, 0),          # a job without a GPU
    ({"STUDY_GPUS": "2"}, 2),
    ({"STUDY_GPUS": "2", "TORCHELASTIC_RUN_ID": "none"}, 1),       # torchrun's own child
])
def test_how_many_processes(monkeypatch, environment, count):
    for name in ("DVC_STAGE", "STUDY_GPUS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert torchrun.wanted() == count
    if count < 2:
        assert not torchrun.relaunch_on_gpus()


def test_gpus_that_are_no_number_are_refused(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("STUDY_GPUS", "x")
    with pytest.raises(StudyError, match="STUDY_GPUS=x in the environment: a number of GPUs is wanted"):
        torchrun.wanted()


@pytest.mark.parametrize("given, each", [("8", "2"), ("1", "1"), ("8,2", "1"), ("", "1")])
def test_processes_share_the_threads_and_know_whose_they_are(monkeypatch, given, each):
    started = []
    monkeypatch.setattr(torchrun.subprocess, "run", lambda command, env, check: started.append(env) or subprocess.CompletedProcess(command, 0))
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=SimpleNamespace(name="stages.train")))
    for name, value in (("STUDY_GPUS", "3"), ("OMP_NUM_THREADS", given), ("STUDY_PID", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert torchrun.relaunch_on_gpus()
    assert [(env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"], env["STUDY_PID"]) for env in started] == [(each, each, str(os.getpid()))]


def test_the_meta_of_a_stage_asks_for_no_more_than_there_are(monkeypatch, tmp_path):
    import torch
    (tmp_path / "dvc.yaml").write_text("stages: {train: {do: {meta: {gpu: 4}}}}")
    monkeypatch.setattr(torchrun, "ROOT", tmp_path)
    monkeypatch.delenv("STUDY_GPUS", raising=False)
    monkeypatch.setenv("DVC_STAGE", "train@t2-x2")
    for devices in (8, 2, 0):
        monkeypatch.setattr(torch.cuda, "device_count", lambda devices=devices: devices)
        assert torchrun.wanted() == min(4, devices)


@pytest.mark.parametrize("how, ranks, said", [
    ("said", "1", "error: out of memory"),
    ("disk", "0 1", "error: model.pt: No space left on device. Make room and give the same command again"),
    ("killed", "1", "error: process 1 ended with SIGKILL; what it printed is above"),
    ("bug", "1", "error: process 1 ended with exit code 1; what it printed is above")])
def test_what_went_wrong_is_said_once_and_last(how, ranks, said):
    ended = subprocess.run([sys.executable, "-m", "tests.cluster.failing", how, *ranks.split()], cwd=ROOT, capture_output=True, text=True,
                           env=Checkout.settings() | {"STUDY_GPUS": "2"}, timeout=300, check=False)
    assert ended.returncode == 1 and ended.stderr.endswith(f"{said}\n"), ended.stderr
    assert "ValueError: not foreseen" in ended.stderr if how == "bug" else ended.stderr.count("\n") == 1, ended.stderr


def test_processes_find_each_other_on_a_machine_whose_name_nobody_knows():
    rename = "import os, socket, sys; socket.sethostname('nowhere.invalid'); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    elsewhere = ["unshare", "--map-root-user", "--uts", "--fork", "--kill-child", sys.executable, "-c", rename]
    if not shutil.which("unshare") or subprocess.run([*elsewhere, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("no name of its own can be given to a process here")
    ended = subprocess.run([*elsewhere, "-m", "tests.cluster.failing", "said", "0", "1"], cwd=ROOT, capture_output=True, text=True,
                           env=Checkout.settings() | {"STUDY_GPUS": "2"}, timeout=100, check=False)
    assert ended.returncode == 1 and ended.stderr == "error: out of memory\n", ended.stderr


def test_ctrl_c_is_said_once(tmp_path):
    started = subprocess.Popen([sys.executable, "-m", "tests.cluster.failing", "said", "2", "--folder", tmp_path], cwd=ROOT, text=True, stderr=subprocess.PIPE,
                               env=Checkout.settings() | {"STUDY_GPUS": "2"}, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2, 200)
    os.killpg(started.pid, signal.SIGINT)
    said = started.communicate(timeout=100)[1]
    assert started.returncode == console.STOPPED and said == "\nstopped; the same command goes on from what was saved last\n"


def test_what_one_of_several_cannot_leave_to_torchrun_it_prints(monkeypatch, tmp_path, capsys):
    (tmp_path / "full").touch()
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "full/error.json"))
    with pytest.raises(SystemExit):
        console.failed("wrong")
    assert capsys.readouterr().err == "error: wrong\n"


@pytest.mark.slow
def test_two_processes_train_one_stage_and_a_kill_leaves_none(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.run("dvc", "repro", "prepare@imagenet")
    started = checkout.start("dvc", "repro", "pretrain@resnet101", STUDY_GPUS="2", SHELL="/bin/sh")  # some sh stay between DVC and a stage
    wait_for(lambda: sum("-m stages.pretrain" in line or "stages/pretrain.py" in line for line in checkout.processes()) >= 3)
    started.kill()
    started.wait()
    wait_for(lambda: not checkout.processes(), 60)
    assert not (checkout.root / "artifacts/tiny/weights/resnet101/record.json").exists()
    checkout.run("dvc", "repro", "pretrain@resnet101", STUDY_GPUS="2")
    record = json.loads((checkout.root / "artifacts/tiny/weights/resnet101/record.json").read_text())
    assert record["provenance"]["device"] == "2 x CPU"
    assert not [line for line in checkout.processes() if "stages" in line]
    assert "up to date" in checkout.run("dvc", "repro", "pretrain@resnet101")  # how many devices made it is nothing that counts
