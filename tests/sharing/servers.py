"""Real servers on this machine for the length of a test: PostgreSQL, MLflow on it, S3."""
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.study import ROOT
from pipeline.tracking import store
from tests.processes import free_port


def wait_for(ready, process=None, seconds=90):
    """Until `ready()` returns something true; its last exception where that does not come."""
    until = time.monotonic() + seconds
    while True:
        try:
            if found := ready():
                return found
            raise TimeoutError("not ready")
        except Exception:
            if time.monotonic() > until or (process and process.poll() is not None):
                raise
        time.sleep(0.1)


@contextlib.contextmanager
def stopped(process: subprocess.Popen):
    """End the process and what it started when the block ends."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def postgresql(password: str):
    """The address of an empty database, with user and password. Skips where PostgreSQL or its driver is not installed."""
    psycopg2 = pytest.importorskip("psycopg2", reason="the driver of PostgreSQL is not installed: pip install psycopg2-binary")
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    initdb, server = (shutil.which(name, path=os.pathsep.join([*places, os.environ["PATH"]])) for name in ("initdb", "postgres"))
    if not (initdb and server):
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    folder, port, who = Path(tempfile.mkdtemp(prefix="postgresql-")), free_port(), {}
    if os.getuid() == 0:  # it refuses to run as root
        user = next(pwd.getpwnam(name) for name in ("postgres", "nobody") if name in {each.pw_name for each in pwd.getpwall()})
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    try:
        (folder / "password").write_text(password)
        for path in (folder, folder / "password"):
            os.chown(path, who.get("user", -1), who.get("group", -1))
        subprocess.run([initdb, "--pgdata", "data", "--username", "lab", "--pwfile", "password", "--auth", "scram-sha-256",
                        "--no-sync", "--encoding", "UTF8", "--locale", "C"], cwd=folder, check=True, capture_output=True, **who)
        command = [server, "-D", "data", "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
        with stopped(subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **who)) as process:
            wait_for(lambda: psycopg2.connect(host="127.0.0.1", port=port, user="lab", password=password, dbname="postgres"), process)
            yield f"postgresql://lab:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def mlflow(database: str, folder: Path):
    """The address of an MLflow server on `database`, which keeps files in `folder`."""
    address = f"http://127.0.0.1:{free_port()}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | store.QUIET
    environment |= {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2],
               "--workers", "1", "--artifacts-destination", str(folder / "files")]
    folder.mkdir()
    with (folder / "log").open("w") as log, \
            stopped(subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)) as process:
        wait_for(lambda: urllib.request.urlopen(f"{address}/health", timeout=5).status == 200, process)
        yield address


@contextlib.contextmanager
def s3(bucket: str):
    """The address of an S3 server in this process, with one empty bucket. Skips where moto or DVC's S3 part is not installed."""
    pytest.importorskip("dvc_s3", reason="DVC's S3 part is not installed: pip install dvc-s3")
    moto = pytest.importorskip("moto.server", reason="no local S3 server is installed: pip install moto[s3]")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT", headers={"Host": address[7:]}), timeout=10)
        yield address
    finally:
        server.stop()


def compile_at_once(addresses: dict[Path, str]) -> dict[Path, tuple[int, str]]:
    """`python -m stages.compile` in all folders at the same moment, each with its MLFLOW_TRACKING_URI ("": its own store); exit
    code and what it printed, of each."""
    code = """
import os, sys
import mlflow, pipeline.tracking.entries, pipeline.reporting.ledger   # once, not once a process: seconds
from mlflow.store.tracking import rest_store
from stages import compile, console
children = []
for folder, address in zip(sys.argv[1:], os.environ.pop("ADDRESSES").split()):
    if (child := os.fork()) == 0:
        os.chdir(folder)
        sys.argv, os.environ["MLFLOW_TRACKING_URI"] = ["compile"], address.removeprefix("local")
        for stream in (1, 2):
            os.dup2(os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        try:
            console.run(compile.main)
        except SystemExit as stop:
            os._exit(stop.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(99)
        sys.stdout.flush()
        os._exit(0)
    children.append(child)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ADDRESSES": " ".join(address or "local" for address in addresses.values()),
                                "OMP_NUM_THREADS": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    done = subprocess.run([sys.executable, "-c", code, *map(str, addresses)], env=environment, capture_output=True, text=True,
                          timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return {folder: (int(exit), (folder / "printed").read_text()) for folder, exit in zip(addresses, done.stdout.split())}
