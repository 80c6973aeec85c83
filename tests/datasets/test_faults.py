"""Damaged and hostile downloads by chance: a clear error, and nothing wrong on disk. A sample here, 1,000 cases in `make drills`."""
import gzip
import hashlib
import io
import json
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from pipeline.datasets import archives, coco, native, preparation, voc
from pipeline.datasets.shards import Shard
from pipeline.datasets.unpacking import unpack
from pipeline.schema import Archive
from pipeline.study import StudyError

CASES = [pytest.param(range(60), id="60"), pytest.param(range(60, 1060), id="1000", marks=pytest.mark.drills)]
LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
LEAVING = ["../evil", "set/../../evil", "/tmp/evil-{}", "..\\evil", "C:/evil", "set/./../../evil", "//evil", "..", "../../../../tmp/evil-{}"]


def picture(mode, seed):
    values = np.random.default_rng(seed).integers(0, 21, (30, 40) if mode == "L" else (30, 40, 3)).astype(np.uint8)
    Image.fromarray(values).save(file := io.BytesIO(), "PNG" if mode == "L" else "JPEG")
    return file.getvalue()


BASE = "VOCdevkit/VOC2012"
FILES = {f"{BASE}/JPEGImages/{name}.jpg": picture("RGB", number) for number, name in enumerate("abc")}
FILES |= {f"{BASE}/SegmentationClass/{name}.png": picture("L", number) for number, name in enumerate("abc")}
FILES |= {f"{BASE}/ImageSets/Segmentation/train.txt": b"a\nb\n", f"{BASE}/ImageSets/Segmentation/val.txt": b"c\n"}


def tar(mode, *more):
    """`more`: (TarInfo, content) put in after the first file."""
    with tarfile.open(fileobj=(file := io.BytesIO()), mode=mode) as made:
        for number, (name, content) in enumerate(FILES.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
            for extra, data in more if number == 0 else ():
                made.addfile(extra, io.BytesIO(data))
    return file.getvalue()


def zipped(*more):
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in FILES.items():
            made.writestr(name, content)
        for info, content in more:
            made.writestr(info, content)
    return file.getvalue()


WHOLE = {"tar": tar("w"), "tgz": tar("w:gz"), "zip": zipped()}


@settings(deadline=None, max_examples=60)
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), kind=st.sampled_from(["uint8", "uint16", "int32", "float64"]),
       seed=st.integers(0, 99), compressed=st.booleans(), form=st.sampled_from([1, 3]))
def test_masks_of_sbd_are_what_scipy_reads(tmp_path_factory, shape, kind, seed, compressed, form):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    boundaries, labels = np.empty((20, 1), object), np.random.default_rng(seed).integers(0, 21, shape).astype(kind)
    for number in range(20):
        boundaries[number, 0] = csc_matrix(labels == number)
    struct = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.array([[form]])}
    savemat(path, {"other": labels, "GTcls": struct}, do_compression=compressed)
    expected = loadmat(path)["GTcls"]["Segmentation"][0, 0]
    found = voc.label(native.Item("a", path, path))
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content, said", [({"GTinst": {"Segmentation": 1}}, "no GTcls"), ({"GTcls": {"Boundaries": 1}}, "no field Segmentation"),
                                           ({"GTcls": np.ones((2, 2))}, "not a 1x1 struct"), ({"GTcls": {"Segmentation": "text"}}, "not a mask"),
                                           ({"GTcls": {"Segmentation": np.full((2, 2), 300)}}, "beyond 255")])
