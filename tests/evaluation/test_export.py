"""Exported networks give the labels that the network gives, at any size: torch.export and ONNX."""
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from pipeline import study as studies
from pipeline.evaluation import photos
from pipeline.evaluation.export import MAKERS, export
from pipeline.models import deeplab
from pipeline.schema import BackboneSize, Strategy
from pipeline.study import StudyError

CLASSES = [f"class-{number}" for number in range(7)]
SIZES = {"resnet101": BackboneSize(units=(2, 2, 1, 1), width=0.0625), "xception65": BackboneSize(middle=1, width=0.03125)}
PHOTOS = [(49, 65), (50, 64), (3, 40), (97, 17)]  # of the form 16k+1 and not, smaller than a canvas


@pytest.fixture(scope="module", params=[("t2-x2", 16), ("t5-nodec", 8)], ids=str)
def network(request):
    """An untrained small network whose labels vary, and its output stride."""
    study, (name, stride) = studies.load(), request.param
    run, network = study.runs[name], study.scales["tiny"].network.model_copy(update={"backbones": SIZES})
    torch.manual_seed(0)
    model = deeplab.build(run, study.backbones[run.backbone].family, network, len(CLASSES), stride)
    with torch.inference_mode():
        model.eval().logits.weight /= model(torch.randn(1, 3, 49, 65)).std()  # untrained logits are so small that all classes tie
    return model.to(memory_format=torch.channels_last), stride


def check(network, labels_of):
    """labels_of(image (1, H, W, 3) uint8 array) -> (1, H, W): against what photos are labelled with."""
    model, stride = network
    rng, seen = np.random.default_rng(0), set()
    for size in PHOTOS:
        image = rng.integers(0, 256, (1, *size, 3)).astype(np.uint8)
        expected = photos.label({stride: model}, image[0], Strategy(output_stride=stride, scales=(1.0,), flip=False), 1000)
        found = labels_of(image)
        assert found.dtype == np.uint8 and np.array_equal(found[0], expected), size
        seen |= set(np.unique(found))
    assert len(seen) > 1  # or a constant would pass


@pytest.mark.filterwarnings("error")
def test_torch_export(tmp_path, network):
    export(network[0], CLASSES, tmp_path / "x.pt2")
    extra = {"classes.json": ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=extra).module()
    assert json.loads(extra["classes.json"]) == CLASSES
    check(network, lambda image: program(torch.from_numpy(image)).numpy())


@pytest.mark.skipif(any(find_spec(name) is None for name in (*MAKERS["onnx"], "onnxruntime")),
                    reason="ONNX not checked: that takes the packages onnx, onnxscript and onnxruntime")
def test_onnx(tmp_path, network):
    import onnxruntime
    export(network[0], CLASSES, tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES
    check(network, lambda image: session.run(["labels"], {"image": image})[0])


def test_without_the_packages_for_onnx_it_says_which(tmp_path, monkeypatch):
    monkeypatch.setitem(MAKERS, "onnx", ("onnx", "no_such_package"))
    with pytest.raises(StudyError, match="x.onnx not written.*no_such_package"):
        export(torch.nn.Identity(), CLASSES, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
