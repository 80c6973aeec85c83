"""DVC's own files, dvc.lock and rwlock: written as DVC would, and mended where a kill has left half of one."""
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace as Some

import pytest

from stages.engine import dag, repro
from tests.engines.checkout import Checkout


def test_a_stages_lines_of_the_lock_file_are_what_dvc_would_write():
    from dvc.utils.serialize import dumps_yaml
    address = "http://download.tensorflow.org/models/resnet_v1_101_2018_05_04.tar.gz?and=a-long-address"
    values = {"weights": address, "rate": 4e-05, "flag": True, "none": None, "text": "[3x3,256]x2", "said": "a\n\nb: c"}
    entries = {name: {"cmd": f"python -m stages.train {name}", "params": {"params.yaml": {f"runs.{name}": values | {"n": number}}},
                      "outs": [{"path": name, "md5": "1" * 32}]} for number, name in enumerate(("train@a", "train@a-b", "cost"))}
    text = repro.EMPTY
    for count, (name, entry) in enumerate(entries.items(), 1):
        text = repro.spliced(text, name, {name: entry})
        assert text == dumps_yaml({"schema": "2.0", "stages": dict(list(entries.items())[:count])})
    for name in entries:
        changed = entries[name] | {"cmd": "another"}
        expected = dumps_yaml({"schema": "2.0", "stages": entries | {name: changed}})
        assert repro.spliced(text, name, {name: changed}) == expected


def test_values_that_are_said_once_and_used_twice_need_no_anchors_in_the_lock_file(tmp_path):
    from dvc.utils.serialize import dumps_yaml, load_yaml
    shared = {"steps": 240, "rate": 4e-05}
    entries = {name: {"cmd": name, "params": {"params.yaml": {"train": shared, "fine_tune": shared}}} for name in ("a", "b")}
    path = tmp_path / "dvc.lock"
    path.write_text(dumps_yaml({"schema": "2.0", "stages": entries}))  # as DVC writes it: b refers to what a says
    assert "*id001" in path.read_text()
    lock = Some(path=str(path), relpath="dvc.lock", repo=Some(scm_context=Some(track_file=lambda name: None)))
    entries["a"]["params"]["params.yaml"] = {"train": shared | {"steps": 9}, "fine_tune": shared}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repro.serialize, "to_lockfile", lambda stage: {stage.name: entries[stage.name]})
        repro.dump(lock, [Some(name="a")])
    assert load_yaml(str(path)) == {"schema": "2.0", "stages": entries}
    assert not re.search(r"[&*]id", path.read_text())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    """One in which nothing has run."""
    return Checkout(tmp_path_factory.mktemp("locks"))


@pytest.mark.parametrize("left", [b"", b"schema: '2.0'\nstages:\n  downlo", b"schema: '2.0'\nstages:\n  a: {cmd: 'x", b"\xff\xfe", b"\0" * 512],
                         ids=["empty", "no stages", "no YAML", "no text", "zeros"])
def test_half_a_lock_file_that_a_kill_left_is_begun_anew(checkout, left):
    (checkout.root / "dvc.lock").write_bytes(left)
    done = subprocess.run([sys.executable, "-m", "stages.engine.dag"], cwd=checkout.root, env=checkout.settings(), capture_output=True, text=True)
    assert done.returncode == dag.STALE and "dvc.lock was half written" in done.stderr and "Traceback" not in done.stderr
    assert not (checkout.root / "dvc.lock").exists()


def test_a_lock_file_with_a_merge_conflict_is_left_alone(checkout):
    """It names the results of a colleague, too, which no run cache here has."""
    ours, first = repro.EMPTY + "  a: {cmd: ours}\n", checkout.run("git", "rev-parse", "HEAD").strip()
    for branch, text in (("theirs", ours.replace("ours", "theirs")), ("ours", ours)):
        checkout.run("git", "checkout", "--quiet", "-b", branch, first)
        (checkout.root / "dvc.lock").write_text(text)
        checkout.commit()
    checkout.run("git", "merge", "theirs", fails=True)
    printed = checkout.run("python", "-m", "stages.engine.dag", fails=True)
    assert "error: dvc.lock has a merge conflict: git checkout --ours dvc.lock" in printed
    checkout.run("git", "checkout", "--ours", "dvc.lock")
    assert (checkout.root / "dvc.lock").read_text() == ours
    checkout.run("git", "reset", "--quiet", "--hard", first)


@pytest.mark.parametrize("left, stays", [("", False), ('{"write": {"/a/b', False), ('{"write": {}}', True)])
def test_half_a_file_of_dvcs_that_a_kill_left_is_removed(tmp_path, left, stays):
    path = tmp_path / "rwlock"
    repro.mend(tmp_path)           # nothing there
    path.write_text(left)
    repro.mend(tmp_path)
    assert path.exists() == stays


def test_a_file_that_dvc_is_writing_is_left_alone(tmp_path):
    (tmp_path / "rwlock").touch()
    holder = "import sys, zc.lockfile; lock = zc.lockfile.LockFile(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "rwlock.lock")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        repro.mend(tmp_path)
        assert (tmp_path / "rwlock").exists()
        other.stdin.close()
    repro.mend(tmp_path)
    assert not (tmp_path / "rwlock").exists()


def test_what_a_deleted_cache_had_is_put_back_and_not_made_again(checkout):
    """As long as it is what the stage made."""
    checkout.run("dvc", "repro", "download@coco", "download@voc")
    shutil.rmtree(checkout.root / ".dvc/cache")
    (checkout.root / "artifacts/tiny/data/coco/source.json").write_text("{}")
    stale = "import json; from stages.engine import dag; print(json.dumps(list(dag.refresh())))"
    printed = checkout.run("python", "-c", stale)
    assert "data/voc is not in DVC's cache: put back" in printed and "data/coco is not" not in printed
    assert "download@coco" in printed and "download@voc" not in printed
    shutil.rmtree(checkout.root / "artifacts/tiny/data/voc")
    assert "Running stage" not in checkout.run("dvc", "repro", "download@voc")
