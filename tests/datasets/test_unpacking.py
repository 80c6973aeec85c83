"""Hostile, damaged and cut archives: a clear error, and nothing on disk outside or inside the target folder."""
import io
import random
import tarfile
import zipfile

import pytest

from pipeline.datasets.unpacking import unpack
from pipeline.study import StudyError

FILES = {"set/images/a.jpg": random.Random(1).randbytes(5000), "set/list.txt": b"a\n" * 700, "set/empty": b""}


def tar(path, mode="w", files=None, *more):
    with tarfile.open(path, mode) as made:
        for name, content in (FILES if files is None else files).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        for info in more:
            made.addfile(info)
    return path


def zipped(path, files=None, attributes=0):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in (FILES if files is None else files).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes
            made.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MAKERS = {"tar": tar, "tgz": lambda path: tar(path, "w:gz"), "zip": zipped}


@pytest.mark.parametrize("kind", MAKERS)
def test_unpacks_and_merges(tmp_path, kind):
    out = tmp_path / "out"
    (out / "set").mkdir(parents=True)
    (out / "set/list.txt").write_text("old")
    (out / "set/mine").write_text("kept")
    (out / ".unpacking-killed/set").mkdir(parents=True)
    unpack(MAKERS[kind](tmp_path / "archive"), out)
    assert contents(out) == FILES | {"set/mine": b"kept"}
    assert not any(path.name.startswith(".") for path in out.iterdir())


def test_a_folder_may_be_named_without_those_it_is_in(tmp_path):
    folder = tarfile.TarInfo("set/images/")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    for number, path in enumerate((tar(tmp_path / "tar", "w", {}, folder), zipped(tmp_path / "zip", {"set/images/": b""}))):
        unpack(path, tmp_path / str(number))
        assert not contents(tmp_path / str(number))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_whose_last_file_is_a_zip_is_a_tar(tmp_path, mode):
    inner = zipped(tmp_path / "inner", {"inside.txt": b"not to be unpacked"}).read_bytes()
    path = tar(tmp_path / "archive", mode, files := FILES | {"set/last.zip": inner})
    unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == files
    damaged = bytearray(path.read_bytes())
    damaged[0] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StudyError, match="cannot be unpacked"):
        unpack(path, tmp_path / "damaged")


def test_a_zip_of_a_tar_and_an_empty_zip_are_zips(tmp_path):
    inner = tar(tmp_path / "inner").read_bytes()
    with zipfile.ZipFile(tmp_path / "archive", "w", zipfile.ZIP_STORED) as made:
        made.writestr("set.tar", inner)
    unpack(tmp_path / "archive", tmp_path / "out")
    unpack(zipped(tmp_path / "empty", {}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"set.tar": inner}


def special(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ESCAPES = ["../evil", "set/../../evil", "/tmp/evil-of-the-tests", "..\\evil", "C:\\evil", "C:/evil"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("make", [tar, zipped])
def test_refuses_to_leave_the_folder(tmp_path, name, make):
    path = make(tmp_path / "archive", **{"files": FILES | {name: b"evil"}})
    check_refused(tmp_path, path, "leads out of")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_refuses_links_and_devices(tmp_path, kind):
    check_refused(tmp_path, tar(tmp_path / "archive", "w", FILES, special("set/odd", kind, "set/list.txt")), "is a link, a device or sparse")


def test_refuses_links_in_zip(tmp_path):
    check_refused(tmp_path, zipped(tmp_path / "archive", {"set/link": b"/etc/passwd"}, 0o120777 << 16), "link or a device")


def check_refused(tmp_path, path, said):
    out = tmp_path / "deep/er/out"
    with pytest.raises(StudyError, match=said) as caught:
        unpack(path, out)
    assert str(path) in str(caught.value)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path] and list(out.iterdir()) == []


@pytest.mark.parametrize("kind", MAKERS)
def test_every_truncation_is_an_error(tmp_path, kind):
    whole = MAKERS[kind](tmp_path / "archive").read_bytes()
    # A tar ends with blocks of zeros, of which the first is needed and the rest is padding.
    needed = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)
    out = tmp_path / "out"
    for length in {*range(0, needed, 97), needed - 1, *(range(512, needed, 512) if kind == "tar" else ())}:
        (tmp_path / "archive").write_bytes(whole[:length])
        with pytest.raises(StudyError, match="cannot be unpacked|damaged"):
            unpack(tmp_path / "archive", out)
        assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", MAKERS)
def test_flipped_bytes_never_do_harm(tmp_path, kind):
    """100 flips: an error and an empty folder, or an archive that is read; from formats with sums, read right."""
    chance = random.Random(kind)
    path = MAKERS[kind](tmp_path / "archive")
    whole, refused = path.read_bytes(), 0
    for number in range(100):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        out = tmp_path / f"out{number}"
        try:
            unpack(path, out)
        except StudyError:
            refused += 1
            assert list(out.iterdir()) == []
        else:
            found = contents(out)
            if kind == "tgz":
                assert found == FILES
            if kind == "zip":  # names are not under zip's sums, contents are
                assert sorted(found.values()) == sorted(FILES.values())
    assert refused > 0
    assert {each.name for each in tmp_path.iterdir()} == {"archive", *(f"out{number}" for number in range(100))}


def test_refuses_folders_without_end_and_files_of_holes(tmp_path):
    check_refused(tmp_path, tar(tmp_path / "archive", files=FILES | {"a/" * 1500 + "b": b"deep"}), "has an entry 1501 folders deep")
    holes = tarfile.TarInfo("set/holes")
    holes.type = tarfile.GNUTYPE_SPARSE
    check_refused(tmp_path, tar(tmp_path / "archive", "w", FILES, holes), "cannot be unpacked|is a link, a device or sparse")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("first", [True, False])
def test_refuses_headers_that_would_fill_the_memory(tmp_path, mode, first):
    """tarfile takes them in whole; of zeros, 3 GB are 14 MB in a tgz."""
    large, small = tarfile.TarInfo("set/large"), tarfile.TarInfo("set/small")
    large.pax_headers, small.pax_headers = {"comment": "x" * 100_000}, {"comment": "x" * 1000}
    path = tar(tmp_path / "archive", mode, {} if first else FILES, small, large)
    check_refused(tmp_path, path, "cannot be unpacked .TarError: a header of 100,0.. bytes")
    unpack(tar(tmp_path / "archive", mode, FILES, small), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES | {"set/small": b""}


def test_a_folder_in_the_way_of_a_file_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "out/set/list.txt").mkdir(parents=True)
    with pytest.raises(StudyError, match="list.txt is a folder in the way of a file: move it away"):
        unpack(tar(tmp_path / "archive"), tmp_path / "out")
    assert contents(tmp_path / "out") == {}
