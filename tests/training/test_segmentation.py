"""Training one run of a study: its loss and settings, fine-tuning at output stride 8, wrong starts, the messages of each."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.datasets.shards import Example, Writer
from pipeline.models import deeplab
from pipeline.study import ROOT, StudyError
from pipeline.training import checkpoint as checkpoints, segmentation
from pipeline.training.segmentation import train
from tests import changed


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The tiny scale on random squares: base (output stride 16), fine (8, from base), other (another network, from base)."""
    monkeypatch.chdir(tmp_path)
    loaded = changed.at("tiny")
    base = loaded.runs["t2-x2"]
    runs = {"base": base, "fine": base.model_copy(update={"output_stride": 8, "start": "runs/base"}),
            "other": base.model_copy(update={"low_level_channels": 8, "start": "runs/base"})}
    study = loaded.model_copy(update={"runs": runs})
    random, shards = np.random.default_rng(0), study.artifacts("shards", "voc")
    for split in ("train_aug", "val"):
        with Writer(shards / f"{split}.arrow", "voc", ["background", "a", "b"]) as writer:
            for number in range(5):
                label = random.integers(0, 3, (6, 5), np.uint8).repeat(8, 0).repeat(8, 1)
                image = 80 * label[..., None] + random.integers(0, 80, (*label.shape, 3))
                writer.add(Example(f"{split}-{number}", image.astype(np.uint8), label))
    (shards / "sheet.json").write_text("{}")
    backbone = deeplab.build(base, "resnet", study.settings.network, 3).backbone
    study.artifacts("weights", "resnet101").mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in backbone.state_dict().items()},
              study.artifacts("weights", "resnet101") / "weights.safetensors")
    return study


def trained(study, name):
    history, metrics, _ = train(study, name, study.artifacts("runs", name), study.artifacts("checkpoints"))
    assert not study.artifacts("checkpoints", f"{name}.jsonl").exists()
    assert {row[1] for row in history.rows} == {"loss", "learning_rate", "images_per_second", "miou"}
    assert 0 <= metrics["miou"] <= 100
    return load_file(study.artifacts("runs", name) / "model.safetensors")


def test_the_loss_is_cross_entropy_on_logits_resized_to_the_labels():
    """Grey levels become [-1, 1], corners stay on corners; pixels are added up, void ones left out."""
    torch.manual_seed(0)
    network, pixels, labels = nn.Conv2d(3, 4, 1, stride=4), torch.randint(256, (2, 3, 17, 13)).float(), torch.randint(4, (2, 17, 13))
    labels[:, :3] = 255
    logits = F.interpolate(network((pixels - 127.5) / 127.5), (17, 13), mode="bilinear", align_corners=True)
    valid = labels != 255
    expected = -logits.log_softmax(1).gather(1, labels.where(valid, 0)[:, None])[:, 0][valid].sum()
    torch.testing.assert_close(segmentation.loss_of(network, pixels, labels), expected)


