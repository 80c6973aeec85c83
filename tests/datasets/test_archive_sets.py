"""The archives of a data set together: what is optional, what comes in another's place, what is unpacked when."""
import hashlib

import pytest

from pipeline.datasets import archives
from pipeline.study import StudyError
from tests.datasets.packed import placed, tar
from tests.datasets.served import BODY, MD5, archive, dead


def test_an_optional_archive_may_be_missing(server, tmp_path, capfd):
    server.files = {"set.tar": tar({"set/list.txt": b"a"}), "test.tar": tar({"set/test.txt": b"b"})}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in server.files.items()}
    needed = archive(f"{server.url}/ok/set.tar", name="set.tar", md5=sums["set.tar"], size=None)
    extra = archive(dead(), name="test.tar", md5=sums["test.tar"], size=None).model_copy(update={"optional": True})
    archives.fetch_all((extra, needed), tmp_path / "data", tmp_path / "archives")
    assert [path.name for path in (tmp_path / "data/set").iterdir()] == ["list.txt"]
    said = capfd.readouterr().err
    assert "goes on without it: test.tar could not be had" in said and f"put it at {tmp_path}/archives/test.tar, then: dvc repro --force download@data" in said
    assert "same command" not in said, "DVC would have nothing to do"
    extra = extra.model_copy(update={"mirrors": (f"{server.url}/ok/test.tar",)})
    archives.fetch_all((extra, needed), tmp_path / "data", tmp_path / "archives")
    assert (tmp_path / "data/set/test.txt").read_bytes() == b"b"
    with pytest.raises(StudyError, match="could not be had"):
        archives.fetch_all((archive(dead(), name="other.tar"),), tmp_path / "data", tmp_path / "archives")


def test_nothing_is_unpacked_before_all_archives_are_there(tmp_path):
    there = placed(tmp_path / "set.tar", tar({"set/list.txt": b"a"}))
    with pytest.raises(StudyError, match="other.tar could not be had .*(.|\n)* put it at .*/archives/other.tar and run the same command again"):
        archives.fetch_all((there, archive("/nowhere/other.tar", name="other.tar")), tmp_path / "data", tmp_path / "archives")
    assert not (tmp_path / "data").exists()


def test_archives_of_one_name_from_two_addresses(server, tmp_path, monkeypatch):
    """Without a checksum the address decides; what a user put there, or a checksum vouches for, does for any."""
    monkeypatch.setenv("V", "geheim")
    one, other = (archive(f"{server.url}/{path}/a.bin?v=${{V}}", md5=None) for path in ("ok", "other-bytes"))
    for _ in range(2):
        assert archives.fetch(one, tmp_path) == tmp_path / "a.bin" and (tmp_path / "a.bin").read_bytes() == BODY
        assert archives.fetch(other, tmp_path).read_bytes() == bytes([BODY[0] ^ 1]) + BODY[1:]
    assert [behaviour for behaviour, _ in server.log] == ["ok", "other-bytes"]
    assert "geheim" not in "".join(path.read_text() for path in tmp_path.rglob(".*.from"))
    assert archives.fetch(other.model_copy(update={"md5": MD5}), tmp_path) == tmp_path / "a.bin"
    (tmp_path / "a.bin").write_bytes(BODY[::-1])  # by hand, over what was fetched
    assert archives.fetch(one, tmp_path) == archives.fetch(other, tmp_path) == tmp_path / "a.bin"
    (tmp_path / ".a.bin.from").unlink()
    assert archives.fetch(other, tmp_path) == tmp_path / "a.bin"


def test_addresses_that_differ_in_their_query_only(server, tmp_path):
    for key in ("1", "2"):
        archives.fetch(archive(f"{server.url}/ok/a.bin?file={key}", md5=None), tmp_path)
    assert len(server.log) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_new_archive_of_an_old_name_is_unpacked(tmp_path, known):
    """And the same one again is not: what lies there is left alone."""
    for folder, content, expected in (("old", b"a", b"a"), ("old", b"a", b"mine"), ("new", b"b", b"b")):
        own = placed(tmp_path / folder / "set.tar", tar({"set/list.txt": content}), known)
        archives.fetch_all((own,), tmp_path / "data", tmp_path / "archives")
        assert (tmp_path / "data/set/list.txt").read_bytes() == expected
        (tmp_path / "data/set/list.txt").write_bytes(b"mine")


def test_files_of_an_archive_that_is_no_longer_named_are_gone(tmp_path):
    def there():
        return {path.name: path.read_bytes() for path in (tmp_path / "data/set").iterdir()}
    first = placed(tmp_path / "a.tar", tar({"set/a": b"1", "set/old": b"1"}), known=True)
    second = placed(tmp_path / "b.tar", tar({"set/b": b"2"}), known=True)
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/generated").touch()  # before archives were named
    archives.fetch_all((first, second), tmp_path / "data", tmp_path / "archives")
    assert there() == {"a": b"1", "old": b"1", "b": b"2"}
    archives.fetch_all((placed(tmp_path / "a.tar", tar({"set/a": b"3"}), known=True), second), tmp_path / "data", tmp_path / "archives")
    assert there() == {"a": b"3", "b": b"2"}
    archives.fetch_all((second,), tmp_path / "data", tmp_path / "archives")
    assert there() == {"b": b"2"}
