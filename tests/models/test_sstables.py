"""Tables made by hand, after LevelDB's description of its format, their checksum, and rubbish."""
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as some

from pipeline.models.published import bundles, checkpoints, sstables
from pipeline.study import StudyError
from tests.models import bundle


def table(blocks, **options):
    return bundle.table(blocks, crc=slow_crc, **options)


def slow_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(some.dictionaries(some.binary(max_size=20), some.binary(max_size=300), min_size=1, max_size=60), some.integers(1, 20),
       some.integers(1, 17))
@settings(max_examples=60)
def test_tables_come_back(tmp_path_factory, content, size, restart):
    pairs = sorted(content.items())
    path = tmp_path_factory.mktemp("table") / "t"
    path.write_bytes(table([pairs[i:i + size] for i in range(0, len(pairs), size)], restart=restart))
    assert [(key, bytes(value)) for key, value in sstables.entries(path)] == pairs


def test_compressed_blocks_are_refused_by_name(tmp_path):
    (tmp_path / "t").write_bytes(table([[(b"key", b"value")]], compression=1))
    with pytest.raises(StudyError, match="compressed"):
        list(sstables.entries(tmp_path / "t"))


@given(some.binary(min_size=48, max_size=400))
@settings(max_examples=200)
def test_rubbish_behind_the_magic(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("rubbish") / "t"
    path.write_bytes(data + bytes.fromhex("57fb808b247547db"))
    with pytest.raises(StudyError):
        checkpoints.read(path)


def test_crc32c():
    assert sstables.crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720
    assert sstables.crc32c(b"\0" * 32) == 0x8A9136AA     # its appendix B.4
    for size in (0, 1, 5000, 1 << 16, (1 << 17) + 12345):  # long data goes another way
        data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
        assert sstables.crc32c(data) == slow_crc(data)


def test_a_number_where_a_variables_name_should_be_makes_no_room_for_as_many_bytes():
    with pytest.raises(StudyError, match="is damaged: a variable has no name"):
        bundles._name({1: [4 * 10 ** 11]}, Path("model.ckpt"))
