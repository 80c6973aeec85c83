"""Where the numbers come from: what the report sums up from the records, and the digest of dvc.lock."""
import pytest
import yaml

from pipeline import records, study as studies
from pipeline.reporting import runs
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
