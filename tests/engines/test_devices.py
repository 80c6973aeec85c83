"""How stages share a machine's devices. `python`, which would call DVC, and `nvidia-smi` are fakes (conftest.start)."""
import glob
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from pipeline.study import ROOT

TWO, NONE = "#!/bin/bash\necho GPU 0: x\necho GPU 1: x\n", "#!/bin/bash\necho No devices were found\nexit 6\n"
without_a_gpu = pytest.mark.skipif(bool(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dxg")), reason="a GPU is here")


@pytest.mark.parametrize("smi, devices, given", [
    (TWO, None, ["2"]), (TWO, "", []), (TWO, "-1", []), (TWO, "NoDevFiles", []), (TWO, "5", ["1"]), (TWO, "0,3", ["2"]),
    (NONE, None, []), pytest.param(NONE, "0", [], marks=without_a_gpu)])  # the last as from some profile
def test_make_gives_snakemake_the_devices_that_are_visible(tmp_path, smi, devices, given):
    """One that is named and not there would have a study run one training at a time."""
    (tmp_path / "nvidia-smi").write_text(smi)
    (tmp_path / "nvidia-smi").chmod(0o755)
    known = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
    known |= {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | ({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices})
    shown = subprocess.check_output(["make", "-n", "-o", ".venv/.installed", "study"], cwd=ROOT, text=True, env=known)
    assert "snakemake" in shown and re.findall(r"--resources gpu=(\S+)", shown) == given


@without_a_gpu
def test_a_name_of_no_device_is_not_waited_for(start, tmp_path):
    (tmp_path / "bin/nvidia-smi").write_text(NONE)
    start("a", CUDA_VISIBLE_DEVICES="0")
    assert not list(tmp_path.glob("study-*/gpu-*"))


def test_each_stage_has_a_device_of_its_own_until_it_ends(start):
    first, one, threads = start("a")
    second, two, _ = start("b")
    assert (one, two, threads) == ("0", "1", "4")
    with ThreadPoolExecutor() as waits:
        third = waits.submit(start, "c")  # all are taken
        assert not wait([third], 1).done
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        assert third.result(60)[1] == "0"


def test_a_stage_on_several_devices_holds_them_all_or_none(start):
    first, both, _ = start("a", gpu=2)
    assert both == "0,1"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    one, single, _ = start("b")
    assert single == "0"
    with ThreadPoolExecutor() as waits:
        two = waits.submit(start, "c", 2)
        assert not wait([two], 1.5).done
        assert start("d")[1] == "1"  # which "c" does not hold while it waits
        start.go()
        assert two.result(60)[1] == "0,1"


def test_more_devices_than_there_are_is_all_of_them(start):
    assert start("a", gpu=4)[1] == "0,1"


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_no_device_is_waited_for_where_all_are_hidden(start, tmp_path, hidden):
    """A lock on a word that is no device would let one stage run at a time."""
    assert start("a", CUDA_VISIBLE_DEVICES=hidden)[1] == hidden
    assert not list(tmp_path.glob("study-*/gpu-*"))


def test_the_words_of_an_nvidia_smi_that_fails_are_no_devices(start, tmp_path):
    (tmp_path / "bin/nvidia-smi").write_text(NONE)
    (tmp_path / "old").write_text("enable -n mapfile")  # a Mac's bash has none
    assert start("a", BASH_ENV=str(tmp_path / "old"))[1] == "none" and not list(tmp_path.glob("study-*/gpu-*"))


@pytest.mark.parametrize("one, other", [("5", "7"), ("GPU-8a-41", "MIG-6b-2")])
def test_the_devices_that_a_person_names_are_used(start, one, other):
    assert start("a", CUDA_VISIBLE_DEVICES=f"{one}, {other}")[1] == one
    assert start("b", CUDA_VISIBLE_DEVICES=f"{one}, {other}")[1] == other


@pytest.mark.parametrize("given, order", [({}, "PCI_BUS_ID"), ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "FASTEST_FIRST")])
def test_a_device_has_the_number_that_nvidia_smi_gives_it(start, given, order):
    """Where cards differ, CUDA numbers them in another order, and the curves would show another one's utilisation."""
    start("a", **given)
    assert f"order={order}\n" in start.shown


def test_a_stage_without_need_of_one_takes_none(start):
    assert start("a", gpu=0)[1] == "none"


def test_in_an_allocation_of_ones_own_stages_share_its_devices_and_cores(start):
    given = {"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "8", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert [start(stage, **given)[1:] for stage in "ab"] == [("0", "4"), ("1", "4")]
