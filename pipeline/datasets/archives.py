"""Archives of data sets: fetched from the first mirror that works, verified before anything is unpacked, unpacked safely.

A download lies under `.NAME.part` until its size and MD5 are right, and goes on from there after a break, on any mirror.
"""
import functools
import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

from pipeline import progress
from pipeline.datasets.unpacking import unpack
from pipeline.schema import Archive
from pipeline.study import StudyError

CHUNK = 1 << 20
TIMEOUT, PAUSE = 30, 1.  # seconds: without a byte, before another try
ATTEMPTS = 3             # tries of a mirror that brings nothing new
CITYSCAPES = "https://www.cityscapes-dataset.com"  # wants a login, taken from the environment and kept nowhere


class _MirrorError(Exception):
    """This mirror cannot give the archive; another one may."""


def fetch_all(archives: tuple[Archive, ...], out: Path, cache: Path) -> None:
    """Fetch and unpack each archive into `out`. They stay in `cache`. An optional one that no mirror has is left out, aloud."""
    for archive in archives:
        stamp = Path(out) / ".unpacked" / archive.name
        if stamp.exists():
            continue
        try:
            unpack(fetch(archive, cache), Path(out))
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
        except StudyError as error:
            if not archive.optional:
                raise
            print(f"goes on without it: {error}", file=sys.stderr)


def fetch(archive: Archive, folder: Path) -> Path:
    """A file with the content of `archive`, its size and MD5 verified where they are known: FOLDER/NAME, or a mirror that is a
    file on this machine (file:///path or a plain path), used where it lies. Raises StudyError that names every mirror tried."""
    target = Path(folder) / archive.name
    if target.name != archive.name or archive.name.startswith("."):
        raise StudyError(f"the archive name {archive.name!r} is no plain file name")
    if target.exists():
        if problem := _wrong(target, archive):
            raise StudyError(f"{target} {problem}: delete it and run the same command again")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in archive.mirrors:
        try:
            return _from(mirror, archive, target)
        except _MirrorError as error:
            failures.append(f"  {shown(mirror)}: {error}")
    raise StudyError(f"{archive.name} could not be had from any of its {len(archive.mirrors)} mirrors:\n" + "\n".join(failures)
                     + f"\nGet it some other way, put it at {target} and run the same command again")


def shown(url: str) -> str:
    """`url` without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _from(mirror: str, archive: Archive, target: Path) -> Path:
    """The verified archive from one mirror."""
    parts = urlsplit(mirror)
    if parts.scheme in ("", "file"):
        local = Path(unquote(parts.path) if parts.scheme else mirror).expanduser()
        if not local.is_file():
            raise _MirrorError("there is no such file")
        if problem := _wrong(local, archive):
            raise _MirrorError(problem)
        return local
    if parts.scheme not in ("http", "https"):
        raise _MirrorError(f"cannot fetch by {parts.scheme}, only http, https, file")
    if archive.md5 is None and mirror.startswith(f"{CITYSCAPES}/"):
        archive = archive.model_copy(update={"md5": _published(mirror)})
    partial = target.with_name(f".{archive.name}.part")
    resumed = partial.exists()
    _download(mirror, archive, partial)
    if (problem := _wrong(partial, archive)) and resumed:  # what an earlier run left was perhaps of other bytes
        partial.unlink()
        _download(mirror, archive, partial)
        problem = _wrong(partial, archive)
    if problem:
        partial.unlink()
        raise _MirrorError(problem)
    os.replace(partial, target)
    return target


def _wrong(path: Path, archive: Archive) -> str | None:
    """How the file differs from what it should be, or None."""
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        return f"has {size} bytes, not {archive.size}"
    if archive.md5 is not None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != archive.md5.lower():
            return f"has MD5 {digest}, not {archive.md5}"
    return None


def _download(url: str, archive: Archive, partial: Path) -> None:
    """Bring `partial` to its full length, going on after breaks as long as each try brings more bytes."""
    if archive.md5 is None:
        partial.unlink(missing_ok=True)  # without a checksum nothing would show that the two ends belong together
    tries = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            return _attempt(url, archive, partial, before if archive.md5 else 0)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # the server has fewer bytes
                partial.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
            reason = f"HTTP {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        after = partial.stat().st_size if partial.exists() else 0
        tries = 0 if after > before else tries + 1
        if tries >= ATTEMPTS:
            raise _MirrorError(f"{reason} ({ATTEMPTS} tries)")
        time.sleep(PAUSE)


def _attempt(url: str, archive: Archive, partial: Path, start: int) -> None:
    """One request, from byte `start` on. Raises OSError where it ends early, _MirrorError where the server has something else."""
    if archive.size is not None and start == archive.size:
        return
    # Archives are compressed already; an encoding on the way would make lengths and ranges mean something else.
    headers = {"User-Agent": "deeplabv3plus-study", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = _cityscapes() if url.startswith(f"{CITYSCAPES}/") else urllib.request.build_opener()
    with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        if start and (answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")):
            start = 0  # a server without ranges sends all of it again
            if answer.status == 206:
                raise _MirrorError("answers with another range than asked for")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else archive.size
        if archive.size is not None and total != archive.size:
            raise _MirrorError(f"offers {total} bytes, not {archive.size}")
        got = start
        with partial.open("ab" if start else "wb") as file, progress.bar(archive.name, total, "B", initial=start) as bar:
            while chunk := answer.read1(CHUNK):
                got += len(chunk)
                if total is not None and got > total:
                    raise _MirrorError(f"sends more than the {total} bytes it should")
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and got < total:
        raise OSError(f"broke off after {got} of {total} bytes")


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


def _published(url: str) -> str:
    """The MD5 that Cityscapes publishes of the package at `url`."""
    try:
        with _cityscapes().open(f"{CITYSCAPES}/md5-sum/?{urlsplit(url).query}", timeout=TIMEOUT) as answer:
            return answer.read(1000).decode().split()[0]
    except (OSError, http.client.HTTPException, ValueError, IndexError) as error:
        raise _MirrorError(f"does not tell the checksum: {error}") from error


@functools.cache
def _cityscapes() -> urllib.request.OpenerDirector:
    """An opener that is logged in, in the way of cityscapesscripts' downloader: a redirect means that the login was taken."""
    names = "CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD"
    if not all(os.environ.get(name) for name in names):
        raise _MirrorError(f"needs a login: register at {CITYSCAPES}/register and set {' and '.join(names)} in the environment")
    cookies = urllib.request.HTTPCookieProcessor()
    form = {"username": os.environ[names[0]], "password": os.environ[names[1]], "submit": "Login"}
    try:
        urllib.request.build_opener(cookies, _StayHere).open(f"{CITYSCAPES}/login", urlencode(form).encode(), TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 302:
            raise
    else:
        raise _MirrorError(f"refused the login that {' and '.join(names)} give")
    return urllib.request.build_opener(cookies)
