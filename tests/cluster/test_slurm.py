"""Stages of the tiny study as jobs of a real Slurm, through profiles/slurm. Skipped where Slurm is not installed, or not root."""
import json
import re
import subprocess

import pytest
import torch
import yaml

from tests.cluster import slurm
from tests.engines.checkout import BIN, ROOT, Checkout
from tests.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(slurm.lacking() is not None, reason=f"no Slurm: {slurm.lacking()}")]
QUICK = ["--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
         "--seconds-between-status-checks", "1", "--latency-wait", "10"]


def jobs(environment) -> dict[str, dict[str, str]]:
    """What Slurm says of each job, by rule."""
    shown = subprocess.check_output(["scontrol", "--oneliner", "show", "job"], env=environment, text=True)
    found = [dict(re.findall(r"(\w+(?:/\w+)?)=(\S*)", line)) for line in shown.splitlines() if line]
    return {job["Comment"].removeprefix("rule_"): job for job in found}


def test_stages_are_jobs_that_ask_for_what_their_meta_says(tmp_path):
    """One job that needs no device, one that is given two and trains in two processes (a CPU's: the devices are fake)."""
    checkout = Checkout(tmp_path)
    checkout.run("dvc", "repro", "prepare@imagenet")
    with slurm.cluster(cpus=2, gpus=2) as environment:
        checkout.run("snakemake", "--workflow-profile", "profiles/slurm", *QUICK, "--set-resources", "pretrain_resnet101:gpu=2",
                     "--", "pretrain_resnet101", "download_voc", PATH=f"{BIN}:{environment['PATH']}")
        asked = jobs(environment)
    meta = {name: body["do"]["meta"] for name, body in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items() if "do" in body}
    assert asked.keys() == {"download_voc", "pretrain_resnet101"}
    for rule, job in asked.items():
        wanted = meta[rule.partition("_")[0]]
        assert job["JobState"] == "COMPLETED"
        assert job["MinMemoryNode"] in (f"{wanted['mem_mb']}M", f"{wanted['mem_mb'] / 1024:g}G")
        days, _, time = job["TimeLimit"].rpartition("-")
        hours, minutes, _ = map(int, time.split(":"))
        assert 1440 * int(days or 0) + 60 * hours + minutes == wanted["runtime"]
        gpus = 2 if rule == "pretrain_resnet101" else 0
        assert job.get("TresPerJob", job.get("TresPerNode", "gres:gpu:0")) == f"gres:gpu:{gpus}"
    record = json.loads((checkout.root / "artifacts/tiny/weights/resnet101/record.json").read_text())
    assert record["status"] == "done" and record["provenance"]["device"] == "2 x CPU"
    assert "up to date" in checkout.run("dvc", "repro", "pretrain@resnet101", "download@voc")


@pytest.mark.drills
def test_a_training_whose_job_is_cancelled_saves_first(tmp_path):
    """As at the job's time limit. Nothing would be saved before the last of its steps."""
    checkout = Checkout(tmp_path)
    checkout.run("dvc", "repro", "pretrain@resnet101", "prepare@voc")
    checkout.train_for(40000, 40000)
    curve, checkpoint = (checkout.root / f"artifacts/tiny/checkpoints/t2-x2.{ending}" for ending in ("jsonl", "pt"))
    with slurm.cluster(cpus=2, gpus=0) as environment:
        study = checkout.start("snakemake", "--workflow-profile", "profiles/slurm", *QUICK, "--retries", "0", "--set-resources",
                               "train_t2_x2:gpu=0", "--", "train_t2_x2", **environment | {"PATH": f"{BIN}:{environment['PATH']}"})
        wait_for(curve.exists)
        running = subprocess.check_output(["squeue", "--noheader", "--format=%i"], env=environment, text=True).split()
        subprocess.run(["scancel", *running], env=environment, check=True)
        assert running and study.wait(180) != 0
        assert torch.load(checkpoint, weights_only=True)["step"] > 0 and not checkout.processes()
