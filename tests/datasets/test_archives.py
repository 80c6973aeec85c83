"""Downloads against a server on this machine that breaks, lies and redirects; the archives have the official layouts."""
import base64
import hashlib
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from urllib.parse import quote, quote_plus

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline.datasets import archives, cityscapes, coco, voc
from pipeline.schema import Archive
from pipeline.study import ROOT, StudyError

BODY = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/BEHAVIOUR/NAME serves `server.files[NAME]` in the way that BEHAVIOUR says."""

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.path == "/login" and sent == b"username=ann&password=ge+heim&submit=Login"
        self.send_response(302 if right else 200)
        if right:
            self.send_header("Location", "/missing/nothing")
            self.send_header("Set-Cookie", "session=abc")
        self.end_headers()

    def do_GET(self):
        _, behaviour, name = self.path.partition("?")[0].split("/")
        self.server.log.append((behaviour, self.headers.get("Range")))
        body = self.server.files[name]
        if behaviour in ("members", "md5-sum") and self.headers.get("Cookie") != "session=abc":
            return self.send_error(403)
        if behaviour == "missing":
            return self.send_error(404)
        if behaviour == "busy-once" and len(self.server.log) == 1:
            return self.send_error(503)
        if behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/ok/{name}")
            return self.end_headers()
        if behaviour == "other-bytes":
            body = bytes([body[0] ^ 1]) + body[1:]
        if behaviour == "shorter":
            body = body[:-7]
        start = 0
        if (asked := self.headers.get("Range")) and behaviour != "no-ranges":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if behaviour != "no-length":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body)
        if behaviour in ("breaks", "no-length") and not (behaviour == "no-length" and len(self.server.log) > 1):
            end = min(len(body), start + 100_000)
        if behaviour == "breaks-at-once":
            end = start
        self.wfile.write(body[start:end])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(archives, "PAUSE", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.log = {"a.bin": BODY}, []
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=[.01], daemon=True).start()
        yield running
        running.shutdown()


def archive(*mirrors, md5=MD5, size=len(BODY), name="a.bin"):
    return Archive(name=name, mirrors=mirrors, md5=md5, size=size)


def dead():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/a.bin"


@pytest.mark.parametrize("behaviour", ["ok", "redirect", "breaks", "no-ranges", "busy-once", "no-length"])
@pytest.mark.parametrize("known", [True, False])
def test_fetches(server, tmp_path, behaviour, known):
    wanted = archive(f"{server.url}/{behaviour}/a.bin", **({} if known else {"size": None}))
    if behaviour == "no-length" and not known:  # then a break looks like the end, and only the checksum tells
        with pytest.raises(StudyError, match="MD5"):
            archives.fetch(wanted, tmp_path)
        assert list(tmp_path.iterdir()) == []
        return
    path = archives.fetch(wanted, tmp_path)
    assert path == tmp_path / "a.bin" and path.read_bytes() == BODY
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]
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


def test_without_checksum_nothing_is_joined(server, tmp_path):
    (tmp_path / ".a.bin.part").write_bytes(b"x" * 1000)
    assert archives.fetch(archive(f"{server.url}/ok/a.bin", md5=None), tmp_path).read_bytes() == BODY
    assert server.log == [("ok", None)]


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
    assert all(mirror in str(caught.value) for mirror in mirrors) and str(tmp_path / "a.bin") in str(caught.value)


def test_secrets_in_an_address_are_not_shown(tmp_path):
    address = dead().replace("http://", "http://ann:geheim@") + "?token=verborgen"
    with pytest.raises(StudyError) as caught:
        archives.fetch(archive(address), tmp_path)
    assert "127.0.0.1" in str(caught.value) and not any(secret in str(caught.value) for secret in ("ann", "geheim", "verborgen"))


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


def test_cityscapes_logs_in(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(archives, "CITYSCAPES", server.url)
    wanted = archive(f"{server.url}/members/a.bin?packageID=1")
    for name, password, said in ((None, None, "needs a login.*CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD"),
                                 ("ann", "wrong-geheim", "refused the login"), ("ann", "ge heim", None)):
        archives._cityscapes.cache_clear()
        for key, value in (("CITYSCAPES_USERNAME", name), ("CITYSCAPES_PASSWORD", password)):
            monkeypatch.setenv(key, value) if value else monkeypatch.delenv(key, raising=False)
        if said:
            with pytest.raises(StudyError, match=said) as caught:
                archives.fetch(wanted, tmp_path)
            assert "geheim" not in str(caught.value) and "ann" not in str(caught.value).replace("cannot", "")
        else:
            assert archives.fetch(wanted, tmp_path).read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert "heim" not in "".join(capfd.readouterr())


def test_cityscapes_archives_are_checked_by_the_published_sum(server, tmp_path, monkeypatch):
    """`/md5-sum/?packageID=1` answers "MD5 NAME", as cityscapesscripts' downloader reads it."""
    monkeypatch.setattr(archives, "CITYSCAPES", server.url)
    monkeypatch.setenv("CITYSCAPES_USERNAME", "ann")
    monkeypatch.setenv("CITYSCAPES_PASSWORD", "ge heim")
    archives._cityscapes.cache_clear()
    wanted = archive(f"{server.url}/members/a.bin?packageID=1", md5=None, size=None)
    server.files[""] = f"{MD5}  a.bin".encode()
    (tmp_path / ".a.bin.part").write_bytes(BODY[:1000])
    assert archives.fetch(wanted, tmp_path).read_bytes() == BODY
    assert [each for each in server.log if each[0] == "members"] == [("members", "bytes=1000-")]  # a sum known is a break survived
    for said, content in (("has MD5", b"0" * 32 + b" a.bin"), ("does not tell the checksum", b"")):
        (tmp_path / "a.bin").unlink(missing_ok=True)
        server.files[""] = content
        with pytest.raises(StudyError, match=said):
            archives.fetch(wanted, tmp_path)
        assert not (tmp_path / "a.bin").exists()
    archives._cityscapes.cache_clear()


