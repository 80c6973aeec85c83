"""A real Slurm of one node in a folder: munged, slurmctld and slurmd on free ports, with devices that are like /dev/null."""
import contextlib
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from tests.processes import free_port

DAEMONS = "munged", "slurmctld", "slurmd"
CLIENTS = "sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol"
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MinJobAge=300
KillWait=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """Why no Slurm can be started here, or None where it can."""
    if os.geteuid():
        return "only root can start Slurm's daemons"
    absent = [name for name in DAEMONS + CLIENTS if not _tool(name)]
    return f"{', '.join(absent)} not installed (Debian: apt install slurm-wlm munge)" if absent else None


def _tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextlib.contextmanager
def cluster(cpus: int, gpus: int):
    """Yield the environment in which `sbatch` and the rest talk to a cluster of its own; all daemons and jobs end afterwards."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # not pytest's: paths of sockets are short
        root, host = Path(folder), socket.gethostname().partition(".")[0]
        root.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (root / name).mkdir(mode=0o755)
        (root / "key").write_bytes(secrets.token_bytes(256))
        (root / "key").chmod(0o400)
        devices = [root / f"gpu{number}" for number in range(gpus)]
        for device in devices:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # as /dev/null
        settings = {"root": root, "host": host, "controller": free_port(), "node": free_port(), "cpus": cpus, "gpus": gpus}
        (root / "slurm.conf").write_text(CONFIGURATION.format(**settings))
        (root / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
        (root / "bin").mkdir()
        for name in CLIENTS:  # Snakemake takes SLURM_CONF out of the environment
            (root / "bin" / name).write_text(f'#!/bin/sh\nSLURM_CONF={root}/slurm.conf exec {_tool(name)} "$@"\n')
            (root / "bin" / name).chmod(0o755)
        environment = os.environ | {"SLURM_CONF": str(root / "slurm.conf"), "PATH": f"{root}/bin:{os.environ['PATH']}"}
        munge = [f"--{name}={root}/munge/{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        commands = [["munged", "--foreground", "--force", f"--key-file={root}/key", *munge],
                    ["slurmctld", "-D", "-c", "-L", f"{root}/slurmctld.log"], ["slurmd", "-D", "-c", "-L", f"{root}/slurmd.log"]]
        running = []
        try:
            for name, *options in commands:
                log = (root / f"{name}.out").open("w")
                running.append(subprocess.Popen([_tool(name), *options], env=environment, stdout=log, stderr=log, cwd=root))
                if name == "munged":
                    _until((root / "munge/socket").exists, root)
            idle = ["sinfo", "--noheader", "--format=%T"]
            _until(lambda: subprocess.run(idle, env=environment, capture_output=True, check=False).stdout.strip() == b"idle", root)
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True, check=False)
            for process in reversed(running):
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()


def _until(condition, root: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "\n".join(path.read_text()[-3000:] for path in [*root.glob("*.log"), *root.glob("*.out")])
        time.sleep(0.1)
