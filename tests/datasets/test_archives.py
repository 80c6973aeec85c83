"""Fetching from mirrors that break, lie and redirect: the right bytes, or an error that names the mirror."""
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.datasets import archives, mirrors
from pipeline.study import ROOT, StudyError
from tests.datasets.served import BODY, KEPT, MD5, archive, dead


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
