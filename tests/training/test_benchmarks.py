"""What the benchmarks count is what is there."""
import pytest
import torch

from benchmarks import memory, steps
from pipeline.models.cost import on_meta
from pipeline.schema import BackboneSize
from pipeline.training.acceleration import checkpoint_activations

TINY = steps.Setting("cpu", "resnet101", "resnet", BackboneSize(units=(2, 2, 2, 1), width=0.0625), 113, 4, width=0.0625,
                     rates=(2, 4, 6))  # the crop makes maps of 8 x 8, larger than every rate: real tensors leave out no taps


def held(device, accumulate=1, checkpointed=False, dtype=torch.float32):
    model = on_meta(lambda: steps.network(TINY)) if device == "meta" else steps.network(TINY)
    model = model.to(dtype, memory_format=torch.channels_last)
    model.train()
    if checkpointed:
        checkpoint_activations(model.backbone)
    return memory.peak(model, TINY.crop, TINY.batch, accumulate, dtype)


@pytest.mark.parametrize("accumulate, checkpointed", [(1, False), (2, False), (1, True)])
def test_memory_counted_without_data_is_that_of_real_tensors(accumulate, checkpointed):
    """Within 5 %: some operations have other intermediate results on `meta`."""
    counted, real = held("meta", accumulate, checkpointed), held("cpu", accumulate, checkpointed)
    assert counted[0] == pytest.approx(real[0], rel=0.05) and counted[1] == real[1]


def test_parts_checkpoints_and_bfloat16_take_less():
    whole, madds = held("meta")
    parts, same = held("meta", accumulate=2)
    kept, more = held("meta", checkpointed=True)
    half, _ = held("meta", dtype=torch.bfloat16)
    assert parts < 0.7 * whole and same == madds
    assert kept < 0.95 * whole and madds < more < 2 * madds
    assert 0.5 * whole < half < 0.9 * whole, "logits and loss stay float32, and are much of so small a network's"
