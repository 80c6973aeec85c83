"""The stages of dvc.yaml on Snakemake: parallel, on many GPUs, on Slurm (docs/scale.md). Nothing is defined here.

Each job is `dvc repro --single-item STAGE` (stages/engine/job.sh). DVC alone decides what is stale: such a stage's marker is gone
before jobs are scheduled.
"""
import os
import sys

sys.path.insert(0, os.getcwd())
from pipeline import study as studies
from stages.engine import dag

if workflow.is_main_process:    # jobs on other nodes read this file too, while stages run
    dag.start()
elif workflow.remote_exec:      # what this job starts has its cores and devices to itself, perhaps on a machine of its own
    os.environ["STUDY_REMOTE"] = "1"
STAGES = dag.stages()
logger.addFilter(dag.worth_saying())
onerror: dag.failed()
GPUS = workflow.global_resources.get("gpu").value or 0  # of `--resources gpu=N`, which `make study` gives where there are devices
STUDY = studies.load()          # heavy stages share the cores; counted over the whole study, so that a resumed one gives the same bytes
# None are said to Slurm, where a profile's set-threads can ask for more; a node's own number would not be what was asked for.
CORES = 1 if "STUDY_REMOTE" in os.environ else workflow.resource_settings.cores or 1
BESIDE = GPUS or len(STUDY.included) or 1
DATASETS = 4                    # are decoded at once, each by as many processes as it has threads


def threads(stage):
    beside = BESIDE if stage.resources.get("gpu") else DATASETS if stage.name.startswith("prepare@") else CORES
    return max(1, CORES // beside)


rule all:
    default_target: True
    input: [stage.marker for stage in STAGES]


for stage in STAGES:
    rule:
        name: stage.rule
        input: stage.upstream
        output: stage.marker
        params:                 # not written into `shell`, which binds late: every job would run the last stage
            stage=stage.name, total=len(STAGES)
        threads: threads(stage)
        priority: stage.priority
        resources: **stage.resources
        shell: dag.JOB
