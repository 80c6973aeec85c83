"""Exact resume, and a loss that is no number stops the training at once."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.study import StudyError, Training
from pipeline.training.augmentation import Crops
from pipeline.training.loop import Checkpoint, fit
from pipeline.training.schedule import optimiser

TRAINING = Training(split="train", crop=9, batch=2, steps=12, learning_rate=0.1, power=0.9, validate_every=4)


class Killed(BaseException):
    pass


def run(tmp_path, kill_at=None, spoil=False):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 5, 1))
    images = [torch.randint(256, (12, 12, 3), dtype=torch.uint8) for _ in range(5)]
    labels = [torch.randint(5, (12, 12), dtype=torch.uint8) for _ in range(5)]
    crops, calls = Crops(images, labels, TRAINING.crop, TRAINING.batch, seed=0), [0]

    def loss_of(model, batch):
        calls[0] += 1
        if calls[0] == kill_at:
            raise Killed
        loss = F.cross_entropy(model(batch[0] / 127.5 - 1), batch[1], ignore_index=255)
        return loss * float("nan") if spoil else loss

    validate = lambda: {"miou": float(sum(parameter.sum() for parameter in model.parameters()))}
    checkpoint = Checkpoint(tmp_path / "run.pt", "inputs")
    history, metrics = fit(model, optimiser(model, 1e-4, 0.1), crops, loss_of, validate, TRAINING, checkpoint, "run")
    return model.state_dict(), metrics, [(row[0], row[1], row[2]) for row in history.rows if row[1] != "images_per_second"]


@pytest.mark.parametrize("kill_at", [1, 4, 5, 8, 9, 11, 12])
def test_killed_at_any_step_it_ends_bit_identical(tmp_path, kill_at):
    undisturbed = run(tmp_path / "a")
    with pytest.raises(Killed):
        run(tmp_path / "b", kill_at)
    resumed = run(tmp_path / "b")
    assert all(torch.equal(undisturbed[0][name], resumed[0][name]) for name in undisturbed[0])
    assert undisturbed[1] == resumed[1]


def test_a_checkpoint_of_other_inputs_is_not_used(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, kill_at=6)
    assert Checkpoint(tmp_path / "run.pt", "inputs").load(torch.device("cpu"))["step"] == 4
    assert Checkpoint(tmp_path / "run.pt", "other").load(torch.device("cpu")) is None


def test_a_loss_that_is_no_number_names_the_run_the_step_and_the_images(tmp_path):
    with pytest.raises(StudyError, match=r"run: the loss is nan by step 12.*Images seen since step 0: \["):
        run(tmp_path, spoil=True)
