"""A folder of one's own as a data set's source: used where it lies, with what is odd or broken in it said."""
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline import schema, study
from pipeline.datasets import preparation, voc
from pipeline.datasets.shards import Shard
from pipeline.study import StudyError
from stages import download, prepare
from tests import changed


def test_stages_use_a_folder_where_it_lies(tiny, use, monkeypatch, root, capfd):
    use(folder=str(root))
    download.main("voc")
    prepare.main("voc")
    assert "warning: voc is not complete: train_aug has 10 images, not 10582; val has" in capfd.readouterr().err
    sheet = json.loads((tiny.artifacts("shards", "voc") / "sheet.json").read_text())
    assert sheet["incomplete"] == ["train_aug has 10 images, not 10582", "val has 6 images, not 1449"]
    assert json.loads((tiny.artifacts("data", "voc") / "source.json").read_text())["root"] == str(root)
    assert len(Shard(tiny.artifacts("shards", "voc") / "train_aug.arrow")) == 10
    for split, images in (("train_aug", 10), ("val", 6)):
        monkeypatch.setitem(voc.COUNTS, split, images)
    prepare.main("voc")
    assert "not complete" not in capfd.readouterr().err
    for nowhere in (str(root / "nowhere"), "~nobody-of-that-name/nowhere"):
        use(folder=nowhere)
        with pytest.raises(StudyError, match="nowhere does not exist"):
            download.main("voc")


def test_files_of_all_splits_that_cannot_be_used_are_listed_at_once(tiny, use, monkeypatch, root):
    use(folder=str(root))
    found = voc.splits(root)
    broken = [*found["train_aug"][:5], found["val"][3]]
    for item in broken:
        item.image.write_bytes(b"no picture")
    download.main("voc")
    for shown, cut in ((5, False), (2, True)):
        monkeypatch.setattr(preparation, "SHOWN", shown)
        with pytest.raises(StudyError) as caught:
            prepare.main("voc")
        said, path = str(caught.value), tiny.artifacts("unfinished", "voc") / "unusable.txt"
        assert "voc train_aug: 5 of 10 images" in said and "voc val: 1 of 6 images" in said
        assert ("and 3 more" in said) == (str(path) in said) == path.exists() == cut
        named = [line.partition(": ")[0].strip() for line in (path.read_text() if cut else said).splitlines() if ".jpg: " in line]
        assert named == [str(item.image) for item in broken]


def test_prepare_goes_on_where_it_was(use, monkeypatch, root):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use(folder=str(root))
    broken, load, decoded = voc.splits(root)["val"][3].image, preparation.load, []
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    download.main("voc")
    with pytest.raises(StudyError, match="1 of 6 images"):
        prepare.main("voc")
    broken.write_bytes(whole)
    monkeypatch.setattr(preparation, "load", lambda task, item: decoded.append(item.id) or load(task, item))
    prepare.main("voc")
    assert decoded == [item.id for item in voc.splits(root)["val"]], "train_aug was decoded before"


def test_a_folder_without_the_masks_of_sbd_says_where_they_go(use, root):
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt").unlink()
    use(folder=str(root))
    download.main("voc")
    with pytest.raises(StudyError, match="no split train_aug; there are train, val, trainval. train_aug takes the masks of SBD: docs/data.md"):
        prepare.main("voc")


def test_a_file_of_a_folder_that_was_changed_is_another_folder(tiny, use, root):
    """Even where its size stays the same: what follows runs again."""
    use(folder=str(root))
    notes = []
    for _ in range(2):
        download.main("voc")
        notes.append((tiny.artifacts("data", "voc") / "source.json").read_text())
    assert notes[0] == notes[1]
    label = sorted(root.rglob("SegmentationClass/*.png"))[0]
    label.write_bytes(label.read_bytes())
    download.main("voc")
    assert (tiny.artifacts("data", "voc") / "source.json").read_text() != notes[0]


