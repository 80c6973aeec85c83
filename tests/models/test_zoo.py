"""Scale zoo from end to end: made-up checkpoints with the authors' names, in archives as theirs, from a local server, through the
stages download, prepare, fetch and evaluate to the rows of the table."""
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from pipeline import paper, records, study as studies
from pipeline.datasets.shards import Shard
from pipeline.evaluation import measure, metrics
from pipeline.evaluation.strategies import canvas
from pipeline.models import deeplab
from pipeline.models.layers import resize
from pipeline.models.published import tensorflow
from pipeline.paper.rows import rows
from pipeline.reporting import ledger, page, tables
from pipeline.study import StudyError
from stages import download, evaluate, fetch, predict, prepare, train
from tests.models import bundle
from tests.models.server import Server

SCOPES = {"xception": "xception_65", "mobilenet": "MobilenetV2"}
SIZES = {"xception65": {"middle": 1, "width": 0.03125}, "mobilenetv2_100": {"width": 0.25}, "mobilenetv2_050": {"width": 0.125}}
XCEPTION, MOBILENET = "xception65_coco_voc_trainaug", "mobilenetv2_coco_voc_trainaug"


def small(address, **scale):
    """params.yaml at scale zoo: networks of the same shape but narrow, few and small made pictures, archives from `address`."""
    raw = yaml.safe_load((studies.ROOT / "params.yaml").read_text())
    raw |= {"scale": "zoo"}
    zoo = raw["scales"]["zoo"]
    zoo["network"] = {"width": 0.0625, "atrous_rates": [1, 2, 3], "backbones": SIZES}
    zoo["voc"] = {"source": {"generate": {"train": 2, "val": 3, "size": 49, "seed": 1}}, "train": None,
                  "evaluate": {"split": "val", "canvas": [49, 49]}, "evaluate_batch": 2}
    zoo |= scale
    for run in raw["zoo"].values():
        run["published"] = f"{address}/{run['published'].rpartition('/')[2]}"
    return studies.Study.model_validate(raw)


