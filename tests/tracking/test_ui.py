"""`python -m stages.ui` as people type it: pages on localhost, a store that comes back, a Ctrl-C that ends all of it."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from pipeline import study as studies
from pipeline.tracking import live
from stages import ui
from tests.processes import free_port
from tests.reporting import fake_study

PATIENCE = 300  # seconds: a busy machine is no fault


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = studies.load()
        fake_study.write(study, images=3, size=49, missing=[run for run in study.runs if run != "t1-c8"])
    return folder


def start(home, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(studies.ROOT)
    return subprocess.Popen([sys.executable, "-m", "stages.ui", *arguments], cwd=home, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def get(port, path="/"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return answer.read()


def test_restore_makes_a_missing_store_and_leaves_one_that_is_there(home):
    shutil.rmtree(home / "mlruns", ignore_errors=True)
    said, complaint = start(home, "--restore").communicate(timeout=PATIENCE)
    assert "MLflow: 7 changes written" in said, complaint  # Table 1's row, Table 4's two, and four trainings
    written = (home / "mlruns/mlflow.db").stat().st_mtime_ns
    said, _ = start(home, "--restore").communicate(timeout=PATIENCE)
    assert said == "" and (home / "mlruns/mlflow.db").stat().st_mtime_ns == written


def post(port, path, **fields):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}", json.dumps(fields).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read())


def shows_a_training_that_runs(home, port):
    """What a training appends to its file is on the pages soon, and more of it later."""
    path = home / live.path(studies.load(), "t1-c16")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    for step in (20, 40):
        with path.open("a") as file:
            file.write(f"{json.dumps([step, 'loss', 2 / step, 1_700_000_000_000 + step])}\n")
        deadline, found = time.time() + PATIENCE, {}
        while found.get("step") != step and time.time() < deadline:
            time.sleep(0.5)
            known = json.loads(get(port, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Trainings"))
            runs = post(port, "runs/search", experiment_ids=[known["experiment"]["experiment_id"]],
                        filter="tags.run = 't1-c16'").get("runs", [])
            found = next((metric for run in runs for metric in run["data"].get("metrics", [])), {})
        assert (found["key"], found["step"], found["value"]) == ("curve/loss", step, 2 / step)


def test_a_port_that_is_taken_is_said_before_anything_is_promised(home):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said, complaint = start(home, "--port", str(port)).communicate(timeout=PATIENCE)
    assert f"MLflow cannot listen on 127.0.0.1:{port} (Address already in use): python -m stages.ui --port {port + 1}" in complaint
    assert "MLflow at" not in said and "Traceback" not in complaint


def test_no_host_is_not_every_host():
    with pytest.raises(studies.StudyError, match="--host is empty"):
        ui.serve("", 1)


def test_a_host_that_is_none_is_said_in_words(home):
    _, complaint = start(home, "--host", "no.such.host.invalid").communicate(timeout=PATIENCE)
    assert "MLflow cannot listen on no.such.host.invalid:5000 (" in complaint and "name another --host" in complaint
    assert "Unknown error" not in complaint and "Traceback" not in complaint


def first_page(process, port) -> bytes:
    deadline = time.time() + PATIENCE
    while time.time() < deadline and process.poll() is None:
        try:
            return get(port)
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return b""


@contextlib.contextmanager
def served(folder, ending, *arguments):
    """`ui` in `folder` and its port, once it serves; then `ending` is sent, after which nothing of it is left."""
    process = start(folder, "--port", str(port := free_port()), *arguments)
    try:
        assert b"<html" in first_page(process, port)
        yield process, port
    finally:
        process.send_signal(ending)
        said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0 and "MLflow stopped" in said and "Traceback" not in complaint
    with pytest.raises(OSError):
        get(port)


def test_the_pages_of_a_copied_folder_are_of_the_copy_until_sigterm(home, tmp_path):
    start(home, "--restore").communicate(timeout=PATIENCE)
    shutil.copytree(home, tmp_path / "copy")
    with served(tmp_path / "copy", signal.SIGTERM) as (process, port):
        while "MLflow at" not in process.stdout.readline():
            assert process.poll() is None
        known = json.loads(get(port, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Trainings"))["experiment"]
        assert str(tmp_path / "copy/mlruns") in known["artifact_location"]
        assert post(port, "runs/search", experiment_ids=[known["experiment_id"]])["runs"]


def test_pages_are_served_to_this_machine_alone_until_ctrl_c(home):
    with served(home, signal.SIGINT, "--every", "0.2") as (process, port):
        assert b"ok" in get(port, "/health").lower()
        shows_a_training_that_runs(home, port)
        lines = [" ".join(each.cmdline()) for each in psutil.Process(process.pid).children(recursive=True)]
        assert any("mlflow" in line for line in lines) and not any("sqlite:" in line for line in lines)  # addresses may hold secrets
        own = next((found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
                    if not found[4][0].startswith("127.")), None)
        if own:
            with pytest.raises(OSError):
                socket.create_connection((own, port), timeout=2).close()
