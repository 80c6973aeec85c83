"""The same random numbers in every test; checkpoints that TensorFlow wrote, in files."""
import pytest
import torch

from tests.models.tensorflow_bytes import SLICED_DATA, SLICED_INDEX, V1, V2_DATA, V2_INDEX, unpacked


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "model.ckpt.index").write_bytes(unpacked(V2_INDEX))
    (tmp_path / "two" / "model.ckpt.data-00000-of-00001").write_bytes(unpacked(V2_DATA))
    (tmp_path / "sliced").mkdir()
    (tmp_path / "sliced" / "model.ckpt.index").write_bytes(unpacked(SLICED_INDEX))
    (tmp_path / "sliced" / "model.ckpt.data-00000-of-00001").write_bytes(unpacked(SLICED_DATA))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "model.ckpt").write_bytes(unpacked(V1))
    return tmp_path