def test_what_a_run_and_its_settings_say_reaches_the_training(study, monkeypatch):
    """Learning rates, decays, seeds, crops, splits, optimiser, this process's share: as `fit` is given them."""
    seen = {}
    monkeypatch.setattr(segmentation, "adapt", lambda model, training: seen.update(adapted=training))
    monkeypatch.setattr(segmentation.distributed, "rank", lambda: 1)
    monkeypatch.setattr(segmentation.distributed, "world", lambda: 2)

    def fit(model, learner, crops, loss_of, validate, *_):
        seen.update(model=model, learner=type(learner), groups=learner.param_groups, crops=crops, validate=validate)
        raise InterruptedError
    monkeypatch.setattr(segmentation, "fit", fit)
    monkeypatch.setattr(segmentation, "progress_miou", lambda model, stride, shard, *given: (stride, shard.ids[0], *given))
    voc, backbone = study.settings.voc, study.backbones["resnet101"].model_copy(update={"weight_decay": 0.03, "batch_norm_decay": 0.6})
    own = voc.train.model_copy(update={"last_layer_gradient_multiplier": 10.0, "batch_norm_decay": 0.7, "steps": 900, "crop": 41, "optimiser": "adamw"})
    scored = voc.evaluate.model_copy(update={"classes": ("b",)})
    told = changed.dataset(study, "voc", train=own, evaluate=scored).model_copy(update={
        "backbones": study.backbones | {"resnet101": backbone},
        "runs": {f"seed-{seed}": study.runs["base"].model_copy(update={"seed": seed, "output_stride": 32}) for seed in (0, 1)}})

    def started(seed):
        with pytest.raises(InterruptedError):
            train(told, f"seed-{seed}", told.artifacts("runs", f"seed-{seed}"), told.artifacts("checkpoints"))
        return dict(seen)
    found, again, other = started(0), started(0), started(1)
    where = {id(each): (group["weight_decay"], group["multiplier"]) for group in found["groups"] for each in group["params"]}
    model = found["model"]
    assert where[id(model.logits.weight)] == (0.03, 10) and where[id(model.logits.bias)] == (0, 20)
    assert where[id(model.backbone.block1[0].conv1.conv.weight)] == (0.03, 1)
    assert model.backbone.block1[0].conv1.bn.momentum == pytest.approx(0.4) and model.aspp.project.bn.momentum == pytest.approx(0.3)
    assert found["adapted"] == own and found["learner"] is torch.optim.AdamW and found["crops"].mine == slice(1, None, 2)
    assert found["crops"].crop == 41 and found["crops"].batch == own.batch and found["crops"].ids[0] == "train_aug-0"
    assert found["validate"]() == (32, "val-0", scored.canvas, voc.evaluate_batch, segmentation.VALIDATION_IMAGES, [2])
    assert torch.equal(again["model"].logits.weight, model.logits.weight)
    assert not torch.equal(other["model"].logits.weight, model.logits.weight), "new layers begin by the seed"
    assert not torch.equal(other["crops"]()[0], found["crops"]()[0]), "and so does the order of the images"


def test_the_step_that_the_docs_take_by_hand_is_a_trainings_first(study):
    told = changed.training(study, "voc", steps=1, validate_every=1).model_copy(update={"runs": {"t2-x2": study.runs["base"]}})
    documented = (ROOT / "docs/python.md").read_text()
    block = next(block for block in documented.split("```python\n") if "optimiser.step()" in block.partition("```")[0])
    exec(block.partition("```")[0], here := {"study": told, "torch": torch})
    history, *_ = train(told, "t2-x2", told.artifacts("runs", "t2-x2"), told.artifacts("checkpoints"))
    assert [row[2] for row in history.rows if row[1] == "loss"] == [pytest.approx(here["loss"].item())]
    torch.testing.assert_close(dict(here["model"].state_dict()), load_file(told.artifacts("runs", "t2-x2") / "model.safetensors"))
    assert here["model"].logits.bias.detach().abs().max() > 1e-3, "it is learnt from zero, twice as fast as weights"


def test_fine_tuning_at_output_stride_8_trains_all_but_batch_norm(study):
    base, fine = trained(study, "base"), trained(study, "fine")
    norms = {name for name in base if name.endswith("num_batches_tracked")}
    parts = ("num_batches_tracked", "running_mean", "running_var", "weight", "bias")
    frozen = {name.replace("num_batches_tracked", part) for name in norms for part in parts}
    assert len(frozen) > 100 and all(torch.equal(base[name], fine[name]) for name in frozen)
    assert not any(torch.equal(base[name], fine[name]) for name in base.keys() - frozen)


def test_without_fine_tune_batch_norm_the_backbone_keeps_its_own_and_the_new_layers_learn_theirs(study):
    start = load_file(study.artifacts("weights", "resnet101") / "weights.safetensors")
    base = trained(changed.training(study, "voc", fine_tune_batch_norm=False), "base")
    norms = {name.removesuffix(".num_batches_tracked") for name in start if name.endswith("num_batches_tracked")}
    assert len(norms) > 20
    for name, value in start.items():
        assert torch.equal(base[f"backbone.{name}"], value) == (name.rpartition(".")[0] in norms), name
    assert base["aspp.project.bn.num_batches_tracked"] == study.settings.voc.train.steps


