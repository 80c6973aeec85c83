"""What cannot be meant is refused before anything runs, in words that name it; what is killed or fails is gone on with."""
import contextlib
import fcntl
import json
import re
import shutil
import subprocess
import time

import pytest

from pipeline import study as studies
from pipeline.study import StudyError
from stages import checks
from stages.engine import dag
from tests.engines.checkout import Checkout
from tests.processes import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    """One in which nothing has run."""
    return Checkout(tmp_path_factory.mktemp("refusals"))


MISTAKES = {  # one of each kind; the others: tests/test_settings.py
    "key": (r"low_level_channels: 64\}", "low_level_chanels: 64}", ["runs.t1-c64.low_level_chanels", "unknown key"]),
    "scale": (r"(?m)^scale: \w+", "scale: tinny", ["scale", "tinny", "tiny"]),  # without which dvc.yaml cannot be read
    "row of the paper": (r"(?m)^  t1-c16: (\[\*os16\]|\{<<.*\})\n(?=  t1-c32: \[)", "", ["table1", "t1-c16"]),
    "class": (r"(canvas: \[49, 49\])(\}\n      evaluate_batch: 4\n    coco:)", r"\1, classes: [background, aeroplne]\2",
              ["scales.tiny.voc.evaluate.classes", "aeroplne", "did you mean aeroplane?"]),
}


LOADS = r"    study = studies\.load\(\)\n"  # where the stage download begins


@contextlib.contextmanager
def mistaken(checkout, kind):
    """Its settings have a mistake of that kind; the words that name it."""
    original = (checkout.root / "params.yaml").read_text()
    pattern, replacement, words = MISTAKES[kind]
    checkout.edit("params.yaml", pattern, replacement)
    try:
        yield words
    finally:
        (checkout.root / "params.yaml").write_text(original)
        shutil.rmtree(checkout.root / "artifacts", ignore_errors=True)


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_the_settings_is_named_before_anything_runs(checkout, kind):
    with mistaken(checkout, kind) as words:
        for command in (["make", "-o", ".venv/.installed", "study"], ["snakemake", "--workflow-profile", "profiles/local"]):
            printed = checkout.run(*command, fails=True)
            assert all(word in printed for word in words), printed
            assert "Traceback" not in printed and "start " not in printed
            assert not (checkout.root / "artifacts/tiny").exists()


@pytest.mark.parametrize("kind", ["row of the paper", "class"])
def test_a_plain_dvc_repro_refuses_what_dvc_itself_does_not_see(checkout, kind):
    with mistaken(checkout, kind) as words:
        printed = checkout.run("dvc", "repro", fails=True)
        assert all(word in printed for word in words) and "Traceback" not in printed, printed
        assert not list((checkout.root / "artifacts/tiny").rglob("*.*"))


@pytest.mark.parametrize("name", ["Zoë's dir", "a %41 b", "a{b}", "a{"])
def test_a_folder_in_which_mlflow_or_dvc_fails_is_refused_before_anything_runs(tmp_path, monkeypatch, name):
    """MLflow's SQL and its migrations take the path as it is; the last stage but one would say so. DVC formats it: KeyError: 'b'."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(StudyError, match="in its path, at which MLflow or DVC fails: rename that folder"):
        checks.check(studies.load())


@pytest.mark.parametrize("linked", ["artifacts", "artifacts/tiny", "artifacts/tiny/data"])
def test_artifacts_on_another_disk_are_refused_before_anything_runs(checkout, tmp_path, linked):
    """DVC would refuse them after each stage, the first of which downloads gigabytes."""
    (checkout.root / linked).parent.mkdir(parents=True, exist_ok=True)
    (checkout.root / linked).symlink_to(tmp_path)
    try:
        for command in (["make", "-o", ".venv/.installed", "study"], ["dvc", "repro", "download@voc"]):
            printed = checkout.run(*command, fails=True)
            assert f"error: {linked}/ is a link" in printed and "Traceback" not in printed, printed
            assert not list(tmp_path.rglob("source.json"))
    finally:
        (checkout.root / linked).unlink()
        shutil.rmtree(checkout.root / "artifacts", ignore_errors=True)


def test_a_kill_leaves_no_process_and_the_same_command_goes_on(checkout):
    checkout.edit("stages/download.py", LOADS, "    __import__('signal').pause()\n")
    command = ["snakemake", "--workflow-profile", "profiles/local", "download_coco", "download_imagenet"]
    scheduler = checkout.start(*command)
    wait_for(lambda: sum("stages.download" in line for line in checkout.processes()) >= 2)
    scheduler.kill()
    scheduler.wait()
    wait_for(lambda: not checkout.processes())
    checkout.run("git", "checkout", "--quiet", "stages/download.py")
    assert "done     download@coco" in checkout.run(*command)


def test_make_hands_sigterm_on(checkout):
    """What is sent to `make` alone reaches Snakemake: stages that run end, no others begin, and nothing goes on behind one's back."""
    checkout.edit("stages/download.py", LOADS, r"\g<0>    __import__('time').sleep(4)\n")
    study = checkout.start("make", "-o", ".venv/.installed", "study")
    try:
        wait_for(lambda: any("stages.download" in line for line in checkout.processes()))
        study.terminate()
        wait_for(lambda: not checkout.processes())
        assert study.wait() != 0
        assert not list((checkout.root / "artifacts/tiny").glob("shards/*")), "no stage has begun since"
    finally:
        checkout.run("git", "checkout", "--quiet", "stages/download.py")
        checkout.end()  # where the test fails, a study would run beside the tests that follow
        shutil.rmtree(checkout.root / "artifacts", ignore_errors=True)


