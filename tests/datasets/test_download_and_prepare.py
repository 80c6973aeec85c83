"""The stages download and prepare, one after the other, at scale tiny."""
import json

import pytest
from PIL import Image

from pipeline import records
from pipeline.datasets import pool
from pipeline.datasets.contact import BYTES
from pipeline.datasets.shards import Shard
from pipeline.study import StudyError
from stages import console, download, prepare
from tests.datasets.served import archive


@pytest.mark.parametrize("name", ["voc", "coco", "cityscapes", "imagenet"])
def test_stages_make_every_data_set(tiny, name):
    download.main(name)
    source = json.loads((tiny.artifacts("data", name) / "source.json").read_text())
    assert source["status"] == "done" and source["files"] > 10
    prepare.main(name)
    out, wanted = tiny.artifacts("shards", name), tiny.dataset(name)
    sheet = json.loads((out / "sheet.json").read_text())
    assert set(sheet["splits"]) == {wanted.train.split, wanted.evaluate.split}
    for split, row in sheet["splits"].items():
        shard = Shard(out / f"{split}.arrow")
        assert len(shard) == row["images"] > 0 and shard.classes == sheet["classes"]
        if name != "imagenet":
            assert (shard[0].distance is not None) == (split == wanted.evaluate.split)
    with Image.open(out / "contact.png") as contact:
        assert (out / "contact.png").stat().st_size < BYTES and len(contact.convert("RGB").getcolors(1 << 24)) > 30
    before = {path: path.read_bytes() for path in sorted(out.iterdir())}
    download.main(name)
    prepare.main(name)
    assert before == {path: path.read_bytes() for path in sorted(out.iterdir())}


def test_stages_skip_what_is_not_configured(tiny, use):
    use()
    download.main("voc")
    prepare.main("voc")
    for kind in ("data", "shards"):
        record = json.loads((tiny.artifacts(kind, "voc") / "record.json").read_text())
        assert record["status"] == "skipped" and "scales.tiny.voc.source" in record["reason"]
    assert json.loads((tiny.artifacts("data", "voc") / "source.json").read_text())["status"] == "skipped"


def test_as_many_processes_decode_as_there_are_cores_or_threads(monkeypatch):
    monkeypatch.setattr(records, "cores", lambda: 5)
    for said, workers in ((None, 5), ("3", 3), ("9", 5), ("0", 1), ("all", 5), ("²", 5)):
        monkeypatch.setenv("OMP_NUM_THREADS", said) if said else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert pool.workers() == workers


def test_what_stages_leave_beside_the_files_of_an_archive_is_not_counted(tmp_path):
    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / "VOCdevkit" / "source.json").write_text("the data set's own")
    before = download.listing(tmp_path)
    (tmp_path / ".unpacked").mkdir()
    for name in ("source.json", "record.json", ".unpacked/a.tar"):
        (tmp_path / name).write_text("{}")
    assert download.listing(tmp_path) == before and before[0] == 1
    assert download.listing(tmp_path, changing=True)[0] == 4, "somebody's own folder"


def test_a_wrong_count_fails(tiny):
    download.main("voc")
    lists = tiny.artifacts("data", "voc") / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    lines = (lists / "val.txt").read_text().splitlines()
    (lists / "val.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(StudyError, match="val has 3 images, not 4. dvc repro --force download@voc makes it anew$"):
        prepare.main("voc")


def test_archives_must_hold_the_full_data_set(use):
    download.main("voc")
    use(archives=(archive("/a.tar", name="a.tar"), archive("/b.tar", name="b.tar", md5=None)))
    with pytest.raises(StudyError, match="train_aug has 8 images, not 10582; val has 4 images, not 1449. .*; first delete b.tar in artifacts/archives, .*no md5"):
        prepare.main("voc")


def test_prepare_before_download_says_what_to_do(tiny):
    tiny.artifacts("shards", "voc").mkdir(parents=True)  # what a `prepare` that failed leaves
    with pytest.raises(StudyError, match="artifacts/tiny/shards/voc is not there yet: make study, or dvc repro, makes"):
        console.upstream_skipped(tiny.artifacts("shards", "voc"))
    with pytest.raises(StudyError, match="artifacts/tiny/data/voc is not there yet: make study, or dvc repro, makes"):
        prepare.main("voc")


def test_an_unknown_data_set_is_refused(tiny):
    with pytest.raises(StudyError, match="did you mean coco"):
        download.main("cocoo")


def test_a_record_that_lies_in_the_data_is_not_obeyed(tiny, use, monkeypatch):
    """From an earlier skip, or from an archive."""
    out = tiny.artifacts("data", "voc")

    def brought(archives, out, cache):
        out.mkdir(parents=True)
        (out / "picture.jpg").write_text("")
        (out / "record.json").write_text('{"status": "skipped", "reason": "told so"}')
    monkeypatch.setattr("pipeline.datasets.archives.fetch_all", brought)
    use(archives=())
    download.main("voc")
    assert not (out / "record.json").exists() and json.loads((out / "source.json").read_text())["status"] == "done"


def test_a_damaged_note_of_a_part_is_made_again(tiny, use, monkeypatch, root):
    use(folder=str(root))
    download.main("voc")
    kept = []
    monkeypatch.setattr("shutil.rmtree", lambda path, **more: kept.append(path))
    prepare.main("voc")
    notes = list(tiny.artifacts("unfinished", "voc").glob("*.json"))
    sheet = (tiny.artifacts("shards", "voc") / "sheet.json").read_text()
    for path in (notes[0], notes[0].with_suffix(".arrow")):
        path.unlink()  # the shard is a hard link to it
        path.touch()
        prepare.main("voc")
        assert kept and (tiny.artifacts("shards", "voc") / "sheet.json").read_text() == sheet and path.stat().st_size
        assert len(Shard(tiny.artifacts("shards", "voc") / "train_aug.arrow")) == 10
