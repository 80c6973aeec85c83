"""Pretraining on ImageNet: what is drawn, what the settings say, what counts as an error."""
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.datasets.shards import Example
from pipeline.study import StudyError
from pipeline.training import classification
from tests import changed
from tests.shards import shard


def test_pictures_are_shifted_by_up_to_an_eighth_and_every_other_is_flipped():
    images, seen = torch.arange(5. * 3 * 16 * 16).view(5, 3, 16, 16) + 1, Counter()
    padded = F.pad(images, (2, 2, 2, 2))
    stream = classification.Pictures(images, torch.arange(5) + 10, list("abcde"), 50, seed=0)
    for _ in range(40):
        batch, targets, numbers = stream()
        assert targets.tolist() == [number + 10 for number in numbers]
        for picture, number in zip(batch, numbers):
            found = [(top, left, flip) for top in range(5) for left in range(5) for flip in (False, True)
                     if torch.equal(picture.flip(-1) if flip else picture, padded[number, :, top:top + 16, left:left + 16])]
            assert len(found) == 1
            seen.update(found)
    assert len(seen) == 50 and min(seen.values()) > 15  # 2,000 pictures, so 40 each


def test_processes_share_the_pictures_that_one_would_have_drawn():
    images = torch.arange(5. * 3 * 16 * 16).view(5, 3, 16, 16)
    whole, *shares = (classification.Pictures(images, torch.arange(5), list("abcde"), 6, 0, *which) for which in ((), (0, 2), (1, 2)))
    for _ in range(3):
        batch, targets, numbers = whole()
        for rank, share in enumerate(shares):
            some, their, drawn = share()
            assert torch.equal(some, batch[rank::2]) and torch.equal(their, targets[rank::2]) and drawn == numbers


def test_pictures_resume_exactly():
    images = torch.arange(5. * 3 * 16 * 16).view(5, 3, 16, 16)
    stream, again = (classification.Pictures(images, torch.arange(5), list("abcde"), 4, seed) for seed in (0, 1))
    for _ in range(3):
        stream()
    state, later = stream.state(), [stream() for _ in range(4)]
    again()
    again.resume(state)
    for pictures, targets, numbers in later:
        batch, their, drawn = again()
        assert torch.equal(batch, pictures) and torch.equal(their, targets) and drawn == numbers


def test_what_the_settings_say_reaches_the_pretraining(tmp_path, monkeypatch):
    """Learning rates, decays, splits, optimiser, this process's share: as `fit` is given them."""
    monkeypatch.chdir(tmp_path)
    seen, told = {}, changed.training(changed.at("tiny"), "imagenet", last_layer_gradient_multiplier=10.0, batch_norm_decay=0.7,
                                      steps=900, optimiser="adamw")
    family = told.backbones["resnet101"].model_copy(update={"weight_decay": 0.03, "batch_norm_decay": 0.6})
    study = told.model_copy(update={"backbones": told.backbones | {"resnet101": family}})
    imagenet = study.settings.imagenet
    own = imagenet.train
    shards = study.artifacts("shards", "imagenet")
    for split, value in ((own.split, 0), (imagenet.evaluate.split, 255)):
        pictures = [Example(f"{split}-{number}", np.full((33, 33, 3), value, np.uint8), target=number) for number in range(8)]
        shard(shards / f"{split}.arrow", pictures, "abcdefgh", "imagenet")
    (shards / "sheet.json").write_text("{}")

    def fit(model, learner, pictures, loss_of, validate, *_):
        seen.update(model=model, learner=type(learner), groups=learner.param_groups, pictures=pictures, validate=validate)
        raise InterruptedError
    monkeypatch.setattr(classification, "fit", fit)
    monkeypatch.setattr(classification, "adapt", lambda model, training: seen.update(adapted=training))
    monkeypatch.setattr(classification.distributed, "rank", lambda: 1)
    monkeypatch.setattr(classification.distributed, "world", lambda: 2)
    monkeypatch.setattr(classification, "errors", lambda model, images, targets, batch: (images.unique().tolist(), targets.tolist()))
    with pytest.raises(InterruptedError):
        classification.pretrain(study, "resnet101", tmp_path / "out", tmp_path / "checkpoints")
    for settings, said in (({"crop": 17}, "crop: .* whole pictures, here of 33 .* crops of 17"),
                           ({"fine_tune_batch_norm": False}, "fine_tune_batch_norm: .* no statistics to keep")):
        with pytest.raises(StudyError, match=f"scales.tiny.imagenet.train.{said}"):
            classification.pretrain(changed.training(study, "imagenet", **settings), "resnet101", tmp_path / "out", tmp_path / "checkpoints")
    assert seen["adapted"] == own and seen["learner"] is torch.optim.AdamW and seen["pictures"].mine == slice(1, None, 2)
    where = {id(each): (group["weight_decay"], group["multiplier"]) for group in seen["groups"] for each in group["params"]}
    model = seen["model"]
    assert where[id(model.fc.weight)] == (0.03, 10) and where[id(model.fc.bias)] == (0, 20)
    assert model.backbone.conv1[0].bn.momentum == pytest.approx(0.4)
    assert seen["pictures"].padded.unique().tolist() == [-1, 0] and seen["pictures"].batch == own.batch
    assert seen["validate"]() == ([1], list(range(8)))


def test_top_5_counts_a_picture_whose_class_is_among_five():
    scores = torch.tensor([[6., 5, 4, 3, 2, 1]]).expand(6, 6)
    found = classification.errors(nn.Identity(), scores, torch.arange(6), batch=4)
    assert found == pytest.approx({"top1_error": 100 * 5 / 6, "top5_error": 100 / 6})


def test_pictures_that_are_too_many_at_a_time_say_what_to_lower():
    def full(pictures):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(StudyError, match="out of memory. Lower evaluate_batch"):
        classification.errors(full, torch.zeros(4, 3, 9, 9), torch.zeros(4), 2)
