"""Open MLflow's pages on what the study has measured, and keep them up to date while it runs."""
import errno
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Annotated

import typer

from pipeline import study as studies
from pipeline.tracking import live, local, mirror, store
from stages import console


def main(host: Annotated[str, typer.Option(help="address to bind to")] = "127.0.0.1",
         port: Annotated[int, typer.Option(min=1, max=65535, help="port to bind to")] = 5000,
         every: Annotated[float, typer.Option(min=0.1, help="seconds between two looks at the files")] = 15,
         restore: Annotated[bool, typer.Option("--restore", help="bring MLflow's store up to date and stop")] = False):
    """Mirror the study into MLflow and serve its pages at http://127.0.0.1:5000 until Ctrl-C. Rows appear as runs finish, curves
    while they train. Where MLFLOW_TRACKING_URI names a server, the study is mirrored there, and no pages are served here.

    Example:  python -m stages.ui --port 5001
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the server ends with this, also where a terminal is closed
        signal.signal(name, signal.default_int_handler)
    study = studies.load()
    elsewhere = store.uri().startswith(("http:", "https:"))
    server = None
    try:
        if not (restore or elsewhere) and (local.here() or not store.is_ours()):
            server = serve(host, port)  # it takes seconds to start: mirror meanwhile. A fresh store is made by one process alone
        shown = ""  # nothing yet
        try:
            shown = first(study)
        except (studies.StudyError, OSError) as error:
            if restore or isinstance(error, store.Unusable):
                raise
            later(str(error))
        if restore:
            return
        server = server or (None if elsewhere else serve(host, port))
        print(f"MLflow at {store.masked() if elsewhere else f'http://{host}:{port}'} (choose Model training at the top left); "
              "Ctrl-C ends it", flush=True)
        follower = live.Follower()
        while server is None or server.poll() is None:
            shown = follow(shown, follower)
            time.sleep(every)
        hint = f"; if it is for its store, {local.ADVICE}" if store.is_ours() else ""
        raise studies.StudyError(f"MLflow's server stopped with code {server.returncode}, its words are above{hint}")
    except KeyboardInterrupt:
        print("\nMLflow stopped")
    finally:
        if server:
            end(server)


def first(study: studies.Study) -> str:
    """Mirror the study where the store does not show it yet; return its fingerprint."""
    now = mirror.fingerprint(study)
    if not mirror.current(study):
        print(f"MLflow: {mirror.mirror(study).changes} changes written to {store.masked()}", flush=True)
    return now


def serve(host: str, port: int) -> subprocess.Popen:
    """MLflow's own server on the store. Its address goes through the environment: others can read a command line. StudyError
    where the port is taken, or the host is none of this machine's."""
    if not host:  # which means every address of this machine's
        raise studies.StudyError("--host is empty: leave it out, or name an address, such as 0.0.0.0 for all of this machine's")
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        said = error.strerror.partition(" (while")[0]  # the rest says the address in its own way
        other = f"python -m stages.ui --port {port + 1}" if error.errno == errno.EADDRINUSE else "name another --host or --port"
        raise studies.StudyError(f"MLflow cannot listen on {host}:{port} ({said}): {other}") from None
    settings = {"MLFLOW_BACKEND_STORE_URI": store.uri(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen([sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1",
                             "--uvicorn-opts", "--log-level warning"], env=os.environ | store.QUIET | settings,
                            start_new_session=True)  # Ctrl-C is for us, who then end the server and its workers


def end(server: subprocess.Popen) -> None:
    """End the server and its workers."""
    for wish in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, wish)
            server.wait(10)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def follow(shown: str, follower: live.Follower) -> str:
    """Mirror again if the files changed since `shown`, a fingerprint, and draw what trainings have written; return what is shown
    now. A stage may be writing: that is for the next look."""
    try:
        study = studies.load.__wrapped__()  # params.yaml may have changed
        now = mirror.fingerprint(study)
        if now != shown:
            mirror.mirror(study)
        follower.look(study)
        return now
    except (studies.StudyError, OSError) as error:
        later(str(error))
        return shown


@functools.lru_cache(maxsize=1)  # not again at every look
def later(why: str) -> None:
    """Say why not all is mirrored."""
    print(f"not mirrored yet: {why}", file=sys.stderr)


if __name__ == "__main__":
    console.run(main)
