"""TensorFlow's checkpoint formats V1 and V2, sliced variables and archives: bytes that TensorFlow wrote, and damage."""
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as some

from pipeline.models.published import checkpoints, slices
from pipeline.study import StudyError
from tests.models import bundle
from tests.models.server import Server
from tests.models.tensorflow_bytes import EXPECTED, PARTED, SLICED, SLICED_INDEX, V1, V2_DATA, V2_INDEX, same, unpacked


@pytest.mark.parametrize("name", ["two/model.ckpt", "two/model.ckpt.index", "two"])
def test_v2_as_tensorflow_wrote_it(tiny, name):
    same(checkpoints.read(tiny / name), EXPECTED)


def test_partitioned_variables_of_v2_are_put_together(tiny):
    same(checkpoints.read(tiny / "sliced"), SLICED)


def pieces(**parts):
    """A V2 checkpoint's entries: variable v, 4 x 2, in slices of rows, each (start, length)."""
    full = bundle.field(1, 1) + bundle.field(2, bundle.shape_of((4, 2)))
    pairs, data = [(b"", bundle.field(1, 1))], b""
    for start, length in parts["rows"]:
        values = np.full((length, 2), start, "f")
        extents = [bundle.field(1, start) + bundle.field(2, length), b""]  # no length: the whole of the axis
        full += bundle.field(7, b"".join(bundle.field(1, extent) for extent in extents))
        if (start, length) not in parts.get("lost", ()):
            pairs.append((slices.key("v", [(start, length), (0, -1)]), bundle.entry(values, len(data))))
        data += values.tobytes()
    return [*sorted(pairs), (b"v", full)], data


@pytest.mark.parametrize("parts, message", [
    ({"rows": [(0, 2), (2, 2)]}, None), ({"rows": [(0, 2), (2, 2)], "lost": [(2, 2)]}, "a slice of v is not in it"),
    ({"rows": [(0, 2)]}, "do not make its shape"), ({"rows": [(0, 2), (1, 2)]}, "overlap"),
    ({"rows": [(0, 2), (3, 2)]}, r"has shape \[2, 2\], not \[1, 2\]")])
def test_slices_have_to_cover_their_variable(tmp_path, parts, message):
    pairs, data = pieces(**parts)
    (tmp_path / "m.index").write_bytes(bundle.table([pairs]))
    (tmp_path / "m.data-00000-of-00001").write_bytes(data)
    if message:
        with pytest.raises(StudyError, match=message):
            checkpoints.read(tmp_path / "m")
    else:
        assert checkpoints.read(tmp_path / "m")["v"].tolist() == [[0, 0], [0, 0], [2, 2], [2, 2]]


numbers = some.one_of(some.integers(-200, 200), some.integers(-(1 << 60), 1 << 60))


@given(some.tuples(some.text(max_size=5), numbers, numbers), some.tuples(some.text(max_size=5), numbers, numbers))
def test_keys_of_slices_are_in_the_order_of_what_they_say(one, other):
    # That is what TensorFlow's ordered code is for.
    def key(name, start, length):
        return slices.key(name, [(start, length)])
    def said(name, *extent):
        return (name.encode(), *extent)
    assert (key(*one) < key(*other)) == (said(*one) < said(*other)) and (key(*one) == key(*other)) == (one == other)


@pytest.mark.parametrize("name", ["one/model.ckpt", "one"])
def test_v1_as_tensorflow_wrote_it(tiny, name):
    same(checkpoints.read(tiny / name), EXPECTED | PARTED)


@pytest.mark.parametrize("kind, expected", [("one", EXPECTED | PARTED), ("two", EXPECTED)])
def test_an_archive_and_its_url(tiny, kind, expected, monkeypatch):
    monkeypatch.chdir(tiny)
    archive = tiny / "weights.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tiny / kind, "some_model")
    same(checkpoints.read(archive), expected)
    same(checkpoints.read(archive.as_uri()), expected)