DOWNLOAD = """
import sys
from pipeline import schema, study
from pipeline.datasets import archives
from stages import console, download
archives.CITYSCAPES, archives.PAUSE = sys.argv.pop(1), 0
settings = study.load()
names = ("a.tar", "b.tar")
source = schema.Source(archives=tuple(schema.Archive(name=name, mirrors=(f"{archives.CITYSCAPES}/members/{name}?packageID=1",)) for name in names))
cityscapes = settings.settings.cityscapes.model_copy(update={"source": source})
scale = settings.settings.model_copy(update={"cityscapes": cityscapes})
changed = settings.model_copy(update={"scales": {**settings.scales, settings.scale: scale}})
study.load = lambda: changed
console.run(download.download)
"""


@pytest.mark.parametrize("password, done", [("ge heim", True), ("Ver/borgen+1", False)])
def test_a_secret_is_in_no_file_log_or_process_list(server, tmp_path, monkeypatch, password, done):
    """The whole stage in a process of its own; while it downloads, the server looks at the process list."""
    server.files = {"a.tar": official({"leftImg8bit/a.png": BODY}), "b.tar": b"no archive", "": b""}
    seen = []

    def listing(handler):
        seen.append(subprocess.run(["ps", "axww", "-o", "pid,args"], capture_output=True, text=True, check=True).stdout)
        Handler.do_GET(handler)
    monkeypatch.setattr(server, "RequestHandlerClass", type("Watching", (Handler,), {"do_GET": listing}))
    server.files[""] = hashlib.md5(server.files["a.tar"]).hexdigest().encode()
    environment = os.environ | {"CITYSCAPES_USERNAME": "ann", "CITYSCAPES_PASSWORD": password, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", DOWNLOAD, server.url, "cityscapes"], cwd=tmp_path, env=environment, text=True,
                         capture_output=True, check=False)
    assert ran.returncode == 1 and ("has MD5" if done else "refused the login") in ran.stderr  # the second archive, or the login
    assert bool(seen) == done and all("cityscapes" in each for each in seen)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "a.tar" for path in left) == done
    texts = [ran.stdout, ran.stderr, *seen, *(path.read_bytes().decode("latin-1") for path in left), *map(str, left)]
    secrets = {password, quote(password), quote(password, safe=""), quote_plus(password), base64.b64encode(password.encode()).decode()}
    assert not [secret for secret in secrets for text in texts if secret in text]


def test_an_optional_archive_may_be_missing(server, tmp_path, capfd):
    server.files = {"set.tar": official({"set/list.txt": b"a"}), "test.tar": official({"set/test.txt": b"b"})}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in server.files.items()}
    needed = archive(f"{server.url}/ok/set.tar", name="set.tar", md5=sums["set.tar"], size=None)
    extra = archive(dead(), name="test.tar", md5=sums["test.tar"], size=None).model_copy(update={"optional": True})
    archives.fetch_all((extra, needed), tmp_path / "data", tmp_path / "archives")
    assert [path.name for path in (tmp_path / "data/set").iterdir()] == ["list.txt"]
    assert "goes on without it: test.tar could not be had" in capfd.readouterr().err
    extra = extra.model_copy(update={"mirrors": (f"{server.url}/ok/test.tar",)})
    archives.fetch_all((extra, needed), tmp_path / "data", tmp_path / "archives")
    assert (tmp_path / "data/set/test.txt").read_bytes() == b"b"
    with pytest.raises(StudyError, match="could not be had"):
        archives.fetch_all((archive(dead(), name="other.tar"),), tmp_path / "data", tmp_path / "archives")


def png(labels):
    image, file = Image.fromarray(labels), io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def official(names, mode="w"):
    """A tar of {path: bytes}."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as made:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def mat(labels):
    """As SBD's cls/*.mat: GTcls, a struct with Boundaries, Segmentation and CategoriesPresent."""
    file = io.BytesIO()
    boundaries = np.zeros((20, 1), object)
    savemat(file, {"GTcls": {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.array([[3]])}})
    return file.getvalue()


