"""The stage evaluate on a small untrained network: killed half-way, damaged, started again; and scored by others' code."""
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import records
from pipeline.datasets.shards import Example, Shard, Writer
from pipeline.datasets.trimap import TRIMAP_WIDTHS, void_distance
from pipeline.evaluation import evaluate as evaluation, metrics
from pipeline.study import ROOT
from stages import console, evaluate as stage
from tests import changed
from tests.evaluation import untrained

RUN, IMAGES, CLASSES = "t2-x2", 9, 5
PARTS = 3  # the tiny scale evaluates 4 at a time
KILLED = """
import os, signal
from tests.evaluation import test_evaluate as here
whole, calls = here.evaluation.facts_of, []
def count(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments)
here.evaluation.facts_of = count
here.stage.studies.load = lambda: here.TINY
here.stage.main(here.RUN)
"""
TINY = changed.at("tiny")


@pytest.fixture(autouse=True)
def run_and_shard(tmp_path, monkeypatch):
    """A run's folder and a shard of random images in a fresh artifacts folder, which is the working directory's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage.studies, "load", lambda: TINY)
    shards, rng = TINY.artifacts("shards", "voc"), np.random.default_rng(0)
    with Writer(shards / "val.arrow", "voc", [f"class-{number}" for number in range(CLASSES)]) as writer:
        for number in range(IMAGES):
            shape = 20 + 3 * number, 49 - 2 * number
            label = rng.integers(0, CLASSES, shape).astype(np.uint8)
            label[3:6, 2:30] = 255
            writer.add(Example(f"image-{number}", rng.integers(0, 256, (*shape, 3)).astype(np.uint8), label, void_distance(label)))
    (shards / "sheet.json").write_text("{}")
    untrained.save(TINY.artifacts("runs", RUN), TINY, RUN, CLASSES)


@pytest.fixture
def counting(monkeypatch):
    """How many batches were counted."""
    calls, whole = [], evaluation.facts_of
    monkeypatch.setattr(evaluation, "facts_of", lambda *arguments: calls.append(1) or whole(*arguments))
    return calls


def results():
    return {name: (TINY.artifacts("facts", RUN) / name).read_bytes() for name in ("facts.parquet", "labels.parquet")}


def evaluated(**options):
    """As the stage ends when nothing fails behind it."""
    stage.main(RUN, **options)
    console.remove_needless()


def unfinished():
    return sorted(TINY.artifacts("unfinished").rglob("*.parquet"))


def kill_half_way(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(unfinished()) == 4 and not TINY.artifacts("facts", RUN).exists()


def test_killed_half_way_it_goes_on_with_what_is_missing_and_ends_with_the_same_bytes(tmp_path, counting):
    evaluated()
    undisturbed = results()
    assert len(counting) == PARTS
    shutil.rmtree(TINY.artifacts("facts"))
    kill_half_way(tmp_path)
    counting.clear()
    evaluated()
    assert len(counting) == PARTS - 2 and results() == undisturbed and not unfinished()


def test_what_was_left_of_other_weights_is_not_used(tmp_path, counting):
    kill_half_way(tmp_path)
    weights = TINY.artifacts("runs", RUN) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    counting.clear()
    evaluated()
    assert len(counting) == PARTS and not unfinished()


def test_bfloat16_is_left_beside_the_study():
    evaluated()
    undisturbed, record = results(), records.read(TINY.artifacts("facts", RUN))
    evaluated(bf16=True)
    assert results() == undisturbed and records.read(TINY.artifacts("facts", RUN)) == record and not record["params"]["bf16"]
    beside = TINY.artifacts("facts-bf16", RUN)
    assert records.read(beside)["params"] == record["params"] | {"bf16": True}
    found, plain = (metrics.Facts.read(folder / "facts.parquet") for folder in (beside, TINY.artifacts("facts", RUN)))
    matrices = [metrics.confusion(facts, TINY.evaluate[RUN][0], CLASSES) for facts in (found, plain)]
    assert np.array_equal(matrices[0].sum(1), matrices[1].sum(1)) and not np.array_equal(*matrices)  # the same pixels, other labels


def test_what_was_left_in_float32_outlives_an_evaluation_in_bfloat16(tmp_path, counting):
    kill_half_way(tmp_path)
    left = unfinished()
    evaluated(bf16=True)
    assert unfinished() == left
    counting.clear()
    evaluated()
    assert len(counting) == PARTS - 2 and not unfinished()


def test_what_was_left_is_used_for_the_same_work_only(monkeypatch):
    """By other strategies, or the same in another order or by other names, batches, precision, canvases, code, labels or weights: anew."""
    folders, plain = [], {name: TINY.strategies[name] for name in ("os16", "os8")}
    monkeypatch.setattr(evaluation, "confusion_facts", lambda *arguments: folders.append(arguments[7]) or (None, None))
    runs = TINY.artifacts("runs", RUN)

    def again(strategies=plain, bf16=False, **settings):
        evaluation.evaluate(changed.dataset(TINY, "voc", **settings), runs, strategies, "title", Path("unfinished"), bf16)
    again()
    again()
    assert folders[0] == folders[1] and folders[0].parent == Path("unfinished")
    again(dict(reversed(plain.items())))
    again({"other": plain["os16"], "os8": plain["os8"]})
    again({"os16": plain["os16"].model_copy(update={"flip": True}), "os8": plain["os8"]})
    again(bf16=True)
    again(evaluate_batch=3)
    again(evaluate=TINY.settings.voc.evaluate.model_copy(update={"canvas": (65, 65)}))
    for room in ("datasets", "evaluation", "models"):  # trimap.py in the first makes the bands
        with monkeypatch.context() as patch:
            patch.setattr(evaluation.trained, "CODE", [each for each in evaluation.trained.CODE if each.name != room])
            again()
    for file in (TINY.artifacts("shards", "voc") / "sheet.json", runs / "model.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b" ")
        again()
    monkeypatch.setattr(evaluation.devices, "describe", lambda device: "another machine")
    again()
    assert len(set(folders[1:])) == len(folders[1:])


def test_a_damaged_part_is_counted_again(counting):
    evaluated()
    undisturbed = results()
    stage.main(RUN)
    parts = unfinished()
    assert len(parts) == 2 * PARTS, "they stay until the guard has looked"
    parts[0].write_bytes(parts[0].read_bytes()[:50])
    parts[3].unlink()
    counting.clear()
    evaluated()
    assert len(counting) == 2 and results() == undisturbed


def test_label_maps_and_facts_tell_the_same_story_and_torchmetrics_agrees_exactly():
    import io

    from PIL import Image
    from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex
    evaluated()
    facts = metrics.Facts.read(TINY.artifacts("facts", RUN) / "facts.parquet")
    labels = pq.read_table(TINY.artifacts("facts", RUN) / "labels.parquet").to_pylist()
    shard = Shard(TINY.artifacts("shards", "voc") / "val.arrow")
    assert facts.strategies == tuple(sorted(TINY.evaluate[RUN])) and [row["image"] for row in labels] == shard.ids
    assert {row["strategy"] for row in labels} == {TINY.evaluate[RUN][0]}
    matrix, jaccard = MulticlassConfusionMatrix(CLASSES, ignore_index=255), MulticlassJaccardIndex(CLASSES, ignore_index=255)
    for number, row in enumerate(labels):
        prediction = np.asarray(Image.open(io.BytesIO(row["png"])))
        assert prediction.shape == shard[number].label.shape
        pair = torch.tensor(prediction).long()[None], torch.tensor(shard[number].label).long()[None]
        matrix.update(*pair), jaccard.update(*pair)
    ours = metrics.confusion(facts, TINY.evaluate[RUN][0], CLASSES)
    assert (ours.sum(0) > 0).sum() > 1  # the network does not say the same everywhere
    assert np.array_equal(ours, matrix.compute().numpy())
    assert float(metrics.miou(ours)) == pytest.approx(100 * float(jaccard.compute()), abs=1e-5)  # it divides in float32


def test_the_bands_are_those_of_the_shards_distances():
    evaluated()
    facts = metrics.Facts.read(TINY.artifacts("facts", RUN) / "facts.parquet")
    shard = Shard(TINY.artifacts("shards", "voc") / "val.arrow")
    label, distance = (np.concatenate([getattr(shard[number], name).ravel() for number in range(IMAGES)]) for name in ("label", "distance"))
    found = metrics.confusion(facts, TINY.evaluate[RUN][0], CLASSES, by="band").cumsum(0)
    for place, width in enumerate(TRIMAP_WIDTHS):
        assert found[place].sum(1).tolist() == np.bincount(label[distance <= width], minlength=CLASSES)[:CLASSES].tolist()