def test_what_failed_is_named_at_the_end_and_the_rest_is_done(checkout):
    checkout.edit("params.yaml", re.escape("{generate: {train: 6, val: 3, size: 48, seed: 3}}"), "{folder: nowhere}")
    command = ["snakemake", "--workflow-profile", "profiles/local", "download_cityscapes", "download_coco", "download_imagenet"]
    try:
        printed = checkout.run(*command, fails=True)
    finally:
        checkout.run("git", "checkout", "--quiet", "params.yaml")
    assert "the folder nowhere does not exist" in printed and "FAILED   download@cityscapes" in printed
    assert "FAILED: download@cityscapes. The errors are above; dvc repro download@cityscapes" in printed.partition("Exiting because")[2]
    assert "FAILED" not in checkout.run(*command)


def test_the_schedule_is_the_graph_of_dvc(checkout):
    """Snakemake has exactly DVC's stages, in an order that DVC's graph allows, the longest way first. A run that starts from a
    published network comes after that is fetched."""
    line = "  mine: {<<: *separable, start: runs/xception65_coco_voc_trainaug}\n"
    checkout.edit("params.yaml", r"(?m)^  coco-x65: ", f"{line}  coco-x65: ")
    names = set(checkout.run("dvc", "stage", "list", "--name-only").split())
    plan = "import dataclasses, json; from stages.engine import dag; print(json.dumps(list(map(dataclasses.asdict, dag.stages()))))"
    stages = [dag.Stage(**stage) for stage in json.loads(checkout.run("python", "-c", plan))]
    assert {stage.name for stage in stages} == names and len({stage.rule for stage in stages}) == len(names)
    before, priority = set(), {stage.name: stage.priority for stage in stages}
    for stage in stages:
        assert set(stage.upstream) <= before
        before.add(stage.marker)
    assert any(each.endswith("fetch@xception65_coco_voc_trainaug") for stage in stages if stage.name == "train@mine" for each in stage.upstream)
    assert priority["train@coco-x65"] > priority["train@t1-c8"] > priority["evaluate@t1-c8"] > priority["report"]
    assert all({"gpu", "mem_mb", "runtime"} == set(stage.resources) for stage in stages)
    checkout.run("git", "checkout", "--quiet", "params.yaml")


def test_a_folder_without_git_is_told_so(checkout):
    """A ZIP of the repository."""
    (checkout.root / ".git").rename(checkout.root / ".elsewhere")
    try:
        printed = checkout.run("make", "-o", ".venv/.installed", "study", fails=True)
        assert "error: DVC wants a git checkout" in printed and "git init" in printed and "Traceback" not in printed
    finally:
        (checkout.root / ".elsewhere").rename(checkout.root / ".git")


@pytest.mark.parametrize("command", [("python", "-m", "stages.engine.dag"), ("snakemake", "--cores", "2", "--dry-run", "--quiet")], ids=lambda each: each[0])
def test_a_second_study_in_a_folder_waits(checkout, command):
    """As `make study` begins, and as Snakemake does."""
    (checkout.root / "artifacts").mkdir(exist_ok=True)
    with open(checkout.root / "artifacts/.study.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(command, cwd=checkout.root, env=checkout.settings(), stderr=subprocess.PIPE, text=True)
        assert second.stderr.readline() == "another study runs in this folder; waiting for it to end\n"
        time.sleep(.5)
        assert second.poll() is None
    second.communicate(timeout=600)
    assert second.returncode == (dag.STALE if command[0] == "python" else 0)


@pytest.mark.parametrize("options, shares", [
    (["--cores", "16"], {"download@voc": "1 0", "prepare@voc": "4 0", "train@t1-c8": "1 1", "cost": "1 0"}),
    (["--cores", "16", "--resources", "gpu=2"], {"prepare@voc": "4 0", "pretrain@resnet101": "8 1", "train@t1-c8": "8 1", "evaluate@t1-c8": "8 1"}),
    (["--cores", "2"], {"prepare@voc": "1 0", "train@t1-c8": "1 1"})])
def test_stages_share_the_cores_and_devices(checkout, options, shares):
    printed = checkout.run("snakemake", "--dry-run", "--printshellcmds", *options)
    for stage, share in shares.items():
        assert re.search(rf"job\.sh {stage} \S+ \d+ (\d+ \d+)\n", printed)[1] == share, stage
