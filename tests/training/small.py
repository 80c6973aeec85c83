"""A training of a few steps with two convolutions, for tests of the loop."""
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.schema import Training
from pipeline.training.augmentation import Crops
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import fit
from pipeline.training.schedule import optimiser

TRAINING = Training(split="train", crop=17, batch=2, steps=12, learning_rate=0.1, power=0.9, validate_every=4)


class Killed(BaseException):
    pass


class Memory(list):
    """Examples in memory, as a split of data.py gives them."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.ids = [f"picture-{number}" for number in range(len(pairs))]

    def __call__(self, numbers):
        return [self[number] for number in numbers]

    def expect(self, numbers):
        pass


def cross_entropy(network, pixels, labels):
    return F.cross_entropy(network(pixels / 127.5 - 1), labels, ignore_index=255, reduction="sum")


def same(one, other):
    """Two trainings ended alike: to the bit, with the same scores and curves."""
    assert one[0].keys() == other[0].keys() and all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    assert one[1:] == other[1:]


def run(tmp_path, kill_at=None, loss_of=cross_entropy, training=TRAINING, norm=nn.BatchNorm2d, dropout=0.3):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm(4), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(4, 5, 1))
    pairs = [(torch.randint(256, (12, 12, 3)).byte(), torch.randint(5, (12, 12)).byte()) for _ in range(5)]
    for _, label in pairs:
        label[:4, :7] = 255
    crops, calls = Crops(Memory(pairs), training.crop, training.batch, seed=0), [0]

    def counted(network, pixels, labels):
        calls[0] += 1
        if calls[0] == kill_at:
            raise Killed
        return loss_of(network, pixels, labels)

    validate = lambda: {"miou": float(sum(parameter.sum() for parameter in model.parameters()))}
    checkpoint = Checkpoint(tmp_path / "run.pt", "inputs")
    learner = optimiser(model, 1e-4, 0.1, kind=training.optimiser)
    history, metrics = fit(model, learner, crops, counted, validate, training, checkpoint, "run", 255)
    return model.state_dict(), metrics, [tuple(row[:3]) for row in history.rows if row[1] != "images_per_second"]
