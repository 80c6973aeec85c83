"""mIOU from the facts against the official Cityscapes scorer, on small images in the official files' form."""
import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.datasets import cityscapes, native
from pipeline.evaluation import facts, metrics


@pytest.fixture
def scorer():
    with contextlib.redirect_stdout(io.StringIO()):
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
    args = evalPixelLevelSemanticLabeling.args
    args.evalInstLevelScore = args.evalPixelAccuracy = args.JSONOutput = False
    args.quiet = True
    return evalPixelLevelSemanticLabeling


@pytest.mark.parametrize("absent", [(), (3, 16)], ids=["19 classes", "17 of them"])
def test_every_class_and_the_mean_are_the_official_scorers(tmp_path, scorer, absent):
    from cityscapesscripts.helpers.labels import labels, trainId2label
    rng, ids = np.random.default_rng(len(absent)), [each.id for each in labels if each.id >= 0 and each.trainId not in absent]
    seen, tables, pairs = [number for number in range(19) if number not in absent], [], []
    id_of = np.array([trainId2label[number].id for number in range(19)], np.uint8)
    for number in range(5):
        truth = rng.choice(ids, (32, 64)).astype(np.uint8)
        target = cityscapes.train_ids()[truth]
        guess = rng.choice(seen, target.shape).astype(np.uint8)
        prediction = np.where((rng.random(target.shape) < 0.6) & (target != 255), target, guess)
        pairs.append((tmp_path / f"{number}.png", tmp_path / f"{number}_gtFine_labelIds.png"))
        Image.fromarray(id_of[prediction]).save(pairs[-1][0])
        Image.fromarray(truth).save(pairs[-1][1])
        item = native.Item(str(number), pairs[-1][0], pairs[-1][1])
        label = torch.tensor(cityscapes.label(item))[None]
        counts = facts.count([torch.tensor(prediction)[None]], label, torch.full_like(label, 255), 19)
        tables.append(metrics.confusion(metrics.Facts.of(facts.table(["os16"], [str(number)], counts)), "os16", 19))
    found = scorer.evaluateImgLists([str(a) for a, _ in pairs], [str(b) for _, b in pairs], scorer.args)
    ours = metrics.per_class_iou(sum(tables))
    theirs = np.array([found["classScores"][trainId2label[number].name] for number in range(19)])
    assert np.array_equal(np.isnan(theirs), [number in absent for number in range(19)])
    assert ours / 100 == pytest.approx(theirs, rel=1e-15, nan_ok=True)
    assert metrics.miou(sum(tables)) / 100 == pytest.approx(found["averageScoreClasses"], rel=1e-14)
