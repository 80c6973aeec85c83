"""Damaged and hostile archives by chance: an error, and nothing wrong on disk. A sample here, 1,000 cases in `make drills`."""
import gzip
import hashlib
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.datasets import archives
from pipeline.datasets.unpacking import unpack
from pipeline.schema import Archive
from pipeline.study import StudyError
from tests.datasets.damage import CASES, FILES, damaged
from tests.datasets.packed import tar, zipped

LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
LEAVING = ["../evil", "set/../../evil", "/tmp/evil-{}", "..\\evil", "C:/evil", "set/./../../evil", "//evil", "..", "../../../../tmp/evil-{}"]


WHOLE = {"tar": tar(FILES), "tgz": tar(FILES, "w:gz"), "zip": zipped(FILES)}


def entry(name, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/passwd", size
    return info


def hostile(chance: random.Random, number: int) -> bytes:
    """An archive with one entry that nobody should unpack."""
    kind, mode = chance.choice(["leaves", "link", "huge", "twice"]), chance.choice(["w", "w:gz"])
    if kind == "leaves":
        name = chance.choice(LEAVING).format(number)
        return zipped(FILES, (zipfile.ZipInfo(name), b"evil")) if chance.random() < .5 else tar(FILES, mode, (entry(name, size=4), b"evil"))
    if kind == "link":
        if chance.random() < .3:
            info = zipfile.ZipInfo("set/odd")
            info.external_attr = chance.choice([0o120777, 0o060644, 0o020644, 0o010644]) << 16
            return zipped(FILES, (info, b"/etc/passwd"))
        return tar(FILES, mode, (entry("set/odd", chance.choice(LINKS)), b""))
    if kind == "twice":
        name = chance.choice(list(FILES))
        if chance.random() < .5:
            with pytest.warns(UserWarning, match="Duplicate name"):
                return zipped(FILES, (zipfile.ZipInfo(name), b"other"))
        return tar(FILES, mode, (entry(list(FILES)[0], size=5), b"other"))
    size = chance.choice([1 << 50, 1 << 62])
    if chance.random() < .5:  # a header that says so, and nothing behind it
        body = entry("set/huge", size=size).tobuf(tarfile.GNU_FORMAT)
        return body if mode == "w" else gzip.compress(body)
    whole = zipped(FILES, (zipfile.ZipInfo("huge"), b"0" * 100))
    at = whole.rindex(b"PK\x01\x02")  # the last entry of the central directory: sizes at 20 and 24
    return whole[:at + 24] + struct.pack("<I", 0xfffffff0) + whole[at + 28:]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("cases", CASES)
def test_downloads_that_are_not_what_they_should_be(tmp_path, cases):
    """With the checksum of params.yaml: whatever is wrong with the file, nothing is unpacked."""
    (tmp_path / "data").mkdir()
    for number in cases:
        chance = random.Random(number)
        kind = chance.choice(list(WHOLE))
        wanted = Archive(name="set.bin", mirrors=(str(tmp_path / "mirror.bin"),), md5=hashlib.md5(WHOLE[kind]).hexdigest(),
                         size=chance.choice([None, len(WHOLE[kind])]))
        changed = damaged(chance, WHOLE[kind]) if number % 3 else hostile(chance, number)
        if changed == WHOLE[kind]:
            continue
        (tmp_path / "mirror.bin").write_bytes(changed)
        with pytest.raises(StudyError, match=r"set.bin could not be had(.|\n)*(has MD5|bytes, not)"):
            archives.fetch_all((wanted,), tmp_path / "data", tmp_path / "cache")
        assert not tree(tmp_path / "data") and set(tree(tmp_path / "cache")) == {".set.bin.lock"}


@pytest.mark.parametrize("cases", CASES)
def test_archives_that_nobody_vouched_for(tmp_path, cases):
    """Without a checksum: an error and an empty folder, or exactly what the archive's own sums vouch for."""
    before, refused = set(Path("/tmp").glob("evil*")), 0
    out = tmp_path / "deep/er/out"
    for number in cases:
        chance = random.Random(number)
        kind = chance.choice(["tgz", "zip"])
        bad = number % 2 == 0
        (tmp_path / "archive").write_bytes(hostile(chance, number) if bad else damaged(chance, WHOLE[kind]))
        try:
            unpack(tmp_path / "archive", out)
        except StudyError as error:
            refused += 1
            assert str(tmp_path / "archive") in str(error) and "\n" not in str(error)
            assert list(out.iterdir()) == []
        else:
            assert not bad, f"case {number} was unpacked: {sorted(tree(out))}"
            found = tree(out)
            assert sorted(found.values()) == sorted(FILES.values()) if kind == "zip" else found == FILES  # zip sums no names
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        assert tree(tmp_path) == {"archive": (tmp_path / "archive").read_bytes()}
    assert refused > 0.8 * len(cases) and set(Path("/tmp").glob("evil*")) == before