def test_voc_and_sbd_from_their_archives(server, tmp_path):
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
    server.files = {"VOCtrainval_11-May-2012.tar": official(files), "benchmark.tgz": official(extra, "w:gz")}
    wanted = tuple(
        archive(dead(), f"{server.url}/breaks/{name}", name=name, md5=hashlib.md5(content).hexdigest(), size=len(content))
        for name, content in server.files.items())
    archives.fetch_all(wanted, tmp_path / "data", tmp_path / "archives")
    found = voc.splits(tmp_path / "data")
    assert [item.id for item in found["train_aug"]] == ["s1", "s2", "t1", "t2"]
    assert [int(voc.label(item)[0, 0]) for item in found["train_aug"]] == [13, 14, 0, 1]
    assert [item.id for item in found["val"]] == ["v1"] and voc.label(found["val"][0]).shape == (4, 6)
    asked = len(server.log)
    archives.fetch_all(wanted, tmp_path / "data", tmp_path / "archives")
    assert len(server.log) == asked


def test_coco_and_cityscapes_from_their_archives(server, tmp_path):
    """The official archives' layouts: COCO's unpack to train2017, val2017, annotations; Cityscapes' to leftImg8bit, gtFine, gtCoarse."""
    picture, labels = io.BytesIO(), np.full((4, 6), 7, np.uint8)
    Image.new("RGB", (6, 4)).save(picture, "PNG")
    names = {"leftImg8bit_trainvaltest.zip": [("leftImg8bit", "train", "aachen"), ("leftImg8bit", "val", "munster"),
                                              ("leftImg8bit", "test", "berlin")],
             "leftImg8bit_trainextra.zip": [("leftImg8bit", "train_extra", "erlangen")],
             "gtFine_trainvaltest.zip": [("gtFine", "train", "aachen"), ("gtFine", "val", "munster"), ("gtFine", "test", "berlin")],
             "gtCoarse.zip": [("gtCoarse", "train", "aachen"), ("gtCoarse", "train_extra", "erlangen")]}
    server.files = {}
    for name, folders in names.items():
        with zipfile.ZipFile(file := io.BytesIO(), "w") as made:
            for kind, split, city in folders:
                ending = "leftImg8bit" if kind == "leftImg8bit" else f"{kind}_labelIds"
                made.writestr(f"{kind}/{split}/{city}/{city}_000000_000019_{ending}.png",
                              picture.getvalue() if kind == "leftImg8bit" else png(labels))
            made.writestr("license.txt", "may be used")
        server.files[name] = file.getvalue()
    wanted = tuple(archive(f"{server.url}/ok/{name}", name=name, md5=hashlib.md5(content).hexdigest(), size=None)
                   for name, content in server.files.items())
    archives.fetch_all(wanted, tmp_path / "cityscapes", tmp_path / "archives")
    found = cityscapes.splits(tmp_path / "cityscapes")
    assert {split: [item.id for item in items] for split, items in found.items()} == {
        "train": ["aachen_000000_000019"], "val": ["munster_000000_000019"], "train_extra": ["erlangen_000000_000019"]}
    assert all((cityscapes.label(items[0]) == 0).all() for items in found.values())  # label id 7 is road, train id 0
    assert "gtCoarse/train_extra" in str(found["train_extra"][0].label)
    assert [item.id for item in cityscapes.images(tmp_path / "cityscapes", "test")] == ["berlin_000000_000019"]

    categories = [{"id": number, "name": name} for name, number in coco.CATEGORY_IDS.items()]
    content = {"images": [{"id": 9, "file_name": "000000000009.jpg", "height": 60, "width": 80}], "annotations": [
        {"id": 1, "image_id": 9, "category_id": 17, "area": 1200, "iscrowd": 0, "segmentation": [[10, 10, 50, 10, 50, 40, 10, 40]]}],
        "categories": categories}
    server.files = {}
    for name, files in {"val2017.zip": {"val2017/000000000009.jpg": picture.getvalue()},
                        "annotations_trainval2017.zip": {"annotations/instances_val2017.json": json.dumps(content).encode()}}.items():
        with zipfile.ZipFile(file := io.BytesIO(), "w") as made:
            for path, data in files.items():
                made.writestr(path, data)
        server.files[name] = file.getvalue()
    wanted = tuple(archive(f"{server.url}/ok/{name}", name=name, md5=hashlib.md5(content).hexdigest(), size=None)
                   for name, content in server.files.items())
    archives.fetch_all(wanted, tmp_path / "coco", tmp_path / "archives")
    items = coco.splits(tmp_path / "coco")["val"]
    assert [item.image.name for item in items] == ["000000000009.jpg"] and items[0].image.is_file()
    assert (coco.label(items[0]) == voc.CLASSES.index("cat")).sum() > 1000
