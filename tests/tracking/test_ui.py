"""`python -m stages.ui` as people type it: pages on localhost, a store that comes back, a Ctrl-C that ends all of it."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from pipeline import study as studies
from tests.reporting import fake_study


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
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read()


def test_restore_makes_a_missing_store_and_leaves_one_that_is_there(home):
    shutil.rmtree(home / "mlruns", ignore_errors=True)
    said, complaint = start(home, "--restore").communicate(timeout=100)
    assert "MLflow: 3 runs written" in said, complaint  # Table 1's row and Table 4's two
    written = (home / "mlruns/mlflow.db").stat().st_mtime_ns
    said, _ = start(home, "--restore").communicate(timeout=100)
    assert said == "" and (home / "mlruns/mlflow.db").stat().st_mtime_ns == written


def test_pages_are_served_to_this_machine_alone_until_ctrl_c(home):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(home, "--port", str(port))
    try:
        deadline = time.time() + 90
        while time.time() < deadline and process.poll() is None:
            try:
                page = get(port)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        assert b"<html" in page
        assert b"ok" in get(port, "/health").lower()
        own = next((found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
                    if not found[4][0].startswith("127.")), None)
        if own:
            with pytest.raises(OSError):
                socket.create_connection((own, port), timeout=2).close()
    finally:
        process.send_signal(signal.SIGINT)
    said, complaint = process.communicate(timeout=40)
    assert process.returncode == 0 and "MLflow stopped" in said and "Traceback" not in complaint
    with pytest.raises(OSError):
        get(port)
