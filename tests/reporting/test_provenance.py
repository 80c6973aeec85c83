"""Where the numbers come from: what the report sums up from the records, and the digest of dvc.lock."""
import pytest
import yaml

from pipeline import records, study as studies
from pipeline.reporting import run_pages, runs
from tests import shipped
from tests.reporting import fake_study


def test_a_record_says_what_made_it():
    found = records.provenance(0.0, device="CPU")
    assert set(records.PACKAGES) < set(found)
    assert len(found["requirements"]) == 64


@pytest.mark.parametrize("devices, hours", [
    (["CPU", "2 x CPU"], 0),
    (["NVIDIA H100"], 0.5),
    (["NVIDIA H100", "8 x NVIDIA H100", "CPU"], 4.5),
    ([None], 0),
])
def test_gpu_hours_count_devices(devices, hours):
    assert runs.gpu_hours([{"device": device, "seconds": 1800.0} for device in devices]) == hours


def test_the_lock_is_told_by_what_stands_in_it(tmp_path):
    path = tmp_path / "dvc.lock"
    assert runs.lock_digest("tiny", path) is None
    for left in ("", "schema: '2.0'\nstages:\n"):  # by something that was killed
        path.write_text(left)
        assert runs.lock_digest("tiny", path) is None
    stages = {"train@a": {"cmd": "x", "outs": [{"path": "artifacts/tiny/runs/a", "md5": "1"}]}, "report": {"cmd": "y"}}
    def digest(**changed):
        path.write_text(yaml.safe_dump({"stages": stages | changed}, sort_keys=bool(changed)))
        return runs.lock_digest("tiny", path)
    first = digest()
    assert digest(report={"cmd": "another"}) == first            # the report cannot hold its own hash
    assert digest(**{"train@b": {"cmd": "x"}}) != first
    assert digest(**{"train@a": stages["train@a"] | {"outs": [{"path": "artifacts/tiny/runs/a", "md5": "2"}]}}) != first
    other = {"train@b": {"cmd": "x", "outs": [{"path": "artifacts/tiny-2/runs/b", "md5": "1"}]}}
    assert digest(**other) == first and runs.lock_digest("tiny-2", path) != first
    assert runs.lock_digest("paper", path) is None, "another scale was studied last"


def test_the_report_lists_it_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = studies.load()
    fake_study.write(study, images=4, size=33)
    lock = {"stages": {"cost": {"cmd": "x", "outs": [{"path": f"artifacts/{study.scale}/costs"}]}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    found = dict(runs.provenance(study, [runs.describe(study, name) for name in study.runs]))
    assert found["Packages"] == f"torch 2.8.0, numpy 2.1.0; requirements.txt {'ab' * 6}"
    assert len(found["dvc.lock"]) == 12 and found["Device"] == "CPU"
    assert found["GPU-hours, pretraining and evaluation included"] == "none"


def again(study, kind, name, **changed):
    """As if the stage had run elsewhere."""
    folder = study.artifacts(kind, name)
    record = records.read(folder)
    records.write(folder, **record | {"provenance": record["provenance"] | changed})


def test_it_is_of_everything_that_ran(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = shipped.study()
    fake_study.write(study, images=4, size=33)
    described = [runs.describe(study, name) for name in study.runs]
    before = dict(runs.provenance(study, described))
    assert before["Commit"] == "0" * 40 and before["Machine"] == "x86_64, 2 CPUs", "older records know no processor"
    again(study, "facts", "t2-x2", commit="1" * 40, dirty=True, device="NVIDIA H200", processor="AMD EPYC")
    again(study, "weights", "resnet101", dirty=True, torch="2.9.0")
    again(study, "runs", "t1-c8", dirty=True)
    described = [runs.describe(study, name) for name in study.runs]
    found = dict(runs.provenance(study, described))
    stages = sum(one["done"] + bool(one["evaluation"]) for one in described) + len(study.settings.network.backbones)
    assert found["Commit"] == f"{'0' * 40}, {'1' * 40} (with uncommitted changes in 3 of {stages} stages)"
    assert found["Device"] == "CPU, NVIDIA H200" and "torch 2.8.0, 2.9.0" in found["Packages"]
    assert found["Machine"] == "AMD EPYC, x86_64, 2 CPUs"


def test_a_runs_page_says_what_is_the_trainings_and_what_the_evaluations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = shipped.study()
    fake_study.write(study, images=4, size=33, missing=[name for name in study.runs if name not in ("t2-x2", "coco-x65")])
    def origin(name, where=study):
        return dict(run_pages._origin(where, runs.describe(where, name)))
    assert origin("t2-x2") == origin("coco-x65")
    assert origin("t2-x2")["Commit"] == "0" * 40 and origin("t2-x2")["Uncommitted changes"] == "none"
    again(study, "facts", "t2-x2", commit="1" * 40, dirty=True, device="NVIDIA H200", processor="AMD EPYC")
    found = origin("t2-x2")
    assert found["Commit"] == f"{'0' * 40} (training), {'1' * 40} (evaluation)"
    assert found["Uncommitted changes"] == "none (training), yes (evaluation)"
    assert found["Device"] == "CPU (training), NVIDIA H200 (evaluation)" and found["Processor"] == "AMD EPYC (evaluation)"
    assert found["Machine"] == "x86_64"
    zoo = study.model_copy(update={"scale": "zoo"})
    fake_study.write(zoo, images=4, size=33)
    again(zoo, "facts", "xception65_coco_voc_trainaug", device="NVIDIA H200")
    assert origin("xception65_coco_voc_trainaug", zoo)["Device"] == "CPU (fetching), NVIDIA H200 (evaluation)"
    assert dict(runs.provenance(zoo, [runs.describe(zoo, name) for name in zoo.runs]))["Device"] == "CPU, NVIDIA H200"