def test_links_in_a_folder_are_followed_once_and_those_to_nothing_stop_nothing(tiny, use, root, tmp_path):
    mine = tmp_path / "mine/VOCdevkit"
    mine.mkdir(parents=True)
    (mine / "VOC2012").symlink_to(root / "VOCdevkit/VOC2012")
    (mine / "again").symlink_to(mine)
    (mine / "nothing").symlink_to(mine / "nowhere")
    use(folder=str(mine.parent))
    download.main("voc")
    prepare.main("voc")
    assert len(Shard(tiny.artifacts("shards", "voc") / "train_aug.arrow")) == 10
    note = json.loads((tiny.artifacts("data", "voc") / "source.json").read_text())
    assert note["files"] == 1 + sum(path.is_file() for path in (root / "VOCdevkit/VOC2012").rglob("*"))


def test_photos_that_exif_turns_are_counted(use, root, capfd):
    """They are read as stored, and a label that was drawn on an upside-down photo as it is shown has the right size all the same."""
    for item, orientation in zip(voc.splits(root)["val"], (1, 3, 6)):
        with Image.open(item.image) as photo:
            exif = photo.getexif()
            exif[ExifTags.Base.Orientation] = orientation
            photo.save(item.image, "JPEG", exif=exif)
    use(folder=str(root))
    download.main("voc")
    prepare.main("voc")
    said = capfd.readouterr().err
    assert "warning: voc val: EXIF turns 2 photos" in said and "train_aug: EXIF" not in said


def test_a_class_that_is_scored_has_to_occur(tiny, monkeypatch, root):
    """Else whoever leaves the classes of other data in params.yaml reads background's IoU as mIOU."""
    for item in voc.splits(root)["val"]:
        label = np.asarray(Image.open(item.label))
        Image.fromarray(np.where(label == voc.CLASSES.index("cat"), 0, label)).save(item.label)
    evaluation = tiny.settings.voc.evaluate.model_copy(update={"classes": ("background", "cat")})
    folder = changed.dataset(tiny, "voc", source=schema.Source(folder=str(root)), evaluate=evaluation)
    monkeypatch.setattr(study, "load", lambda: folder)
    download.main("voc")
    with pytest.raises(StudyError, match="voc's split val has no pixel of cat: evaluate.classes of voc"):
        prepare.main("voc")


def test_a_folder_may_name_its_classes(tiny, use, root, capfd):
    """It is then no part of VOC, and what its labels have beyond them is refused."""
    classes = [f"kind {number}" for number in range(len(voc.CLASSES))]
    use(folder=str(root), classes=classes)
    download.main("voc")
    prepare.main("voc")
    sheet = json.loads((tiny.artifacts("shards", "voc") / "sheet.json").read_text())
    assert sheet["classes"] == Shard(tiny.artifacts("shards", "voc") / "val.arrow").classes == classes
    assert "incomplete" not in sheet and "not complete" not in capfd.readouterr().err
    use(folder=str(root), classes=classes[:2])
    with pytest.raises(StudyError, match=r"SegmentationClass\w*/\S+\.png: label values \[.+\] are no class \(0 to 1, 255 void\)"):
        prepare.main("voc")


def test_of_imagenet_no_classes_can_be_scored(tiny, monkeypatch):
    evaluation = tiny.settings.imagenet.evaluate.model_copy(update={"classes": ("cat",)})
    told = changed.dataset(tiny, "imagenet", evaluate=evaluation)
    monkeypatch.setattr(study, "load", lambda: told)
    download.main("imagenet")
    with pytest.raises(StudyError, match="imagenet's split val has no pixel of cat: evaluate.classes of imagenet"):
        prepare.main("imagenet")


@pytest.mark.parametrize("split, background, objects, said", [
    ("train_aug", 0, 255, "voc's split train_aug: each labelled pixel is background"),
    ("val", 0, 0, "voc's split val: each labelled pixel is background"), ("val", 255, 255, "voc's split val: no pixel is labelled")])
def test_labels_of_one_class_are_refused(use, root, split, background, objects, said):
    """Masks of 0 and 255 above all: 255 is void, and a network that calls everything background would score 100 %."""
    for item in voc.splits(root)[split]:
        label = np.asarray(Image.open(item.label))
        Image.fromarray(np.where(label == 0, background, objects).astype(np.uint8)).save(item.label)
    use(folder=str(root))
    download.main("voc")
    with pytest.raises(StudyError, match=said):
        prepare.main("voc")