def test_other_mat_files_are_refused(tmp_path, content, said):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(OSError, match=said):
        voc.label(native.Item("a", tmp_path / "a.mat", tmp_path / "a.mat"))


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """Some bytes flipped, or the end cut off."""
    if chance.random() < .4:
        return whole[:chance.randrange(len(whole))]
    changed = bytearray(whole)
    for _ in range(chance.choice([1, 1, 3, 20])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def entry(name, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/passwd", size
    return info


def hostile(chance: random.Random, number: int) -> bytes:
    """An archive with one entry that nobody should unpack."""
    kind, mode = chance.choice(["leaves", "link", "huge", "twice"]), chance.choice(["w", "w:gz"])
    if kind == "leaves":
        name = chance.choice(LEAVING).format(number)
        return zipped((zipfile.ZipInfo(name), b"evil")) if chance.random() < .5 else tar(mode, (entry(name, size=4), b"evil"))
    if kind == "link":
        if chance.random() < .3:
            info = zipfile.ZipInfo("set/odd")
            info.external_attr = chance.choice([0o120777, 0o060644, 0o020644, 0o010644]) << 16
            return zipped((info, b"/etc/passwd"))
        return tar(mode, (entry("set/odd", chance.choice(LINKS)), b""))
    if kind == "twice":
        name = chance.choice(list(FILES))
        if chance.random() < .5:
            with pytest.warns(UserWarning, match="Duplicate name"):
                return zipped((zipfile.ZipInfo(name), b"other"))
        return tar(mode, (entry(list(FILES)[0], size=5), b"other"))
    size = chance.choice([1 << 50, 1 << 62])
    if chance.random() < .5:  # a header that says so, and nothing behind it
        body = entry("set/huge", size=size).tobuf(tarfile.GNU_FORMAT)
        return body if mode == "w" else gzip.compress(body)
    whole = zipped((zipfile.ZipInfo("huge"), b"0" * 100))
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
        assert not tree(tmp_path / "data") and not tree(tmp_path / "cache")


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


def sources(root: Path) -> dict[Path, object]:
    """Files of every kind that prepare reads, and what reads them: image, palette label, SBD's .mat, COCO's annotations."""
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    labels = np.asarray(Image.open(io.BytesIO(FILES[f"{BASE}/SegmentationClass/a.png"])))
    savemat(root / "a.mat", {"GTcls": {"Boundaries": np.zeros((20, 1), object), "Segmentation": labels}})
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": 30, "width": 40}],
               "annotations": [{"image_id": 1, "category_id": 17, "area": 1200, "iscrowd": 0, "segmentation": [[1, 1, 38, 1, 38, 28]]}],
               "categories": [{"id": number, "name": name} for name, number in coco.CATEGORY_IDS.items()]}
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    (root / "train2017/a.jpg").write_bytes(FILES[f"{BASE}/JPEGImages/a.jpg"])
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    image = root / f"{BASE}/JPEGImages/a.jpg"
    return {image: lambda: ("voc", voc.splits(root)["train"]), root / f"{BASE}/SegmentationClass/a.png": lambda: ("voc", voc.splits(root)["train"]),
            root / f"{BASE}/ImageSets/Segmentation/train.txt": lambda: ("voc", voc.splits(root)["train"]),
            root / "a.mat": lambda: ("voc", [native.Item("a", image, root / "a.mat")]),
            root / "annotations/instances_train2017.json": lambda: ("coco", coco.splits(root)["train"])}


@pytest.mark.parametrize("cases", CASES)
def test_files_of_a_data_set(tmp_path, cases):
    """Prepared or named in the error; never another error, never a shard with a label that is no class, never half a shard."""
    (tmp_path / "native").mkdir()
    readers, refused = sources(tmp_path / "native"), 0
    for number in cases:
        chance = random.Random(number)
        path, read = chance.choice(list(readers.items()))
        whole = path.read_bytes()
        path.write_bytes(damaged(chance, whole))
        out = tmp_path / f"out/{number}.arrow"
        try:
            dataset, items = read()
            preparation.split(out, tmp_path / "parts", dataset, list(voc.CLASSES), items, distances=True)
        except StudyError as error:
            refused += 1
            assert str(tmp_path / "native") in str(error) or "has no images" in str(error)
            assert not out.exists()
        else:
            for example in (Shard(out)[index] for index in range(len(Shard(out)))):
                assert np.isin(example.label, [*range(21), 255]).all() and example.image.shape[:2] == example.label.shape
        path.write_bytes(whole)
        assert not [each for each in tmp_path.rglob(".*") if each.name.endswith(".part")]
    assert refused > 0.3 * len(cases)
