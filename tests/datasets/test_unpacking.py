"""Hostile, damaged and cut archives: a clear error, and nothing on disk outside or inside the target folder."""
import random
import tarfile
import zipfile

import pytest

from pipeline.datasets.unpacking import unpack
from pipeline.study import StudyError
from tests.datasets.packed import tar, zipped

FILES = {"set/images/a.jpg": random.Random(1).randbytes(5000), "set/list.txt": b"a\n" * 700, "set/empty": b""}


def on_disk(tmp_path, content):
    (path := tmp_path / "archive").write_bytes(content)
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WHOLE = {"tar": tar(FILES), "tgz": tar(FILES, "w:gz"), "zip": zipped(FILES)}


@pytest.mark.parametrize("kind", WHOLE)
def test_unpacks_and_merges(tmp_path, kind):
    out = tmp_path / "out"
    (out / "set").mkdir(parents=True)
    (out / "set/list.txt").write_text("old")
    (out / "set/mine").write_text("kept")
    (out / ".unpacking-killed/set").mkdir(parents=True)
    unpack(on_disk(tmp_path, WHOLE[kind]), out)
    assert contents(out) == FILES | {"set/mine": b"kept"}
    assert not any(path.name.startswith(".") for path in out.iterdir())


def test_a_folder_may_be_named_without_those_it_is_in(tmp_path):
    folder = tarfile.TarInfo("set/images/")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    for number, content in enumerate((tar({}, "w", (folder, b"")), zipped({"set/images/": b""}))):
        unpack(on_disk(tmp_path, content), tmp_path / str(number))
        assert not contents(tmp_path / str(number))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_whose_last_file_is_a_zip_is_a_tar(tmp_path, mode):
    files = FILES | {"set/last.zip": zipped({"inside.txt": b"not to be unpacked"})}
    path = on_disk(tmp_path, tar(files, mode))
    unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == files
    damaged = bytearray(path.read_bytes())
    damaged[0] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StudyError, match="cannot be unpacked"):
        unpack(path, tmp_path / "damaged")


def test_a_zip_of_a_tar_and_an_empty_zip_are_zips(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive", "w", zipfile.ZIP_STORED) as made:
        made.writestr("set.tar", WHOLE["tar"])
    unpack(tmp_path / "archive", tmp_path / "out")
    unpack(on_disk(tmp_path, zipped({})), tmp_path / "out")
    assert contents(tmp_path / "out") == {"set.tar": WHOLE["tar"]}


ESCAPES = ["../evil", "set/../../evil", "/tmp/evil-of-the-tests", "..\\evil", "C:\\evil", "C:/evil"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("make", [tar, zipped])
def test_refuses_to_leave_the_folder(tmp_path, name, make):
    check_refused(tmp_path, make(FILES | {name: b"evil"}), "leads out of")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_refuses_links_and_devices(tmp_path, kind):
    odd = tarfile.TarInfo("set/odd")
    odd.type, odd.linkname = kind, "set/list.txt"
    check_refused(tmp_path, tar(FILES, "w", (odd, b"")), "is a link, a device or sparse")


def test_refuses_links_in_zip(tmp_path):
    link = zipfile.ZipInfo("set/link")
    link.external_attr = 0o120777 << 16
    check_refused(tmp_path, zipped({}, (link, b"/etc/passwd")), "link or a device")


def check_refused(tmp_path, content, said):
    path, out = on_disk(tmp_path, content), tmp_path / "deep/er/out"
    with pytest.raises(StudyError, match=said) as caught:
        unpack(path, out)
    assert str(path) in str(caught.value)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path] and list(out.iterdir()) == []


@pytest.mark.parametrize("kind", WHOLE)
def test_every_truncation_is_an_error(tmp_path, kind):
    whole = WHOLE[kind]
    # A tar ends with blocks of zeros, of which the first is needed and the rest is padding.
    needed = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)
    out = tmp_path / "out"
    for length in {*range(0, needed, 97), needed - 1, *(range(512, needed, 512) if kind == "tar" else ())}:
        (tmp_path / "archive").write_bytes(whole[:length])
        with pytest.raises(StudyError, match="cannot be unpacked|damaged"):
            unpack(tmp_path / "archive", out)
        assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", WHOLE)
def test_flipped_bytes_never_do_harm(tmp_path, kind):
    """100 flips: an error and an empty folder, or an archive that is read; from formats with sums, read right."""
    chance, whole, path, refused = random.Random(kind), WHOLE[kind], tmp_path / "archive", 0
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
    check_refused(tmp_path, tar(FILES | {"a/" * 1500 + "b": b"deep"}), "has an entry 1501 folders deep")
    holes = tarfile.TarInfo("set/holes")
    holes.type = tarfile.GNUTYPE_SPARSE
    check_refused(tmp_path, tar(FILES, "w", (holes, b"")), "cannot be unpacked|is a link, a device or sparse")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("first", [True, False])
def test_refuses_headers_that_would_fill_the_memory(tmp_path, mode, first):
    """tarfile takes them in whole; of zeros, 3 GB are 14 MB in a tgz."""
    large, small = tarfile.TarInfo("set/large"), tarfile.TarInfo("set/small")
    large.pax_headers, small.pax_headers = {"comment": "x" * 100_000}, {"comment": "x" * 1000}
    content = tar({} if first else FILES, mode, (small, b""), (large, b""))
    check_refused(tmp_path, content, "cannot be unpacked .TarError: a header of 100,0.. bytes")
    unpack(on_disk(tmp_path, tar(FILES, mode, (small, b""))), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES | {"set/small": b""}


def test_a_folder_in_the_way_of_a_file_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "out/set/list.txt").mkdir(parents=True)
    with pytest.raises(StudyError, match="list.txt is a folder in the way of a file: move it away"):
        unpack(on_disk(tmp_path, WHOLE["tar"]), tmp_path / "out")
    assert contents(tmp_path / "out") == {}
