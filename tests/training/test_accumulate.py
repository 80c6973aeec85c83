"""A batch computed in parts, and advice when memory runs out."""
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from pipeline.models import device as devices
from pipeline.schema import Training
from pipeline.study import StudyError
from pipeline.training import acceleration, distributed
from pipeline.training.loop import gradients
from tests.training.small import TRAINING, cross_entropy, run


def test_in_parts_without_batch_norm_the_gradients_are_the_whole_batchs(tmp_path):
    """The parts hold different numbers of valid pixels: each pixel counts the same all the same."""
    training = TRAINING.model_copy(update={"batch": 4})
    parts = training.model_copy(update={"accumulate": 2})
    whole = run(tmp_path / "a", training=training, norm=lambda channels: nn.Identity(), dropout=0.0)
    split = run(tmp_path / "b", training=parts, norm=lambda channels: nn.Identity(), dropout=0.0)
    assert all(torch.allclose(whole[0][name], split[0][name], atol=1e-6) for name in whole[0])
    assert [row[2] for row in split[2]] == pytest.approx([row[2] for row in whole[2]], abs=1e-4)


def test_in_parts_batch_norm_sees_the_parts(tmp_path):
    training = TRAINING.model_copy(update={"batch": 4, "steps": 1, "accumulate": 2})
    assert run(tmp_path, training=training)[0]["1.num_batches_tracked"] == 2


def test_a_batch_of_void_only_trains_nothing_and_is_no_fault():
    network = torch.nn.Conv2d(3, 5, 1)
    loss = gradients(network, network, torch.rand(2, 3, 4, 4), torch.full((2, 4, 4), 255), cross_entropy, 255, 1)
    assert loss == 0 and not network.weight.grad.any()


def test_parts_have_to_be_equal():
    with pytest.raises(ValidationError, match="accumulate: a batch of 2 cannot be computed in 4 equal parts"):
        Training(**TRAINING.model_dump() | {"accumulate": 4})


def test_processes_have_to_have_equal_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    with pytest.raises(StudyError, match="^run: a batch of 6 cannot be split evenly over 3 processes times accumulate 3$"):
        run(tmp_path, training=TRAINING.model_copy(update={"batch": 6, "accumulate": 3}))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")])
def test_out_of_memory_says_what_to_lower(tmp_path, error):
    def full(*_):
        raise error
    with pytest.raises(StudyError, match=r"out of memory.*try checkpoint_activations: true .*same result\); or "
                                         r"accumulate: 2 \(now 1; batch norm then sees 2 images\).*crop below 17.*batch below 4"):
        run(tmp_path, loss_of=full, training=TRAINING.model_copy(update={"batch": 4}))


def test_batch_norm_cannot_learn_from_single_images(tmp_path):
    """Nor does the advice above propose it. Without batch norm, single images are fine."""
    single = TRAINING.model_copy(update={"accumulate": 2})
    with pytest.raises(StudyError, match="batch norm cannot learn from one image at a time: accumulate has to be below a batch of 2"):
        run(tmp_path / "a", training=single)
    with pytest.raises(StudyError, match="one image at a time: batch has to be 2 or more$"):
        run(tmp_path / "a", training=TRAINING.model_copy(update={"batch": 1}))
    run(tmp_path / "b", training=single, norm=lambda channels: nn.Identity())

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(StudyError) as caught:
        run(tmp_path / "c", loss_of=full)
    assert "accumulate" not in str(caught.value)


def test_other_errors_are_not_taken_for_lack_of_memory(tmp_path):
    def wrong(*_):
        raise RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match") as caught:
        run(tmp_path, loss_of=wrong)
    assert not isinstance(caught.value, StudyError)


@pytest.mark.parametrize("error, explained", [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
    (torch.AcceleratorError("CUDA error: out of memory", 2), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("GET was unable to find an engine to execute this computation"), True),
    (RuntimeError("FIND was unable to find an engine to execute this computation"), True),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False)])
def test_running_out_of_memory_says_what_to_lower(error, explained):
    with pytest.raises(StudyError if explained else RuntimeError, match="a crop below 17" if explained else "mat1") as caught:
        with devices.memory_explained(acceleration.memory_advice(TRAINING)):
            raise error
    assert str(error) in str(caught.value), "what torch said, which may name another reason"


def test_what_is_done_already_is_no_advice():
    advice = acceleration.memory_advice(TRAINING.model_copy(update={"checkpoint_activations": True}))
    assert "a crop below" in advice and "checkpoint_activations" not in advice