def test_a_run_trains_with_the_settings_that_its_recipe_names(study):
    """The paper's way to the test server, at scale tiny: from a trained run, at output stride 8, on trainval, at a rate of its own."""
    trained(study, "base")
    own = study.settings.voc.train.model_copy(update={"split": "val", "learning_rate": 1e-4, "steps": 3, "validate_every": 3})
    server = study.runs["fine"].model_copy(update={"recipe": "trainval"})
    told = changed.dataset(study, "voc", trainval=own).model_copy(update={"runs": study.runs | {"server": server}})
    assert told.training("server") == own and told.skipped("server") is None
    history, *_ = train(told, "server", told.artifacts("runs", "server"), told.artifacts("checkpoints"))
    assert [row[2] for row in history.rows if row[1] == "learning_rate"] == [pytest.approx(1e-4 * (1 / 3) ** 0.9)]


def test_a_recipe_that_the_scale_does_not_have_is_a_reason_to_skip():
    at = {scale: changed.at(scale) for scale in ("tiny", "miniature", "paper")}
    for scale in ("tiny", "miniature"):
        assert f"no scales.{scale}.voc.trainval" in at[scale].skipped("t6-test")
        assert at[scale].training("t5-coco") == at[scale].training("t5-sc") and at[scale].skipped("t5-coco") is None
    fine, server = at["paper"].training("t5-coco"), at["paper"].training("t6-test")
    assert (fine.learning_rate, fine.split) == (1e-4, "train_aug") and (server.learning_rate, server.split) == (1e-4, "trainval")


def test_a_checkpoint_belongs_to_settings_data_start_and_code(study, monkeypatch):
    """Whatever of them is changed after a training was interrupted, the training begins anew."""
    seen = []

    def checkpoint(path, inputs):
        seen.append(inputs)
        raise InterruptedError
    monkeypatch.setattr(segmentation, "Checkpoint", checkpoint)

    def inputs(told):
        with pytest.raises(InterruptedError):
            train(told, "base", told.artifacts("runs", "base"), told.artifacts("checkpoints"))
        return seen[-1]
    first = inputs(study)
    assert inputs(study) == first
    backbone = study.backbones["resnet101"]
    for change in ({"weight_decay": 0.5}, {"batch_norm_decay": 0.5}):
        assert inputs(study.model_copy(update={"backbones": study.backbones | {"resnet101": backbone.model_copy(update=change)}})) != first
    network = study.settings.network.model_copy(update={"atrous_rates": (1, 2, 3)})  # whose weights would fit
    scored = study.settings.voc.evaluate.model_copy(update={"classes": ("a", "b")})  # the curve would be of both
    for told in (changed.training(study, "voc", crop=17), changed.scale(study, network=network), changed.dataset(study, "voc", evaluate=scored)):
        assert inputs(told) != first
    sizes = study.settings.network.backbones
    others = study.settings.network.model_copy(update={"backbones": sizes | {"xception65": sizes["xception71"]}})
    assert inputs(changed.scale(study, network=others)) == first, "another backbone is not this run's"
    (study.artifacts("shards", "voc") / "sheet.json").write_text('{"digest": 1}')
    other = inputs(study)
    assert other != first
    start = study.artifacts("weights", "resnet101") / "weights.safetensors"
    save_file({name: value + 1 for name, value in load_file(start).items()}, start)
    assert len({first, other, inputs(study)}) == 3
    monkeypatch.setattr(checkpoints, "__file__", str(study.artifacts("weights", "x")))  # a folder with other code
    assert len({*seen, inputs(study)}) == len(set(seen)) == 9


def test_a_start_that_is_another_network_is_refused(study):
    trained(study, "base")
    with pytest.raises(StudyError, match=r"starts from runs/base, whose network is another one, or of another size; these tensors differ: decoder\."):
        trained(study, "other")


def test_weights_of_a_backbone_of_another_size_are_refused(study):
    start = study.artifacts("weights", "resnet101") / "weights.safetensors"
    weights = load_file(start)
    name = next(name for name, value in weights.items() if value.dim() == 4)
    save_file(weights | {name: weights[name][:1].contiguous()}, start)
    with pytest.raises(StudyError, match=f"starts from weights/resnet101, whose network is .* of another size; these tensors differ: {name}"):
        trained(study, "base")
    start.write_bytes(start.read_bytes()[:-1])
    with pytest.raises(StudyError, match="weights.safetensors is damaged .*: delete it; make study"):
        trained(study, "base")
