"""The same random numbers in every test; checkpoints that TensorFlow wrote, in files."""
import pytest
import torch

from tests.models.tensorflow_bytes import SLICED_DATA, SLICED_INDEX, V1, V2_DATA, V2_INDEX, unpacked


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def tiny(tmp_path):
    for name, text in (("two/model.ckpt.index", V2_INDEX), ("two/model.ckpt.data-00000-of-00001", V2_DATA), ("one/model.ckpt", V1),
                       ("sliced/model.ckpt.index", SLICED_INDEX), ("sliced/model.ckpt.data-00000-of-00001", SLICED_DATA)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(unpacked(text))
    return tmp_path
