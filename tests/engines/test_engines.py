"""The tiny study through real `snakemake` and real `dvc repro`. In one checkout, in this order."""
import json
import re
import resource
import shutil
import time

import pytest

from tests.engines.checkout import ran

pytestmark = pytest.mark.slow

TABLES = ["table1", "table2", "table3", "table4", "table5", "table6", "table7a", "table7b", "figure5"]
ONE_RUN = {"train@t1-c8", "evaluate@t1-c8", "cost", "compile", "report"}


def started(printed: str) -> set[str]:
    """The stages that Snakemake gave to DVC."""
    return set(re.findall(r"start    (\S+)", printed))


def test_one_command_ends_with_the_report(study):
    assert len(started(study.printed)) == len(re.findall(r"done     \S+", study.printed)) >= 50
    assert "reports/index.html" in study.printed.splitlines()[-1]
    assert not {f"{name}.parquet" for name in TABLES} - study.tables().keys()
    assert (study.root / "reports/index.html").stat().st_size > 10_000
    assert "|" in (study.root / "reports/README.md").read_text()


def test_what_snakemake_ran_dvc_calls_up_to_date(study):
    (study.root / "artifacts/tiny/runs/t2-x2/.DS_Store").touch()  # as a Mac's Finder does
    printed = study.run("dvc", "repro")
    assert "Data and pipelines are up to date" in printed and not ran(printed)


def test_a_second_time_there_is_nothing_to_do(study):
    tables, before = study.tables(), resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = study.make("study")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # the time it takes alone: this machine may be busy with other tests
    assert "nothing to do" in printed and not started(printed)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20  # seconds; docs/performance.md
    assert study.tables() == tables


def test_one_parameter_runs_that_run_again_and_no_other(study):
    study.tables_before = study.tables()
    study.edit("params.yaml", r'decoder: "\[3x3,256\]", low_level_channels: 8\}', 'decoder: "[3x3,256]", low_level_channels: 12}')
    assert ran(study.run("dvc", "repro")) == ONE_RUN
    assert study.tables() != study.tables_before
    assert re.search(r"t1-c8\.os16 +\S+ +\d", study.run("dvc", "metrics", "diff", "--all"))  # HEAD's may be of another scale, or none


def test_what_dvc_ran_snakemake_calls_up_to_date(study):
    for marker in sorted((study.root / "artifacts/tiny/.markers").iterdir())[::2]:
        marker.unlink()  # as in a checkout where only dvc repro was used; and the others are older than what it has made
    assert not started(study.run("snakemake", "--workflow-profile", "profiles/local"))


def test_going_back_restores_and_trains_nothing(study):
    study.edit("params.yaml", "low_level_channels: 12}", "low_level_channels: 8}")
    now, markers = time.time(), study.root / "artifacts/tiny/.markers"
    (markers / "train@gone").touch()
    printed = study.run("snakemake", "--workflow-profile", "profiles/local")
    total = len(list(markers.iterdir()))
    assert started(printed) == ONE_RUN and not (markers / "train@gone").exists()
    assert re.findall(r"(\d+) of (\d+) stages up to date", printed) == [(str(total - left), str(total)) for left in range(len(ONE_RUN))[::-1]]
    record = json.loads((study.root / "artifacts/tiny/runs/t1-c8/record.json").read_text())
    assert record["provenance"]["started"] < now  # the first training's
    assert record["params"]["network"]["backbones"].keys() == {"resnet101"}  # an edit of others does not train it again
    assert study.tables() == study.tables_before
    assert "up to date" in study.run("dvc", "repro")


