"""make doctor: what is missing is said with what to do."""
import os

import pytest
import typer

from pipeline import study as studies, written
from pipeline.doctor import calibration, findings, forecast
from pipeline.doctor.calibration import Rate
from pipeline.models import device as devices
from pipeline.schema import Archive, Generate, Source
from pipeline.study import StudyError
from stages import doctor
from tests import changed


@pytest.fixture(scope="module")
def tiny() -> studies.Study:
    return changed.at("tiny")


def of_data(study):
    return {finding.what: finding for finding in findings.data(study)}


def of_machine(study, rates=None, seconds=10):
    """For one run of `study`."""
    return {finding.what: finding for finding in findings.machine(changed.of_runs(study, "t2-x2"), 0, rates or {}, 2, seconds)}


def test_data_that_are_missing_are_named_with_what_to_do(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    study = changed.dataset(changed.dataset(tiny, "voc", source=Source(folder="~nobody-of-that-name/a")), "coco", source=None)
    archive = Archive(name="gtFine.zip", mirrors=("https://www.cityscapes-dataset.com/x",), size=2 * 10 ** 9)
    study = changed.dataset(study, "cityscapes", source=Source(archives=(archive,)))
    found = of_data(study)
    assert {name: finding.state for name, finding in found.items()} == {
        "voc": "missing", "coco": "left out", "cityscapes": "missing", "imagenet": "OK"}
    assert "scales.tiny.voc.source" in found["voc"].advice and "scales.tiny.coco.source" in found["coco"].advice
    assert "without 3 of the runs" in found["coco"].advice, "coco-x65 and those that start from it"
    assert "CITYSCAPES_USERNAME" in found["cityscapes"].advice and "2.0 GB" in found["cityscapes"].here
    monkeypatch.setenv("CITYSCAPES_USERNAME", "me")
    monkeypatch.setenv("CITYSCAPES_PASSWORD", "secret")
    login = of_data(study)["cityscapes"]
    assert login.state == "OK" and "secret" not in str(login)
    (tmp_path / "artifacts/archives").mkdir(parents=True)
    (tmp_path / "artifacts/archives/gtFine.zip").touch()
    assert of_data(study)["cityscapes"].here == "archives are here"


@pytest.mark.parametrize("optional, second, state", [
    (False, [], "missing"), (True, [], "OK"), (False, ["http://b/a.zip"], "OK"), (False, ["http://b/a.zip?k=${KEY}"], "missing")])
def test_a_login_that_is_not_in_the_environment_is_named(tiny, tmp_path, monkeypatch, optional, second, state):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEY", raising=False)
    archive = Archive(name="a.zip", mirrors=("http://me:${KEY}@a/a.zip", *second), optional=optional)
    finding = findings.data(changed.dataset(tiny, "voc", source=Source(archives=(archive,))))[0]
    assert finding.state == state and ("set KEY in" in finding.advice) == (state == "missing")
    monkeypatch.setenv("KEY", "s3cret")
    finding = findings.data(changed.dataset(tiny, "voc", source=Source(archives=(archive,))))[0]
    assert finding.state == "OK" and "s3cret" not in str(finding)


@pytest.mark.parametrize("addresses, state, said", [
    (["~/my set.tar"], "OK", "archives are here"), (["file://{}/my%20set.tar"], "OK", "archives are here"),
    (["/nowhere/set.tar"], "missing", "there is no /nowhere/set.tar"), (["file://{}/my%20sat.tar"], "missing", "/my sat.tar"),
    (["/nowhere/set.tar", "http://b/set.tar"], "OK", "to be fetched: 1 archive"), ([], "missing", "no mirror: put set.tar into artifacts/archives")])
def test_archives_on_this_machine_are_there_or_missing(tiny, tmp_path, monkeypatch, addresses, state, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my set.tar").touch()
    archive = Archive(name="set.tar", mirrors=tuple(address.format(tmp_path) for address in addresses))
    finding = findings.data(changed.dataset(tiny, "voc", source=Source(archives=(archive,))))[0]
    assert finding.state == state and said in finding.here + finding.advice
    optional = archive.model_copy(update={"optional": True})
    assert findings.data(changed.dataset(tiny, "voc", source=Source(archives=(optional,))))[0].state == "OK"


def test_published_networks_are_named_and_data_of_no_use_are_not(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prefix, archive = "mobilenetv2_coco_voc_trainaug", "mobilenetv2_dm05_coco_voc_trainaug"
    (tmp_path / "model.ckpt-5.index").touch()
    runs = tiny.runs | {prefix: tiny.runs[prefix].model_copy(update={"published": "model.ckpt-5"}),
                        archive: tiny.runs[archive].model_copy(update={"published": "~nobody-of-that-name/x.tar.gz"})}
    found = of_data(tiny.model_copy(update={"scale": "zoo", "runs": runs}))
    assert "coco" not in found and "imagenet" not in found
    assert "3 of the runs" in found["cityscapes"].advice  # the zoo's
    assert found[f"published {prefix}"].state == "OK" and "fetched" in found["published xception65_coco_voc_trainaug"].here
    (tmp_path / "artifacts/archives").mkdir(parents=True)
    (tmp_path / "artifacts/archives/x.safetensors").touch()  # as the stage fetch names it
    assert found[f"published {archive}"].state == "missing" and f"zoo.{archive}.published" in found[f"published {archive}"].advice
    runs[archive] = runs[archive].model_copy(update={"published": "https://me:${KEY}@a/b/x.safetensors?download=true"})
    assert of_data(tiny.model_copy(update={"scale": "zoo", "runs": runs}))[f"published {archive}"].here == "archives are here"


def test_too_little_disk_or_memory_is_missing_and_says_how_much(tiny):
    large = changed.dataset(tiny, "voc", source=Source(generate=Generate(train=10 ** 9, val=1, size=513, seed=0)))
    machine = of_machine(large, {"x": Rate(1, 1, 1e15)})
    assert machine["disk"].state == "missing" and "GB needed" in machine["disk"].here and machine["disk"].advice
    assert machine["memory"].state == "missing"


def test_a_gpu_that_torch_cannot_use_is_named(tiny, monkeypatch):
    """NVML counts it, CUDA does not start: a driver too old. The study must not run on the CPU for months."""
    import torch
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(findings, "_driver", lambda: True)
    for stage in (devices.pick, lambda: calibration.measure(tiny, 1)):
        with pytest.raises(StudyError, match="1 GPUs are here, but torch cannot use them"):
            stage()
    found = of_machine(tiny)["GPU"]
    assert found.state == "missing" and "torch does not" in found.here


@pytest.mark.parametrize("visible, state", [(None, "missing"), ("0", "missing"), ("", "OK"), ("-1", "OK"), ("NoDevFiles", "OK")])
def test_a_gpu_that_is_hidden_is_not_missed(tiny, tmp_path, monkeypatch, visible, state):
    """As these tests hide it, and those who want the CPU to compute."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert of_machine(tiny)["GPU"].state == state


def test_a_study_of_days_wants_a_gpu(tiny):
    gpu = [of_machine(tiny, {"x": Rate(1, 1, 1)}, hours * 3600)["GPU"] for hours in (1, 100)]
    assert [finding.state for finding in gpu] == ["OK", "missing"] and "4.2 days" in gpu[1].advice


def test_the_command_answers_without_any_artifact(tiny, tmp_path, monkeypatch, capsys):
    """In a folder with nothing in it; nothing is left there. Exit code 0, and 1 where something is missing."""
    few = {name: tiny.runs[name] for name in ("t2-x2", "t1-c8")}
    study = tiny.model_copy(update={"runs": few, "evaluate": {"t2-x2": ("os16",)}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "CALIBRATION", 0.5)
    monkeypatch.setattr(studies, "load", lambda: study)
    doctor.main()
    said = capsys.readouterr().out
    assert "The study takes about" in said and "seconds" in said and "missing" not in said
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(studies, "load", lambda: changed.dataset(study, "voc", source=Source(folder="nowhere")))
    with pytest.raises(typer.Exit) as stop:
        doctor.main()
    assert stop.value.exit_code == 1
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "missing" in line] == [["voc", "missing"]]


def test_another_scale_is_looked_at_and_not_chosen(monkeypatch):
    written, seen, few = (studies.ROOT / "params.yaml").read_text(), [], changed.of_runs(studies.load(), "t2-x2")
    monkeypatch.setattr(studies, "load", lambda: few)

    def measure(study, seconds):
        seen.append(study.scale)
        raise StudyError("no training here")
    monkeypatch.setattr(calibration, "measure", measure)
    with pytest.raises(typer.Exit):
        doctor.main("tiny")
    assert seen == ["tiny"] and (studies.ROOT / "params.yaml").read_text() == written
    with pytest.raises(StudyError, match="did you mean paper"):
        doctor.main("papr")


def test_every_stage_of_dvc_yaml_takes_its_start_at_least(tiny, monkeypatch):
    """Those that compute are `works`, measured; here no rate is. Three make the report."""
    params, needed = written.read(studies.ROOT / "params.yaml"), []
    each = [body["foreach"] for body in written.read(studies.ROOT / "dvc.yaml")["stages"].values() if "foreach" in body]
    stages = sum(len(items) if isinstance(items, list) else len(params[items[2:-1]]) for items in each)
    works = forecast.works(tiny)
    monkeypatch.setattr(forecast, "works", lambda study: works)
    monkeypatch.setattr(calibration, "measure", lambda *_: {})
    monkeypatch.setattr(findings, "machine", lambda study, gpus, rates, lanes, seconds: needed.append((seconds, lanes)) or [])
    doctor.main("tiny")
    seconds, lanes = needed[0]
    assert (seconds - doctor.ELSE) * lanes / doctor.STAGE == pytest.approx(stages - len(works))


def test_the_disk_is_for_archives_what_is_in_them_and_shards(tiny):
    none = findings.disk(changed.dataset(tiny, "voc", source=Source(archives=(Archive(name="a.tar", mirrors=()),))))
    some = findings.disk(changed.dataset(tiny, "voc", source=Source(archives=tuple(Archive(name=name, mirrors=(), size=10 ** 9) for name in ("a.tar", "b.tar")))))
    assert some - none == pytest.approx(2e9 * (1 + findings.KEPT * findings.UNPACKED))
    generated = findings.disk(tiny) - findings.KEPT * 6 * (8 + 4) * 49 ** 2  # tiny's VOC
    assert none - generated == pytest.approx(findings.KEPT * 0.75 * 49 * 49 * (10582 * 4 + 1449 * 5))


def test_the_disk_is_for_the_images_that_will_be_decoded(tiny, tmp_path):
    """Of a folder that has more: ImageNet's training images are ten times the rest, and nothing here sees them."""
    for split, count in (("train", 30), ("val", 3)):
        for number in range(count):
            path = tmp_path / split / f"n{number % 2}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(10 ** 6))
    paper = tiny.model_copy(update={"scale": "paper"})
    none, some = (findings.disk(changed.dataset(paper, "imagenet", source=source)) for source in (None, Source(folder=str(tmp_path))))
    assert some - none == findings.KEPT * 3 * 299 * 299 * 3
