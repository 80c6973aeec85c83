"""Open MLflow's pages on what the study has measured, and keep them up to date while it runs.

Example:  python -m stages.ui
"""
import os
import signal
import subprocess
import sys
import time
from typing import Annotated

import typer

from pipeline import study as studies
from pipeline.tracking import mirror
from stages import console

EVERY = 15  # seconds between two looks at the files


def main(host: Annotated[str, typer.Option(help="address to bind to")] = "127.0.0.1",
         port: Annotated[int, typer.Option(help="port to bind to")] = 5000,
         restore: Annotated[bool, typer.Option("--restore", help="bring MLflow's store up to date and stop")] = False):
    """Mirror the study into MLflow and serve its pages at http://127.0.0.1:5000 until Ctrl-C; rows appear as runs finish.

    Example:  python -m stages.ui --port 5001
    """
    study = studies.load()
    if not mirror.current(study):
        print(f"MLflow: {mirror.mirror(study)} runs written to {mirror.uri()}", flush=True)
    if restore:
        return
    if mirror.uri().startswith("http"):
        raise studies.StudyError(f"MLflow's pages are at {mirror.uri()}: MLFLOW_TRACKING_URI names a server of its own")
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", "--backend-store-uri", mirror.uri(), "--host", host,
                               "--port", str(port),
                               "--workers", "1", "--uvicorn-opts", "--log-level warning"],
                              env=os.environ | mirror.QUIET
                              | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"},
                              start_new_session=True)  # Ctrl-C is for us, who then end the server and its workers
    print(f"MLflow at http://{host}:{port}; Ctrl-C ends it", flush=True)
    shown = mirror.fingerprint(study)
    try:
        while server.poll() is None:
            time.sleep(EVERY)
            shown = follow(shown)
        raise studies.StudyError(f"MLflow's server stopped with code {server.returncode}; is port {port} taken? "
                                 f"try --port {port + 1}")
    except KeyboardInterrupt:
        print("\nMLflow stopped")
    finally:
        for wish in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(server.pid, wish)
                server.wait(10)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


def follow(shown: str) -> str:
    """Mirror again if the files changed since `shown`, a fingerprint; return the one that is shown now. A stage may be writing:
    that is for the next look."""
    try:
        study = studies.load.__wrapped__()  # params.yaml may have changed
        now = mirror.fingerprint(study)
        if now != shown:
            mirror.mirror(study)
        return now
    except (studies.StudyError, OSError) as error:
        print(f"not mirrored yet: {error}", file=sys.stderr)
        return shown


if __name__ == "__main__":
    console.run(main)
