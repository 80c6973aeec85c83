#!/usr/bin/env bash
# One job of Snakemake around one stage of DVC:  job.sh STAGE MARKER STAGES THREADS GPUS
# Shares threads out, takes GPUs that no other job on this machine holds, and says when the stage starts and ends.
set -euo pipefail
{ : 3>&1; } 2>/dev/null || exec >/dev/null    # closed, as by  make study >&- : every echo would fail, and files be opened as 1
stage=$1 marker=$2 stages=$3 threads=$4 gpus=$5
folder=$(dirname "$(dirname "$marker")")    # of artifacts/SCALE/.markers/STAGE
[ -z "${STUDY_REMOTE:-}" ] || threads=${SLURM_CPUS_PER_TASK:-$threads}    # a job of its own, not one that all stages run in
export OMP_NUM_THREADS=$threads MKL_NUM_THREADS=$threads DVC_NO_ANALYTICS=1 STUDY_GPUS=0 STUDY_JOB=$stage

failed() {    # says so, with why in $1, and leaves the stage's name for the end of the log (dag.py)
    echo "FAILED   $stage${1:+: $1}"
    mkdir -p "$folder/.failed" && touch "$folder/.failed/$stage"
    exit 1
}

take() {    # as many of the devices $@ as are wanted and there, all at once, until this process and its children end
    local device lock names=() locks=()
    for device in "$@"; do
        [ ${#names[@]} -lt "$gpus" ] || break
        exec {lock}>> "$own/gpu-${SLURM_JOB_ID:+$SLURM_JOB_ID-}$device.lock"    # each Slurm job counts from 0
        if flock --nonblock "$lock"; then names+=("$device") locks+=("$lock"); else exec {lock}>&-; fi
    done
    if [ ${#names[@]} -lt "$gpus" ] && [ ${#names[@]} -lt $# ]; then
        for lock in "${locks[@]}"; do exec {lock}>&-; done
        return 1
    fi
    STUDY_GPUS=${#names[@]}
    CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${names[*]}")
    export CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER:-PCI_BUS_ID}    # nvidia-smi's, not the fastest first
}

if [ -n "${STUDY_REMOTE:-}" ]; then    # DVC's locks know the processes of one machine; a scheduler that was killed leaves its jobs
    mkdir -p "$folder/.locks"
    exec {alone}> "$folder/.locks/$stage"
    flock --nonblock "$alone" || { echo "waiting  $stage: another job runs it"; flock "$alone"; }
fi
if [ "$gpus" -gt 0 ]; then
    own=${TMPDIR:-/tmp}/study-$UID    # where anybody may write, a folder that nobody else can
    mkdir -pm 700 "$own" || failed "$own cannot be made: have TMPDIR name a folder that can be written to"
    [ -O "$own" ] && [ ! -L "$own" ] || failed "$own is not ours: remove it"
    # Numbers and UUIDs only: -1 and Slurm's NoDevFiles say that there is none, and nvidia-smi says so in words.
    # What CUDA_VISIBLE_DEVICES names counts where there are devices (some containers show them in /dev alone) or Slurm gives them.
    listed=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | grep -xE '[0-9]+') || true
    named=${CUDA_VISIBLE_DEVICES-$listed}
    [ -n "$listed${SLURM_JOB_ID:-}" ] || compgen -G '/dev/nvidia[0-9]*' > /dev/null || [ -e /dev/dxg ] || named=
    devices=($(tr -d ' ' <<< "$named" | tr , '\n' | grep -xE '[0-9]+|(GPU|MIG)-.+')) || true    # a Mac's bash has no mapfile
    if [ ${#devices[@]} -gt 0 ] && ! take "${devices[@]}"; then
        echo "waiting  $stage: other stages hold the GPUs"
        until take "${devices[@]}"; do sleep 1; done
    fi
fi
scale=$(basename "$folder")
if ! grep -Eq "^scale:[[:space:]]*[\"']?$scale[\"']?([[:space:]]|\$)" params.yaml; then
    failed "the scale in params.yaml is no longer $scale"
fi
SECONDS=0 stopped=
trap 'stopped=yes' INT TERM
echo "start    $stage"
if ! python -m stages.engine.repro "$stage"; then
    [ -n "$stopped" ] || failed
    echo "stopped  $stage"
    exit 1
fi
rm -f "$folder/.failed/$stage"    # of an earlier try (`retries` of profiles/slurm)
touch "$marker"
echo "done     $stage  ($SECONDS s; $(find "$folder/.markers" -type f | grep -c .) of $stages stages up to date)"
