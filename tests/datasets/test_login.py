"""The login for Cityscapes, and secrets in addresses: what is allowed, and that no error shows them."""
import base64
import functools
import socket
import traceback
from urllib.parse import quote

import pytest
import yaml
from pydantic import ValidationError

from pipeline import study
from pipeline.datasets import archives, mirrors
from pipeline.study import ROOT, StudyError
from tests.datasets.served import BODY, KEPT, MD5, PAGE, archive

HERE = "http://lo9in:${S3CRET}@127.0.0.1:9/a.bin?token=${S3CRET}"  # nobody listens there
ODD = [HERE.replace("}@", f"}}{odd}more@") for odd in ("/", "?", "#", "@", " ", "[", "\u212a", "\u2100")]
ODD += [f"{HERE} and a space", "http://lo9in:s3cret/more@127.0.0.1/a.bin", "http://lo9in:s3cret@127.0.0.1/a.bin", "lo9in:s3cret@127.0.0.1/a.bin", "http://lo9in:s3cret@[/a.bin"]


@pytest.mark.parametrize("value", ["s3cret", "s3/cr?t#", "s3@c r[", "\u212a\u2100"])
@pytest.mark.parametrize("address", [HERE, *ODD])
def test_secrets_in_an_address_are_not_shown(tmp_path, monkeypatch, address, value):
    monkeypatch.setattr(mirrors, "PAUSE", 0)
    monkeypatch.setenv("S3CRET", value)
    try:
        wanted = archive(address)
    except ValidationError as error:
        said = str(error)
    else:
        with pytest.raises(StudyError) as caught:
            archives.fetch(wanted, tmp_path)
        said = str(caught.value).replace(str(tmp_path), "")  # whose name has the name of who tests
    assert not any(secret in said for secret in ("lo9in", "s3", value, quote(value, safe=""), "more"))
    assert any(words in said for words in ("127.0.0.1", "no valid URL", "would reach dvc.lock"))


PLACES = MIRROR, WEIGHTS, PUBLISHED, FOLDER = (
    "scales.paper.voc.source.archives.0.mirrors.0", "scales.paper.network.backbones.xception65.weights",
    "zoo.xception65_coco_voc_trainaug.published", "scales.own-data.voc.source.folder")


