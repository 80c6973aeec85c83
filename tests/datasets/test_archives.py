"""Fetching from mirrors that break, lie and redirect: the right bytes, or an error that names the mirror."""
import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.datasets import archives, mirrors
from pipeline.study import ROOT, StudyError
from tests.datasets.served import BODY, KEPT, MD5, archive, dead, official


@pytest.mark.parametrize("behaviour", ["ok", "redirect", "breaks", "no-ranges", "busy-once", "no-length"])
@pytest.mark.parametrize("known", [True, False])
def test_fetches(server, tmp_path, behaviour, known):
    wanted = archive(f"{server.url}/{behaviour}/a.bin", **({} if known else {"size": None}))
    if behaviour == "no-length" and not known:  # then a break looks like the end, and only the checksum tells
        with pytest.raises(StudyError, match="MD5"):
            archives.fetch(wanted, tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == [".a.bin.lock"]
        return
    path = archives.fetch(wanted, tmp_path)
    assert path == tmp_path / "a.bin" and path.read_bytes() == BODY
    assert {each.name for each in tmp_path.iterdir()} == KEPT
    if behaviour == "breaks":
        assert [asked for _, asked in server.log] == [None, "bytes=100000-", "bytes=200000-"]


def test_goes_on_where_an_earlier_run_stopped(server, tmp_path):
    (tmp_path / ".a.bin.part").write_bytes(BODY[:123_456])
    archives.fetch(archive(f"{server.url}/ok/a.bin"), tmp_path)
    assert server.log == [("ok", "bytes=123456-")]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_starts_anew_where_the_earlier_part_was_of_other_bytes(server, tmp_path):
    for leftover in (b"x" * 1000, b"x" * len(BODY), b"x" * (len(BODY) + 5)):
        (tmp_path / ".a.bin.part").write_bytes(leftover)
        assert archives.fetch(archive(f"{server.url}/ok/a.bin"), tmp_path).read_bytes() == BODY
        (tmp_path / "a.bin").unlink()


def test_a_part_that_is_all_is_not_fetched_again(server, tmp_path):
    """A kill while the MD5 was computed."""
    (tmp_path / ".a.bin.part").write_bytes(BODY)
    assert archives.fetch(archive(f"{server.url}/ok/a.bin", size=None), tmp_path).read_bytes() == BODY
    assert server.log == [("ok", f"bytes={len(BODY)}-")]


@pytest.mark.parametrize("size", [None, len(BODY)])
@pytest.mark.parametrize("behaviours", [["breaks-then-page"], ["breaks-then-page-without-length"], ["breaks-then-missing", "page"]])
def test_a_page_in_the_place_of_the_rest_costs_nothing(server, tmp_path, behaviours, size):
    """Logged out, or closed for maintenance, after a break."""
    with pytest.raises(StudyError, match="begins anew, with .* where there are 100000: .* delete .*a.bin.part|offers 54 bytes"):
        archives.fetch(archive(*(f"{server.url}/{each}/a.bin" for each in behaviours), size=size), tmp_path)
    assert (tmp_path / ".a.bin.part").read_bytes() == BODY[:100_000]
    assert archives.fetch(archive(f"{server.url}/ok/a.bin", size=size), tmp_path).read_bytes() == BODY


def test_without_checksum_nothing_is_joined(server, tmp_path):
    (tmp_path / ".a.bin.part").write_bytes(b"x" * 1000)
    assert archives.fetch(archive(f"{server.url}/ok/a.bin", md5=None), tmp_path).read_bytes() == BODY
    assert server.log == [("ok", None)]


def test_without_checksum_a_longer_try_brings_nothing_new(server, tmp_path):
    """Each begins at the first byte: a mirror of hundreds of megabytes that breaks anywhere is given up after three."""
    wanted = archive(f"{server.url}/breaks-later-each-time/a.bin", f"{server.url}/ok/a.bin", md5=None)
    assert archives.fetch(wanted, tmp_path).read_bytes() == BODY
    assert server.log == [("breaks-later-each-time", None)] * mirrors.ATTEMPTS + [("ok", None)]


@pytest.mark.parametrize("behaviour, said", [
    ("missing", "HTTP 404"), ("other-bytes", "has MD5"), ("shorter", "offers 299993 bytes, not 300000"),
    ("breaks-at-once", "broke off after 0 of 300000 bytes")])
def test_bad_mirror_is_named_and_the_next_one_is_used(server, tmp_path, behaviour, said):
    bad = f"{server.url}/{behaviour}/a.bin"
    with pytest.raises(StudyError, match=said) as caught:
        archives.fetch(archive(bad), tmp_path)
    assert bad in str(caught.value) and not (tmp_path / "a.bin").exists()
    assert archives.fetch(archive(dead(), bad, f"{server.url}/ok/a.bin"), tmp_path).read_bytes() == BODY


def test_every_mirror_is_named(server, tmp_path):
    mirrors = [dead(), f"{server.url}/missing/a.bin", "/nowhere/a.bin", "ftp://127.0.0.1/a.bin"]
    with pytest.raises(StudyError) as caught:
        archives.fetch(archive(*mirrors), tmp_path)
    assert all(said in str(caught.value) for said in (*mirrors, str(tmp_path / "a.bin"), "cannot fetch by ftp, only http, https, file"))


def test_local_mirrors_are_used_where_they_lie(tmp_path):
    own = tmp_path / "disk/my file.bin"
    own.parent.mkdir()
    own.write_bytes(BODY)
    assert archives.fetch(archive(str(own)), tmp_path / "cache") == own
    assert archives.fetch(archive(own.as_uri()), tmp_path / "cache") == own
    own.write_bytes(BODY[:-1])
    with pytest.raises(StudyError, match="299999 bytes, not 300000"):
        archives.fetch(archive(str(own)), tmp_path / "cache")


def test_what_lies_there_is_verified_not_fetched(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(BODY)
    archives.fetch(archive(f"{server.url}/ok/a.bin"), tmp_path)
    assert server.log == []
    (tmp_path / "a.bin").write_bytes(BODY[::-1])
    with pytest.raises(StudyError, match="has MD5 .* delete it"):
        archives.fetch(archive(f"{server.url}/ok/a.bin"), tmp_path)


@pytest.mark.parametrize("name", ["../a.bin", "/tmp/a.bin", ".hidden", "b/a.bin"])
def test_names_stay_in_the_folder(tmp_path, name):
    with pytest.raises(StudyError, match="no plain file name"):
        archives.fetch(archive("http://127.0.0.1:1/", name=name), tmp_path)


def test_an_optional_archive_may_be_missing(server, tmp_path, capfd):
    server.files = {"set.tar": official({"set/list.txt": b"a"}), "test.tar": official({"set/test.txt": b"b"})}
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
    (tmp_path / "set.tar").write_bytes(official({"set/list.txt": b"a"}))
    there = archive(str(tmp_path / "set.tar"), name="set.tar", md5=None, size=None)
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


@pytest.mark.parametrize("md5", [MD5, None])
def test_one_process_fetches_and_the_others_find_it(server, tmp_path, md5, capfd):
    wanted = archive(f"{server.url}/slow/a.bin", md5=md5)
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(lambda _: archives.fetch(wanted, tmp_path), range(3)))
    assert paths == [tmp_path / "a.bin"] * 3 and paths[0].read_bytes() == BODY
    assert len(server.log) == 1 and "another process is at work on a.bin" in capfd.readouterr().err


FETCH = "import sys; from tests.datasets.served import archive; from pipeline.datasets import archives; archives.fetch(archive(sys.argv[1]), '.')"


def test_a_killed_process_locks_nothing(server, tmp_path):
    with subprocess.Popen([sys.executable, "-c", FETCH, f"{server.url}/slow/a.bin"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}) as killed:
        while not server.log:
            time.sleep(.01)
        killed.kill()
    assert archives.fetch(archive(f"{server.url}/ok/a.bin"), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("known", [True, False])
def test_a_new_archive_of_an_old_name_is_unpacked(tmp_path, known):
    for folder, content in (("old", b"a"), ("old", b"never"), ("new", b"b")):
        own = tmp_path / folder / "set.tar"
        if content != b"never":
            own.parent.mkdir()
            own.write_bytes(official({"set/list.txt": content}))
        md5 = hashlib.md5(own.read_bytes()).hexdigest() if known else None
        archives.fetch_all((archive(str(own), name="set.tar", md5=md5, size=None),), tmp_path / "data", tmp_path / "archives")
        if content == b"never":  # the same archive again: what lies there is left alone
            assert (tmp_path / "data/set/list.txt").read_bytes() == b"mine"
        else:
            assert (tmp_path / "data/set/list.txt").read_bytes() == content
        (tmp_path / "data/set/list.txt").write_bytes(b"mine")


def test_files_of_an_archive_that_is_no_longer_named_are_gone(tmp_path):
    def lie(name, files):
        (tmp_path / name).write_bytes(official(files))
        return archive(str(tmp_path / name), name=name, md5=hashlib.md5((tmp_path / name).read_bytes()).hexdigest(), size=None)

    def there():
        return {path.name: path.read_bytes() for path in (tmp_path / "data/set").iterdir()}
    first, second = lie("a.tar", {"set/a": b"1", "set/old": b"1"}), lie("b.tar", {"set/b": b"2"})
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/generated").touch()  # before archives were named
    archives.fetch_all((first, second), tmp_path / "data", tmp_path / "archives")
    assert there() == {"a": b"1", "old": b"1", "b": b"2"}
    archives.fetch_all((lie("a.tar", {"set/a": b"3"}), second), tmp_path / "data", tmp_path / "archives")
    assert there() == {"a": b"3", "b": b"2"}
    archives.fetch_all((second,), tmp_path / "data", tmp_path / "archives")
    assert there() == {"b": b"2"}
