"""Downloads that would lose something: two at once, files of somebody's own in the way."""
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.datasets import archives
from pipeline.study import StudyError
from stages import download
from tests.datasets.served import archive, official
from tests.datasets.tiny import change


def test_two_downloads_at_once_are_one(tiny, monkeypatch, tmp_path, capfd):
    (tmp_path / "set.tar").write_bytes(official({"set/list.txt": b"a"}))
    change(monkeypatch, tiny, "voc", archives=(archive(str(tmp_path / "set.tar"), name="set.tar", md5=None, size=None),))
    unpacked, unpack = [], archives.unpack

    def slowly(path, folder):
        unpacked.append(path)
        time.sleep(.3)
        unpack(path, folder)
    monkeypatch.setattr(archives, "unpack", slowly)
    monkeypatch.setattr(os, "getpid", threading.get_ident)  # here threads are what processes are elsewhere
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(download.main, ["voc", "voc"]))
    assert len(unpacked) == 1 and "another process fetches voc" in capfd.readouterr().err
    assert (tiny.artifacts("data", "voc") / "set/list.txt").read_bytes() == b"a"


@pytest.mark.parametrize("source", ["artifacts/tiny/data/voc/VOCdevkit", "artifacts/paper/data/voc", "mine"])
def test_a_source_that_stages_would_delete_is_refused(tiny, monkeypatch, tmp_path, source):
    place = tiny.artifacts("data", "voc") / "VOCdevkit"
    place.mkdir(parents=True)
    (place / "only copy").touch()
    (tmp_path / "mine").symlink_to(place)
    change(monkeypatch, tiny, "voc", folder=source)
    with pytest.raises(StudyError, match=f"the source {source} lies in artifacts/, .* move it elsewhere"):
        download.main("voc")
    assert (place / "only copy").exists()


@pytest.mark.parametrize("source", [{}, {"archives": ()}, {"folder": "theirs"}])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_place_of_the_data_is_named(tiny, monkeypatch, tmp_path, source, there):
    out, theirs = tiny.artifacts("data", "voc"), tmp_path / "theirs"
    out.parent.mkdir(parents=True)
    out.symlink_to(theirs)
    if there:
        theirs.mkdir()
        (theirs / "picture").touch()
    change(monkeypatch, tiny, "voc", **source)
    with pytest.raises(StudyError, match="artifacts/tiny/data/voc is a link, .* remove the link"):
        download.main("voc")
    assert os.path.exists(theirs) == there and (not there or (theirs / "picture").exists())