def settings(folder, values):
    """params.yaml with these `values` at dotted keys."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in values.items():
        *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        functools.reduce(lambda some, part: some[part], path, raw)[last] = value
    (folder / "params.yaml").write_text(yaml.dump(raw))
    return folder / "params.yaml"


@pytest.mark.parametrize("key, address", [
    (MIRROR, "https://lo9in:s3cret@host/a.tar"),
    (WEIGHTS, "https://s3cret@host/a.tar.gz"),
    (PUBLISHED, "https://lo9in:s3cret${KEY}@host/a.tar.gz"),
    (PUBLISHED, "https://host/a.tar.gz?id=3&X-Amz-Signature=s3cret"),
    (FOLDER, "http://lo9in:s3cret@host/data"),
    *((MIRROR, f"https://host/a.tar{end}") for end in (
        "?auth=s3cret", "?pwd=s3cret", "?pw=s3cret", "?jwt=s3cret", "?session=s3cret", "?ticket=s3cret", "#token=s3cret", "?name=s3cret", "?file=s3cret-and-more",
        "?packageID=3&k=s3cret", "?packageID=3;k=s3cret", "?packageID=s3cret/and/more", "?k=${KEY}s3cret", "?id=3#a=1&jwt=s3cret", "?s3cret-and-more", "#s3cret-and-more", "?id=3&s3cret-and-more"))])
def test_a_password_in_the_settings_is_refused(tmp_path, key, address):
    """params.yaml is in git, and DVC copies what it sees of it into dvc.lock."""
    with pytest.raises(StudyError, match=r"write \$\{NAME\} in its place") as caught:
        study.load.__wrapped__(settings(tmp_path, {key: address}))
    assert key.split(".")[-1] in str(caught.value) and "s3cret" not in str(caught.value)


@pytest.mark.parametrize("address", ["https://lo9in:${KEY}@host/a.tar", "https://${KEY}@host/a.tar?k=${KEY}",
                                     "https://host/?packageID=12&download=1&dl=0&id=4&raw=true&auth=${KEY}#part", "/data/my #1 & co?"])
def test_a_password_of_the_environment_is_not_refused_in_the_settings(tmp_path, address):
    study.load.__wrapped__(settings(tmp_path, dict.fromkeys(PLACES, address)))


BASIC = f"Basic {base64.b64encode(b'lo9in:s3/cr@t').decode()}"


def test_a_password_in_the_wrong_place_is_not_shown(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace('mirrors: ["http://pjreddie.com/', "mirrors: 'https://lo9in:s3cret@host/a.tar' # ")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(StudyError, match="mirrors: a list is wanted") as caught:
        study.load(tmp_path / "params.yaml")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("path, sent", [
    ("ok/a.bin", [BASIC]), ("redirect/a.bin", [BASIC, BASIC]), ("elsewhere/a.bin", [BASIC, None]),
    ("elsewhere/a.bin?${WHO}", [BASIC, f"Basic {base64.b64encode(b'bob:pw').decode()}"])])
def test_user_and_password_of_an_address_go_to_its_host_only(server, tmp_path, monkeypatch, path, sent):
    asked, resolve = [], socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: asked.append(host) or resolve(host, *rest, **more))
    wanted = archive(f"{server.url}/{path}".replace("http://", "http://lo9in:${PASSWORD}@"), md5=None)
    monkeypatch.setenv("WHO", "bob:pw@")
    monkeypatch.delenv("PASSWORD", raising=False)
    with pytest.raises(StudyError, match="needs a login: set PASSWORD in the environment"):
        archives.fetch(wanted, tmp_path)
    monkeypatch.setenv("PASSWORD", "s3/cr@t")
    assert archives.fetch(wanted, tmp_path).read_bytes() == BODY
    assert server.logins == sent and set(asked) <= {"127.0.0.1", "localhost"}
    assert (tmp_path / ".a.bin.from").read_text().split()[1].startswith(f"{server.url}/")


@pytest.mark.parametrize("proxy", ["http:/lo9in:s3cret@host", "http://lo9in:s3cret@127.0.0.1:x"])
def test_the_password_of_a_proxy_is_not_shown(tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(StudyError, match="http_proxy or https_proxy is none") as caught:
        archives.fetch(archive("http://127.0.0.1:9/a.bin"), tmp_path)
    assert not any(secret in "".join(traceback.format_exception(caught.value)) for secret in ("lo9in", "s3cret"))


def test_a_token_of_the_environment_is_sent_and_written_nowhere(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3/cr t")
    archives.fetch(archive(f"{server.url}/ok/a.bin?token=${{TOKEN}}", md5=None), tmp_path)
    assert server.paths == ["/ok/a.bin?token=s3%2Fcr%20t"]
    note = (tmp_path / ".a.bin.from").read_text()
    monkeypatch.setenv("TOKEN", "a new one")  # the same archive still
    assert archives.fetch(archive(f"{server.url}/ok/a.bin?token=${{TOKEN}}", md5=None), tmp_path) == tmp_path / "a.bin"
    assert (tmp_path / ".a.bin.from").read_text() == note and len(server.paths) == 1


def test_cityscapes_logs_in(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(mirrors, "CITYSCAPES", server.url)
    wanted = archive(f"{server.url}/members/a.bin?packageID=1")
    for name, password, said in ((None, None, "needs a login.*CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD"),
                                 ("lo9in", "wrong-geheim", "refused the login"), ("lo9in", "ge heim", None)):
        mirrors._cityscapes.cache_clear()
        for key, value in (("CITYSCAPES_USERNAME", name), ("CITYSCAPES_PASSWORD", password)):
            monkeypatch.setenv(key, value) if value else monkeypatch.delenv(key, raising=False)
        if said:
            with pytest.raises(StudyError, match=said) as caught:
                archives.fetch(wanted, tmp_path)
            assert "geheim" not in str(caught.value) and "lo9in" not in str(caught.value)
        else:
            assert archives.fetch(wanted, tmp_path).read_bytes() == BODY
    assert {path.name for path in tmp_path.iterdir()} == KEPT
    assert "heim" not in "".join(capfd.readouterr())


def test_cityscapes_archives_are_checked_by_the_published_sum(server, tmp_path, monkeypatch):
    """`/md5-sum/?packageID=1` answers "MD5 NAME", as cityscapesscripts' downloader reads it."""
    monkeypatch.setattr(mirrors, "CITYSCAPES", server.url)
    monkeypatch.setenv("CITYSCAPES_USERNAME", "lo9in")
    monkeypatch.setenv("CITYSCAPES_PASSWORD", "ge heim")
    mirrors._cityscapes.cache_clear()
    wanted = archive(f"{server.url}/members/a.bin?packageID=1", md5=None, size=None)
    server.files[""] = f"{MD5}  a.bin".encode()
    (tmp_path / ".a.bin.part").write_bytes(BODY[:1000])
    assert archives.fetch(wanted, tmp_path).read_bytes() == BODY
    assert [each for each in server.log if each[0] == "members"] == [("members", "bytes=1000-")]  # a sum known is a break survived
    for said, content in (("has MD5", b"0" * 32 + b" a.bin"), ("does not tell the checksum", b""),
                          ("does not tell the checksum: answers with a page", PAGE)):
        (tmp_path / "a.bin").unlink(missing_ok=True)
        server.files[""] = content
        with pytest.raises(StudyError, match=said):
            archives.fetch(wanted, tmp_path)
        assert not (tmp_path / "a.bin").exists()
    mirrors._cityscapes.cache_clear()
