"""Exported networks give the labels that the network gives, at any size: torch.export and ONNX; and that predict gives, by what they say."""
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import study as studies
from pipeline.evaluation import photos
from pipeline.evaluation.export import MAKERS, traced, write
from pipeline.models import deeplab
from pipeline.schema import BackboneSize, Strategy
from pipeline.study import StudyError

DOCS = (studies.ROOT / "docs/python.md").read_text()
CLASSES = [f"class-{number}" for number in range(7)]
SIZES = {"resnet101": BackboneSize(units=(2, 2, 1, 1), width=0.0625), "xception65": BackboneSize(middle=1, width=0.03125),
         "mobilenetv2_100": BackboneSize(width=0.25)}
PHOTOS = [(49, 65), (50, 64), (3, 40), (97, 17), (2, 2)]  # of the form 16k+1 and not, smaller than a canvas
WITH_ONNX = pytest.mark.skipif(any(find_spec(name) is None for name in (*MAKERS["onnx"], "onnxruntime")),
                               reason="ONNX not checked: that takes the packages onnx, onnxscript and onnxruntime")


def small(name, stride, **changes):
    """An untrained small network of a run, whose labels vary, its output stride, and its graph."""
    study = studies.load()
    run, network = study.runs[name].model_copy(update=changes), study.scales["tiny"].network.model_copy(update={"backbones": SIZES})
    torch.manual_seed(0)
    model = deeplab.build(run, study.backbones[run.backbone].family, network, len(CLASSES), stride)
    with torch.inference_mode():
        model.eval().logits.weight /= model(torch.randn(1, 3, 49, 65)).std()  # untrained logits are so small that all classes tie
    model = model.to(memory_format=torch.channels_last)
    return model, stride, traced(model)


@pytest.fixture(scope="module", params=["t2-x2", "t5-nodec"])
def network(request):
    return small("t2-x2", 16) if request.param == "t2-x2" else small("t5-nodec", 8, dense_prediction_cell=True)


def check(network, labels_of):
    """labels_of(image (1, H, W, 3) uint8 array) -> (1, H, W): against what photos are labelled with."""
    model, stride, _ = network
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
    write(network[2], CLASSES, 193, tmp_path / "x.pt2")
    about = {"classes.json": "", "longest.json": ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=about).module()
    assert [json.loads(text) for text in about.values()] == [CLASSES, 193]
    check(network, lambda image: program(torch.from_numpy(image)).numpy())


@WITH_ONNX
def test_onnx_and_what_the_docs_do_with_it(tmp_path, network, monkeypatch):
    """docs/python.md labels a large photo, turned as EXIF says, as predict does."""
    import onnxruntime
    monkeypatch.chdir(tmp_path)
    longest = 64
    write(network[2], CLASSES, longest, Path("t2-x2.onnx"))
    session = onnxruntime.InferenceSession("t2-x2.onnx", providers=["CPUExecutionProvider"])
    check(network, lambda image: session.run(["labels"], {"image": image})[0])
    exif, documented = Image.Exif(), next(block for block in DOCS.split("```python\n") if "onnxruntime" in block.partition("```")[0])
    exif[0x0112] = 6
    for size in ((150, 77), (40, 61)):
        pixels = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save("photo.jpg", exif=exif)
        exec(documented.partition("```")[0], said := {})
        plain = Strategy(output_stride=network[1], scales=(1.0,), flip=False)
        expected = photos.label({network[1]: network[0]}, photos.read(Path("photo.jpg")), plain, longest)
        assert np.array_equal(said["labels"], expected) and expected.shape == size[::-1]
        assert said["about"] == {"classes": CLASSES, "longest": longest}


def test_the_graph_of_a_mobilenet():
    """What writes and reads it knows no backbones, and takes three times as long."""
    network = small("mobilenetv2_coco_voc_trainaug", 16)
    graph = network[2].module()
    check(network, lambda image: graph(torch.from_numpy(image)).numpy())


def test_without_the_packages_for_onnx_it_says_which(tmp_path, monkeypatch):
    monkeypatch.setitem(MAKERS, "onnx", ("onnx", "no_such_package"))
    with pytest.raises(StudyError, match="x.onnx not written.*no_such_package"):
        write(None, CLASSES, 193, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["pt2", pytest.param("onnx", marks=WITH_ONNX)])
def test_a_disk_too_full_for_a_network_is_named(tmp_path, no_room, kind):
    no_room(tmp_path / f"x.{kind}")
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/x.{kind}'"):
        write(program, CLASSES, 193, tmp_path / f"x.{kind}")
    assert not list(tmp_path.iterdir())