def test_two_urls_whose_archives_have_one_name(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    for owner, kind in (("alice", "one"), ("bob", "two")):
        (tiny / owner).mkdir()
        with tarfile.open(tiny / owner / "model.tar.gz", "w:gz") as file:
            file.add(tiny / kind, "some_model")
    with Server(tiny) as server:
        same(checkpoints.read(f"{server.url}/alice/model.tar.gz"), EXPECTED | PARTED)
        same(checkpoints.read(f"{server.url}/bob/model.tar.gz"), EXPECTED)
    same(checkpoints.read(f"{server.url}/alice/model.tar.gz"), EXPECTED | PARTED)  # both are kept
    same(checkpoints.read(f"{server.url}/bob/model.tar.gz"), EXPECTED)


def test_a_page_that_was_fetched_as_weights_is_to_be_deleted(tiny, monkeypatch):
    """Not a file on this machine, which is somebody's own."""
    monkeypatch.chdir(tiny)
    (tiny / "artifacts/archives").mkdir(parents=True)
    for place in ("artifacts/archives/model.tar.gz", "artifacts/archives/w.safetensors", "model.tar.gz"):
        (tiny / place).write_bytes(b"<!DOCTYPE html><html><body>Please log in</body></html>")
    for name, load in (("model.tar.gz", checkpoints.read), ("w.safetensors", lambda source: checkpoints.load_backbone_weights(source, None))):
        with pytest.raises(StudyError, match=f"artifacts/archives/{name} is neither .* delete it and run the same command again"):
            load(f"http://127.0.0.1:9/{name}")
    with pytest.raises(StudyError, match="model.tar.gz is no TensorFlow checkpoint"):
        checkpoints.read((tiny / "model.tar.gz").as_uri())


@pytest.mark.parametrize("keep", [5, 15, 300])
def test_an_archive_cut_short(tiny, keep):
    with tarfile.open(tiny / "model.tar.gz", "w:gz") as file:
        file.add(tiny / "one", "some_model")
    (tiny / "model.tar.gz").write_bytes((tiny / "model.tar.gz").read_bytes()[:keep])
    with pytest.raises(StudyError, match="model.tar.gz"):
        checkpoints.read(tiny / "model.tar.gz")


def test_an_address_that_is_none_is_not_shown():
    with pytest.raises(StudyError, match="no valid URL") as caught:
        checkpoints.read("http://lo9in:s3[cret@127.0.0.1/model.tar.gz")
    assert "s3" not in str(caught.value)


def test_what_is_damaged_in_an_archive_has_the_archives_name(tiny):
    (tiny / "two/model.ckpt.index").write_bytes(b"no table")
    with tarfile.open(tiny / "model.tar.gz", "w:gz") as file:
        file.add(tiny / "two", "some_model")
    with pytest.raises(StudyError, match=f"^{tiny}/model.tar.gz/some_model/model.ckpt.index is no TensorFlow checkpoint"):
        checkpoints.read(tiny / "model.tar.gz")


@pytest.mark.parametrize("text, name", [(V2_INDEX, "two/model.ckpt.index"), (V2_DATA, "two/model.ckpt.data-00000-of-00001"),
                                        (SLICED_INDEX, "sliced/model.ckpt.index"), (V1, "one/model.ckpt")])
def test_every_flipped_byte_is_noticed_or_does_not_matter(tiny, text, name):
    good, where = unpacked(text), tiny / name
    whole = checkpoints.read(where.parent)
    noticed = 0
    for position in range(len(good)):
        where.write_bytes(good[:position] + bytes([good[position] ^ 0x41]) + good[position + 1:])
        try:
            same(checkpoints.read(where.parent), whole)
        except StudyError as error:
            noticed += 1
            assert str(where.parent) in str(error)
    assert noticed > 0.6 * len(good)  # bytes of slots and counters are not read, nor is the padding of the footer


@pytest.mark.parametrize("text, name", [(V2_INDEX, "two/model.ckpt.index"), (V2_DATA, "two/model.ckpt.data-00000-of-00001"),
                                        (V1, "one/model.ckpt")])
@pytest.mark.parametrize("keep", [0, 7, 40, 60])
def test_files_cut_short(tiny, text, name, keep):
    (tiny / name).write_bytes(unpacked(text)[:keep])
    with pytest.raises(StudyError):
        checkpoints.read(tiny / name.removesuffix(".index").removesuffix(".data-00000-of-00001"))


def test_no_checkpoint_and_too_many(tiny):
    with pytest.raises(StudyError, match="no checkpoint at .*nothing"):
        checkpoints.read(tiny / "nothing")
    with pytest.raises(StudyError, match="found none"):
        (tiny / "empty").mkdir()
        checkpoints.read(tiny / "empty")
    (tiny / "two" / "other.index").write_bytes(unpacked(V2_INDEX))
    with pytest.raises(StudyError, match="one checkpoint, found sliced/model.ckpt, two/model.ckpt, two/other"):
        checkpoints.read(tiny)
    (tiny / "picture").write_bytes(b"no table at all")
    with pytest.raises(StudyError, match="no table magic"):
        checkpoints.read(tiny / "picture")
    torch.save({}, tiny / "weights.pth")
    with pytest.raises(StudyError, match="weights.pth is a file of PyTorch: save the weights of a backbone as safetensors"):
        checkpoints.read(tiny / "weights.pth")
