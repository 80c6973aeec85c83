"""The progress that training shows, against plain arithmetic."""
import numpy as np
import pytest
import torch
from torch import nn

from pipeline.datasets.shards import Example
from pipeline.evaluation.inference import predictions, progress_miou
from pipeline.schema import Evaluation, Strategy
from pipeline.study import StudyError
from tests.shards import shard


def test_the_progress_is_the_miou_of_the_first_images(tmp_path):
    """A network that says red, green or blue: void out, a class that is neither there nor predicted out, one that is either in."""
    random = np.random.default_rng(0)
    pairs = [(random.integers(0, 3, (9, 7)), random.choice([0, 1, 4], (9, 7)).astype(np.uint8)) for _ in range(5)]
    for number, (_, label) in enumerate(pairs):
        label[number] = 255
    images = shard(tmp_path / "val.arrow", [Example(str(number), (255 * np.eye(3)[said]).astype(np.uint8), label)
                                            for number, (said, label) in enumerate(pairs)], "abcde")
    network = nn.Conv2d(3, 5, 1)
    network.weight.data, network.bias.data = torch.eye(5, 3)[:, :, None, None], torch.tensor([0., 0, 0, -9, -9])
    passes = []
    network.register_forward_hook(lambda layer, inputs, output: passes.append((len(output), *output.shape[2:])))
    said, label = (np.stack(each) for each in zip(*pairs[:3]))
    valid = label != 255
    scores = {kind: 100 * ((said == kind) & (label == kind)).sum() / (((said == kind) | (label == kind)) & valid).sum() for kind in (0, 1, 2, 4)}
    assert scores[0] > 0 and scores[2] == scores[4] == 0
    for scored, expected in ((range(5), {"miou": np.mean(list(scores.values()))}), ((1, 3), {"miou": scores[1]}), ((3,), {})):
        assert progress_miou(network, 16, images, (12, 12), 2, 3, list(scored)) == pytest.approx(expected)
    assert passes == 3 * [(2, 12, 12), (1, 12, 12)], "unflipped, at scale 1"


def test_a_class_that_is_named_twice_would_weigh_twice():
    with pytest.raises(ValueError, match=r"classes\n.*cat is there twice"):
        Evaluation(split="val", canvas=(9, 9), classes=("cat", "dog", "cat"))


@pytest.mark.parametrize("tuned, sizes", [(True, [2, 2, 2]), (False, [2, 2, 1])])
def test_the_last_batch_has_the_size_that_cudnn_has_tuned_for(tmp_path, monkeypatch, tuned, sizes):
    random, seen = np.random.default_rng(0), []
    images = shard(tmp_path / "val.arrow", [Example(str(number), random.integers(0, 256, (9, 7, 3), np.uint8), np.zeros((9, 7), np.uint8))
                                            for number in range(5)], "abcde")
    network = nn.Conv2d(3, 5, 1)
    network.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    strategies = {"plain": Strategy(output_stride=16, scales=(1.0,), flip=False)}
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", tuned)
    with torch.inference_mode():
        found = list(predictions({16: network}, images, strategies, (12, 12), 2, list(range(5))))
        alone = [next(predictions({16: network}, images, strategies, (12, 12), 1, [number]))[1]["plain"] for number in range(5)]
    assert seen[:3] == sizes and [len(examples) for examples, _ in found] == [2, 2, 1]
    assert all(labels["plain"].shape[1:] == (12, 12) for _, labels in found)
    assert torch.equal(torch.cat([labels["plain"] for _, labels in found]), torch.cat(alone))


def test_running_out_of_memory_says_what_to_lower(tmp_path):
    def full(layer, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    images = shard(tmp_path / "val.arrow", [Example("1", np.zeros((9, 7, 3), np.uint8), np.zeros((9, 7), np.uint8))], "abcde")
    network = nn.Conv2d(3, 5, 1)
    network.register_forward_pre_hook(full)
    with pytest.raises(StudyError, match="out of memory. Lower evaluate_batch"):
        progress_miou(network, 16, images, (12, 12), 2, 1, [0])