@pytest.mark.parametrize("pattern, replacement, concerned", [
    ("(?m)^strategies:", "strategies:\n  os8-flip: {output_stride: 8, scales: [1.0], flip: true}", set()),
    (r"(?m)(middle: 1, width: 0.03125, entry: 5}\n        mobilenetv2_100: )null", r"\1{width: 0.125}",
     {"pretrain@mobilenetv2_100", "train@own-mobilenet", "fetch@mobilenetv2_coco_voc_trainaug", "fetch@mobilenetv2_coco_cityscapes_trainfine"}),
    (r"(?m)(fine_tune: \*tiny-train\n      trainval: )null", r"\1{<<: *tiny-train, split: trainval}", {"prepare@voc", "train@t6-test"}),
    (r"(canvas: \[49, 49\]\}\n      evaluate_batch: )4(\n    coco:)", r"\g<1>2\2", {"prepare@voc"}),
    (r"evaluate_batch: 16", "evaluate_batch: 8", {"prepare@imagenet"}),
], ids=["strategy", "backbone", "recipe", "evaluate_batch", "evaluate_batch of pictures"])
def test_a_new_line_concerns_those_that_use_it(study, pattern, replacement, concerned):
    before = (study.root / "params.yaml").read_text()
    study.edit("params.yaml", pattern, replacement)
    try:
        stale = json.loads(study.run("dvc", "status", "--json"))
    finally:
        (study.root / "params.yaml").write_text(before)
    assert set(stale) == concerned | {"cost", "compile", "report"}


def test_another_order_of_the_runs_is_the_reports(study):
    """A mapping with its lines in another order is no other value to DVC."""
    before = (study.root / "params.yaml").read_text()
    study.edit("params.yaml", r"(?m)^(  t1-c8: .*{.*\n)(  t1-c16: .*{.*\n)", r"\2\1")
    try:
        assert set(json.loads(study.run("dvc", "status", "--json"))) == {"compile", "report"}
    finally:
        (study.root / "params.yaml").write_text(before)


def test_a_lost_mlflow_store_comes_back(study):
    before, tables = study.mlflow(), study.tables()
    assert len(before) > 20
    store = [study.root / name for name in ("mlruns", "mlflow.db") if (study.root / name).exists()]
    assert store
    for path in store:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    study.make("study")
    assert study.mlflow() == before and study.tables() == tables


def test_a_fresh_clone_with_the_same_cache_trains_nothing(study, tmp_path):
    """Where nobody has committed dvc.lock the run cache knows; a few stages of that, which DVC restores slowly one by one."""
    other = study.clone(tmp_path / "other")
    other.run("dvc", "cache", "dir", "--local", str(study.root / ".dvc/cache"))
    printed = other.run("dvc", "repro", "evaluate@t7-x71")
    assert not ran(printed) and printed.count("is cached - skipping run") == 7
    shutil.copy(study.root / "dvc.lock", other.root)
    other.run("dvc", "checkout", "--allow-missing")  # the report is in no cache
    assert ran(other.run("dvc", "repro")) <= {"compile", "report"}
    assert other.tables() == study.tables()


def test_a_fresh_clone_that_shares_nothing_computes_the_same_bytes(study, tmp_path):
    """One network; all tables of two clones are compared in test_whole_drills.py."""
    other = study.clone(tmp_path / "other")
    assert "train@t7-x71" in started(other.run("snakemake", "--workflow-profile", "profiles/local", "evaluate_t7_x71"))
    for name in ("shards/cityscapes/val.arrow", "runs/t7-x71/model.safetensors", "facts/t7-x71/facts.parquet"):
        assert (other.root / "artifacts/tiny" / name).read_bytes() == (study.root / "artifacts/tiny" / name).read_bytes()


def test_results_move_to_another_disk(study, tmp_path):
    """As docs/troubleshooting.md says."""
    study.run("bash", "-c", f"mv .dvc/cache {tmp_path}/dvc-cache && dvc cache dir --local {tmp_path}/dvc-cache")
    assert not ran(study.run("dvc", "repro"))


def test_a_change_of_code_is_noticed_where_it_is_used(study):
    with (study.root / "pipeline/reporting/page.py").open("a") as file:
        file.write("# a remark\n")
    with (study.root / "pipeline/schema.py").open("a") as file:  # no stage depends on it
        file.write("# a remark\n")
    assert set(re.findall(r"Running stage '([^']+)'", study.run("dvc", "repro", "--dry"))) == {"report"}
