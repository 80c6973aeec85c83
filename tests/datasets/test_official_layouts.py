"""Archives in the official layouts, from the server to the splits and labels that the readers find."""
import hashlib
import io
import json

import numpy as np
from PIL import Image
from scipy.io import savemat

from pipeline import progress
from pipeline.datasets import archives, cityscapes, coco, voc
from tests.datasets.packed import tar, zipped
from tests.datasets.served import archive, dead, png


def mat(labels):
    """As SBD's cls/*.mat: GTcls, a struct with Boundaries, Segmentation and CategoriesPresent."""
    file = io.BytesIO()
    boundaries = np.zeros((20, 1), object)
    savemat(file, {"GTcls": {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.array([[3]])}})
    return file.getvalue()


def test_voc_and_sbd_from_their_archives(server, tmp_path, monkeypatch):
    """train_aug = (VOC train + SBD train + SBD val) - VOC val, sorted; VOC's mask where both have one."""
    base, sbd = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
    mask = {name: np.full((4, 6), number, np.uint8) for number, name in enumerate(("t1", "t2", "v1", "s1", "s2"))}
    jpeg = io.BytesIO()
    Image.new("RGB", (6, 4)).save(jpeg, "JPEG")
    files = {f"{base}/JPEGImages/{name}.jpg": jpeg.getvalue() for name in mask}
    files |= {f"{base}/SegmentationClass/{name}.png": png(mask[name]) for name in ("t1", "t2", "v1")}
    files |= {f"{base}/ImageSets/Segmentation/{name}.txt": text for name, text in
              (("train", b"t2\nt1\n"), ("val", b"v1\n"), ("trainval", b"t1\nt2\nv1\n"))}
    extra = {f"{sbd}/cls/{name}.mat": mat(mask[name] + 10) for name in ("s2", "s1", "t1", "v1")}
    extra |= {f"{sbd}/train.txt": b"s2\nv1\n", f"{sbd}/val.txt": b"s1\nt1\n"}
    server.files = {"VOCtrainval_11-May-2012.tar": tar(files), "benchmark.tgz": tar(extra, "w:gz")}
    wanted = tuple(
        archive(dead(), f"{server.url}/breaks/{name}", name=name, md5=hashlib.md5(content).hexdigest(), size=len(content))
        for name, content in server.files.items())
    shown, bar = [], progress.bar
    monkeypatch.setattr(progress, "bar", lambda title, *rest, **options: shown.append(title) or bar(title, *rest, **options))
    archives.fetch_all(wanted, tmp_path / "data", tmp_path / "archives")
    assert set(shown) == {*server.files, *(f"unpack {name}" for name in server.files)}
    found = voc.splits(tmp_path / "data")
    assert [item.id for item in found["train_aug"]] == ["s1", "s2", "t1", "t2"]
    assert [int(voc.label(item)[0, 0]) for item in found["train_aug"]] == [13, 14, 0, 1]
    assert [item.id for item in found["trainval"]] == ["t1", "t2", "v1"]
    assert [item.id for item in found["val"]] == ["v1"] and voc.label(found["val"][0]).shape == (4, 6)
    asked = len(server.log)
    archives.fetch_all(wanted, tmp_path / "data", tmp_path / "archives")
    assert len(server.log) == asked


def served_by(server, names):
    return tuple(archive(f"{server.url}/ok/{name}", name=name, md5=hashlib.md5(server.files[name]).hexdigest(), size=None) for name in names)


def test_coco_and_cityscapes_from_their_archives(server, tmp_path):
    """The official archives' layouts: COCO's unpack to train2017, val2017, annotations; Cityscapes' to leftImg8bit, gtFine, gtCoarse."""
    picture, labels = io.BytesIO(), np.full((4, 6), 7, np.uint8)
    Image.new("RGB", (6, 4)).save(picture, "PNG")
    names = {"leftImg8bit_trainvaltest.zip": [("leftImg8bit", "train", "aachen"), ("leftImg8bit", "val", "munster"),
                                              ("leftImg8bit", "test", "berlin")],
             "leftImg8bit_trainextra.zip": [("leftImg8bit", "train_extra", "erlangen")],
             "gtFine_trainvaltest.zip": [("gtFine", "train", "aachen"), ("gtFine", "val", "munster"), ("gtFine", "test", "berlin")],
             "gtCoarse.zip": [("gtCoarse", "train", "aachen"), ("gtCoarse", "train_extra", "erlangen")]}
    for name, folders in names.items():
        files = {"license.txt": b"may be used"}
        for kind, split, city in folders:
            ending, content = ("leftImg8bit", picture.getvalue()) if kind == "leftImg8bit" else (f"{kind}_labelIds", png(labels))
            files |= {f"{kind}/{split}/{city}/{city}_000000_000019_{ending}.png": content,
                      f"{kind}/{split}/{city}/.DS_Store": b"of somebody's desktop"}
        server.files[name] = zipped(files)
    archives.fetch_all(served_by(server, names), tmp_path / "cityscapes", tmp_path / "archives")
    found = cityscapes.splits(tmp_path / "cityscapes")
    assert {split: [item.id for item in items] for split, items in found.items()} == {
        "train": ["aachen_000000_000019"], "val": ["munster_000000_000019"], "train_extra": ["erlangen_000000_000019"],
        "trainval": ["aachen_000000_000019", "munster_000000_000019"], "train_coarse": ["aachen_000000_000019", "erlangen_000000_000019"],
        "trainval_coarse": ["aachen_000000_000019", "erlangen_000000_000019", "munster_000000_000019"]}
    assert "gtFine/train" in str(found["train_coarse"][0].label) and "gtCoarse/train_extra" in str(found["train_coarse"][1].label)
    assert all((cityscapes.label(items[0]) == 0).all() for items in found.values())  # label id 7 is road, train id 0
    assert "gtCoarse/train_extra" in str(found["train_extra"][0].label)
    assert [item.id for item in cityscapes.images(tmp_path / "cityscapes", "test")] == ["berlin_000000_000019"]

    categories = [{"id": number, "name": name} for name, number in coco.CATEGORY_IDS.items()]
    content = {"images": [{"id": 9, "file_name": "000000000009.jpg", "height": 60, "width": 80}], "annotations": [
        {"id": 1, "image_id": 9, "category_id": 17, "area": 1200, "iscrowd": 0, "segmentation": [[10, 10, 50, 10, 50, 40, 10, 40]]}],
        "categories": categories}
    files = {"val2017.zip": zipped({"val2017/000000000009.jpg": picture.getvalue()}),
             "annotations_trainval2017.zip": zipped({"annotations/instances_val2017.json": json.dumps(content).encode()})}
    server.files |= files
    archives.fetch_all(served_by(server, files), tmp_path / "coco", tmp_path / "archives")
    items = coco.splits(tmp_path / "coco")["val"]
    assert [item.image.name for item in items] == ["000000000009.jpg"] and items[0].image.is_file()
    assert (coco.label(items[0]) == voc.CLASSES.index("cat")).sum() > 1000
