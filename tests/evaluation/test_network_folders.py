"""The folder of a network, as predict and export take it: what one hands over, and what is said of one that is none."""
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline import records, study as studies
from pipeline.evaluation import trained
from pipeline.study import StudyError
from stages import export, predict


def call(network, strategy=None, out=None):
    predict.main(str(network), [Path("a.png")], out, strategy, None)


def test_wrong_names_and_folders_say_what_to_do(folder):
    with pytest.raises(StudyError, match="nowhere is no folder and no run"):
        call("nowhere")
    Path("file").touch()
    with pytest.raises(StudyError, match="--out file is a file: name a folder"):
        call(folder, out=Path("file"))
    with pytest.raises(StudyError, match="did you mean os16"):
        call(folder, strategy="os61")
    Path("other.safetensors").write_bytes((folder / records.MODEL).read_bytes())
    with pytest.raises(StudyError, match="other.safetensors: name the folder that a training left, or the model.safetensors in it"):
        call("other.safetensors")
    with pytest.raises(StudyError, match="t2-x2 holds no trained network.*make study"):
        call("t2-x2")
    for content in (b"", (folder / records.MODEL).read_bytes()[:-5]):
        (folder / records.MODEL).write_bytes(content)
        with pytest.raises(StudyError, match="model.safetensors holds no network of this study"):
            call(folder)
    (folder / records.MODEL).unlink()
    with pytest.raises(StudyError, match="holds no network: model.safetensors is missing"):
        call(folder)
    records.write(folder, status="skipped", reason="no voc data at this scale")
    with pytest.raises(StudyError, match="holds no network: no voc data at this scale"):
        call(folder)
    with pytest.raises(StudyError, match="--output-stride is 8, 16 or 32, got 4"):
        export.main(str(folder), Path(), [export.Kind.pt2], 4)


@pytest.mark.parametrize("section, key, value, said", [
    ("run", "low_level_channels", 8, "net: its weights, model.safetensors, do not fit its record.json"),
    ("run", "decoder", "none", "do not fit its record.json"),
    ("network", "width", 1e9, "do not fit its record.json"),
    *(("training", "crop", crop, "net holds no trained network: record.json cannot be used .crop is .*no whole number above 16")
      for crop in ("x", -5, 16, 33.0))])
def test_a_record_that_is_not_of_these_weights_is_refused(folder, section, key, value, said):
    record = records.read(folder)
    record["params"][section][key] = value
    records.write(folder, **record)
    Image.new("RGB", (61, 40)).save("a.png")
    for command in (lambda: call(folder), lambda: export.main(str(folder), Path(), [export.Kind.pt2], None)):
        with pytest.raises(StudyError, match=said):
            command()


def test_export_hands_over_the_network_at_the_output_stride_that_was_asked_for(folder, monkeypatch, capsys):
    import pipeline.evaluation.export as module
    handed = []
    monkeypatch.setattr(module, "traced", lambda network: network)
    monkeypatch.setattr(module, "write", lambda *arguments: handed.append(arguments))
    export.main(str(folder), Path("out"), list(export.Kind), 8)
    assert [path for *_, path in handed] == [Path("out/net.pt2"), Path("out/net.onnx")]
    assert handed[0][1][15] == "person" and handed[0][2] == 65  # predict's, at the training crop of 33
    expected, x = trained.load(studies.load(), folder, {8}, torch.device("cpu"))[8], torch.randn(1, 3, 65, 65)
    with torch.inference_mode():
        assert torch.equal(handed[0][0](x), expected(x))
    assert capsys.readouterr().out == "out/net.pt2\nout/net.onnx\n"
