"""Downloads that would lose something, two at once or files of somebody's own in the way; disks that are full; what was stopped."""
import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from pipeline.datasets import archives, mirrors, pool, preparation, unpacking
from pipeline.study import StudyError
from stages import download, prepare
from tests.datasets.packed import placed, tar
from tests.datasets.served import BODY, Handler, archive


def test_two_downloads_at_once_are_one(tiny, use, monkeypatch, tmp_path, capfd):
    use(archives=(placed(tmp_path / "set.tar", tar({"set/list.txt": b"a"})),))
    unpacked, unpack = [], archives.unpack

    def slowly(path, folder):
        unpacked.append(path)
        time.sleep(.3)
        unpack(path, folder)
    monkeypatch.setattr(archives, "unpack", slowly)
    monkeypatch.setattr(os, "getpid", threading.get_ident)  # here threads are what processes are elsewhere
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(download.main, ["voc", "voc"]))
    assert len(unpacked) == 1 and "another process is at work on voc" in capfd.readouterr().err
    assert (tiny.artifacts("data", "voc") / "set/list.txt").read_bytes() == b"a"


@pytest.mark.parametrize("header, value", [("Location", "http://["), ("Content-Length", "\xb2"), ("Content-Length", "9" * 5000)])
def test_an_answer_that_makes_no_sense_is_its_mirrors_fault(server, tmp_path, monkeypatch, header, value):
    def answer(handler):
        if not handler.path.startswith("/odd/"):
            return Handler.do_GET(handler)
        handler.send_response(302 if header == "Location" else 200)
        handler.send_header(header, value)
        return handler.end_headers()
    monkeypatch.setattr(server, "RequestHandlerClass", type("Odd", (Handler,), {"do_GET": answer}))
    with pytest.raises(StudyError, match="is no valid URL, or leads to none.*, or the answer's length no number"):
        archives.fetch(archive(f"{server.url}/odd/a.bin"), tmp_path)
    assert archives.fetch(archive(f"{server.url}/odd/a.bin", f"{server.url}/ok/a.bin"), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("source", [{}, {"archives": ()}, {"folder": "theirs"}])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_place_of_the_data_is_named(tiny, use, tmp_path, source, there):
    out, theirs = tiny.artifacts("data", "voc"), tmp_path / "theirs"
    out.parent.mkdir(parents=True)
    out.symlink_to(theirs)
    if there:
        theirs.mkdir()
        (theirs / "picture").touch()
    use(**source)
    with pytest.raises(StudyError, match="artifacts/tiny/data/voc is a link, .* remove the link"):
        download.main("voc")
    assert os.path.exists(theirs) == there and (not there or (theirs / "picture").exists())


def full(*arguments, **more):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("optional", [True, False])
def test_a_disk_that_is_full_while_unpacking_is_not_the_archives_fault(tmp_path, monkeypatch, optional):
    """Nor is an optional archive done then."""
    wanted = placed(tmp_path / "set.tar", tar({"set/list.txt": b"a"})).model_copy(update={"optional": optional})
    monkeypatch.setattr(unpacking.shutil, "copyfileobj", full)
    with pytest.raises(StudyError, match="set.tar cannot be unpacked into .*data: No space left on device. Mend that and") as caught:
        archives.fetch_all((wanted,), tmp_path / "data", tmp_path / "archives")
    assert "delete" not in str(caught.value) and list((tmp_path / "data").iterdir()) == []


def test_an_optional_archive_that_is_damaged_stops(tmp_path):
    wanted = placed(tmp_path / "set.tar", tar({"set/list.txt": b"a"})[:700]).model_copy(update={"optional": True})
    with pytest.raises(StudyError, match="cannot be unpacked .* delete it"):
        archives.fetch_all((wanted,), tmp_path / "data", tmp_path / "archives")


def test_sizes_that_do_not_fit_are_said_in_bytes(tmp_path, monkeypatch):
    (tmp_path / "set.tar").write_bytes(tar({"set/256.png": b"a" * 1234}))
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(StudyError, match="256.png has 1,234 bytes, there are 0 on the disk: make room"):
        unpacking.unpack(tmp_path / "set.tar", tmp_path / "data")


class Full:
    """A file on a disk with room for some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content):
        self.file.write(content[:self.room])
        return full()


@pytest.mark.parametrize("optional", [True, False])
def test_a_disk_that_is_full_while_fetching_is_not_the_mirrors_fault(server, tmp_path, monkeypatch, optional):
    open_file = mirrors.Path.open
    monkeypatch.setattr(mirrors.Path, "open", lambda path, mode="r", **more: Full(open_file(path, mode, **more), 1000)
                        if path.name.endswith(".part") else open_file(path, mode, **more))
    wanted = archive(f"{server.url}/ok/a.bin", f"{server.url}/ok/a.bin").model_copy(update={"optional": optional})
    with pytest.raises(StudyError, match="[.]a.bin.part: No space left on device. .* what was fetched is kept") as caught:
        archives.fetch_all((wanted,), tmp_path / "data", tmp_path)
    assert "some other way" not in str(caught.value) and len(server.log) == 1
    assert (tmp_path / ".a.bin.part").stat().st_size == 1000


def test_a_disk_that_is_full_while_shards_are_written_is_named(tiny, monkeypatch, no_room):
    download.main("voc")
    monkeypatch.setattr(preparation, "_digest", lambda task: "part")
    unfinished = tiny.artifacts("unfinished", "voc")
    unfinished.mkdir(parents=True)
    no_room(unfinished / "train_aug-part.arrow")
    monkeypatch.setattr(pool, "workers", lambda: 1)
    with pytest.raises(OSError, match="No space left on device.*: 'artifacts/tiny/unfinished/voc/train_aug-part.arrow'"):
        prepare.main("voc")


def test_prepare_after_half_a_download_says_what_to_do(tiny):
    tiny.artifacts("data", "voc").mkdir(parents=True)
    with pytest.raises(StudyError, match="data/voc is not complete, .*: python -m stages.download voc goes on"):
        prepare.main("voc")


def test_prepare_names_a_half_written_note_and_keeps_the_shards(tiny):
    (note := tiny.artifacts("data", "voc") / "source.json").parent.mkdir(parents=True)
    note.write_text('{"root": "artif')
    (shard := tiny.artifacts("shards", "voc") / "val.arrow").parent.mkdir(parents=True)
    shard.touch()
    with pytest.raises(StudyError, match="data/voc/source.json is damaged"):
        prepare.main("voc")
    assert shard.exists()