def variables_of(study, name):
    """The authors' variables of a run's network, from a seed; with what else is in their checkpoints."""
    run = study.runs[name]
    family = study.backbones[run.backbone].family
    network = deeplab.build(run, family, study.settings.network, 19 if run.dataset == "cityscapes" else 21)
    found = bundle.variables_of(network, SCOPES[family], seed=len(name))
    found |= {f"{theirs}/Momentum": np.zeros_like(value) for theirs, value in found.items() if theirs.endswith("weights")}
    return found | {"global_step": np.array(30000, np.int64)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which the published networks of VOC were fetched and evaluated."""
    home = tmp_path_factory.mktemp("zoo")
    (home / "models").mkdir()
    server = Server(home / "models")
    study = small(server.url)
    for name in (XCEPTION, MOBILENET):
        archive = study.runs[name].published.rpartition("/")[2]
        bundle.archive(home / "models" / archive, variables_of(study, name), archive.split(".")[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(studies, "load", lambda: study)
        for dataset in ("voc", "cityscapes"):
            download.main(dataset)
            prepare.main(dataset)
        for name in (XCEPTION, MOBILENET, "xception65_cityscapes_trainfine"):
            fetch.main(name)
            evaluate.main(name, bf16=False)
    yield home
    server.shutdown()


@pytest.fixture
def study(home, monkeypatch):
    monkeypatch.chdir(home)
    study = small("http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(studies, "load", lambda: study)
    return study


def test_a_published_network_is_a_run_like_any_other(study):
    record = records.read(study.artifacts("runs", XCEPTION))
    assert not record["provenance"], "what is fetched again is the same to the evaluations"
    assert record["status"] == "done" and record["params"]["run"]["published"].endswith("deeplabv3_pascal_train_aug_2018_01_04.tar.gz")
    state, variables = load_file(study.artifacts("runs", XCEPTION) / "model.safetensors"), variables_of(study, XCEPTION)
    kernel = variables["decoder/decoder_conv1_depthwise/depthwise_weights"]
    assert np.array_equal(state["decoder.refine.conv2.1.depthwise.conv.weight"][3, 0].numpy(), kernel[:, :, 3, 0])
    assert np.array_equal(state["logits.bias"].numpy(), variables["logits/semantic/biases"])
    assert record["metrics"]["parameters"] == sum(value.size for name, value in variables.items()
                                                  if not name.endswith(("Momentum", "moving_mean", "moving_variance", "global_step")))


@pytest.mark.parametrize("name", [XCEPTION, MOBILENET])
@torch.inference_mode()
def test_its_scores_are_those_of_the_checkpoints_network(study, name):
    run, shard = study.runs[name], Shard(study.artifacts("shards", "voc") / "val.arrow")
    network = deeplab.build(run, study.backbones[run.backbone].family, study.settings.network, 21).eval()
    tensorflow.load(network, variables_of(study, name))
    confusion = np.zeros((21, 21), np.int64)
    for example in (shard[number] for number in range(len(shard))):
        logits = resize(network(canvas([example.image], (49, 49), torch.device("cpu"))), (49, 49))
        found = logits[0, :, :example.label.shape[0], :example.label.shape[1]].argmax(0).numpy()
        valid = example.label != 255
        np.add.at(confusion, (example.label[valid], found[valid]), 1)
    facts = metrics.Facts.read(study.artifacts("facts", name) / "facts.parquet")
    assert len(np.unique(confusion.nonzero()[1])) > 1, "a network that says one class only shows nothing"
    assert np.array_equal(metrics.confusion(facts, "os16", 21), confusion)
    assert set(study.evaluate[name]) == {"os16", "os8-ms-flip"}
    assert not np.array_equal(metrics.confusion(facts, "os8-ms-flip", 21), confusion)


def test_mobilenets_of_the_zoo_have_neither_atrous_branches_nor_a_decoder(study):
    names = set(load_file(study.artifacts("runs", MOBILENET) / "model.safetensors"))
    assert {name.split(".")[1] for name in names if name.startswith("aspp.")} == {"image", "point", "project"}
    assert not any(name.startswith("decoder.") for name in names)


def test_what_has_no_data_says_so(study):
    for kind in ("runs", "facts"):
        record = records.read(study.artifacts(kind, "xception65_cityscapes_trainfine"))
        assert record["status"] == "skipped" and "scales.zoo.cityscapes.source" in record["reason"]


@pytest.fixture
def lines(study):
    """The rows of the table, measured without MLflow between."""
    measured = {("zoo", row.key): {"metrics": measure.scores(study, row.run, row.strategy)} for row in rows(study)["zoo"]
                if measure.status(study, row) == "measured"}
    return tables.build(study, measured)["zoo"].to_pylist()


def test_the_table_lays_ours_beside_the_published_numbers(study, lines):
    assert [(line["model"], line["miou_paper"], line["madds_paper"]) for line in lines] == [
        (row["model"], row["miou"], row["madds"]) for row in paper.tables()["zoo"].rows]
    ours = {(line["model"], line["strategy"]): line for line in lines if line["miou"] is not None}
    assert set(ours) == {(name, strategy) for name in (XCEPTION, MOBILENET) for strategy in ("os16", "os8-ms-flip")}
    assert ours[XCEPTION, "os8-ms-flip"]["label"] == f"{XCEPTION}, eval OS 8, MS, Flip"
    reasons = {line["model"]: line["status"] for line in lines}
    assert "scales.zoo.cityscapes.source" in reasons["xception65_cityscapes_trainfine"]
    assert "has not been run" in reasons["mobilenetv2_dm05_coco_voc_trainaug"]
    assert "test server" in reasons["xception65_coco_voc_trainval"]
    assert "zoo" not in tables.build(study.model_copy(update={"scale": "miniature"}), {})  # it belongs to scales that train nothing


def test_the_report_shows_it(study, lines):
    measured = {("zoo", f"{line['run']}/{line['strategy']}"): {"metrics": {"miou": line["miou"]}} for line in lines
                if line["miou"] is not None}
    tables.save(tables.build(study, measured) | {"claims": ledger.build(study)})
    page.write(study)
    html = Path("reports/index.html").read_text()
    shown = html[html.index('<section id="zoo"'):]
    shown = shown[:shown.index("</table>")]
    first = next(line for line in lines if line["model"] == XCEPTION)
    for words in ("Model zoo", XCEPTION, "82.20", "54.17", f"{first['miou']:.2f}", "scales.zoo.cityscapes.source", "test server"):
        assert words in shown
    assert f"| {XCEPTION} | VOC val | 16 |" in Path("reports/README.md").read_text()
    assert Path("reports/tables/zoo.csv").exists()


def test_it_labels_photos(study, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    predict.main(MOBILENET, [tmp_path / "photo.png"], tmp_path / "out", None, None)
    assert Image.open(tmp_path / "out" / "photo.labels.png").size == (60, 40)


def test_an_archive_that_cannot_be_had_and_one_that_does_not_fit(study, home, monkeypatch):
    monkeypatch.setattr("pipeline.datasets.mirrors.PAUSE", 0)
    with pytest.raises(StudyError, match="127.0.0.1:9/deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01.tar.gz"):
        fetch.main("mobilenetv2_dm05_coco_voc_trainaug")
    variables = variables_of(study, XCEPTION)
    del variables["aspp0/weights"]
    bundle.write(home / "odd" / "model.ckpt", variables | {"aspp4_depthwise/depthwise_weights": np.zeros((3, 3, 8, 1), "f")})
    odd = study.runs[XCEPTION].model_copy(update={"published": str(home / "odd")})
    monkeypatch.setattr(studies, "load", lambda: study.model_copy(update={"runs": study.runs | {XCEPTION: odd}}))
    with pytest.raises(StudyError, match="(?s)missing: aspp0/weights.*left over: aspp4_depthwise/depthwise_weights"):
        fetch.main(XCEPTION)


def test_stages_that_are_not_for_it_say_which_one_is(study):
    with pytest.raises(StudyError, match=f"python -m stages.fetch {XCEPTION}"):
        train.main(XCEPTION)
    with pytest.raises(StudyError, match="no published network 't2-x2'"):
        fetch.main("t2-x2")
