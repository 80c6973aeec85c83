"""Downloads from one mirror: on after breaks, logged in where that is asked for, and no secret of an address in any message."""
import base64
import contextlib
import functools
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlencode, urlsplit

from pipeline import files, progress
from pipeline.schema import Archive
from pipeline.study import StudyError

CHUNK = 1 << 20
TIMEOUT, PAUSE = 30, 1.  # seconds: without a byte, before another try
ATTEMPTS = 3             # tries of a mirror that brings nothing new
CITYSCAPES = "https://www.cityscapes-dataset.com"  # wants a login, taken from the environment and kept nowhere
LOGIN = "CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD"
NAME = re.compile(r"\$\{(\w+)\}")  # in an address: what the environment has under this name


class MirrorError(Exception):
    """This mirror cannot give the archive; another one may."""


def parsed(address: str) -> SplitResult:
    """The parts of a URL or path. Raises MirrorError where it cannot be read."""
    with contextlib.suppress(ValueError):  # its text has what looks like a host or port, and may be a password
        parts = urlsplit(address)
        if parts.scheme in ("", "file") or (parts.hostname and parts.port != 0):
            return parts
    raise MirrorError("is no valid URL: in a user or password, / ? # @ [ ] are written %2F %3F %23 %40 %5B %5D")


def shown(address: str) -> str:
    """`address` without what may be secret in it: user, password, query; nothing of one that cannot be read."""
    with contextlib.suppress(MirrorError):
        parts = parsed(address)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return "an address"


def local(address: str) -> Path | None:
    """The file on this machine that a path or file:///path names, there or not; None of what has to be fetched."""
    with contextlib.suppress(MirrorError):
        parts = parsed(address)
        if parts.scheme in ("", "file"):
            return Path(os.path.expanduser(unquote(parts.path) if parts.scheme else address))
    return None


def lacking(address: str) -> str | None:
    """What to set in the environment for `address`, for `${NAME}` in it or the login for Cityscapes; None where all is there."""
    member = address.startswith(f"{CITYSCAPES}/")
    names = [name for name in [*NAME.findall(address), *(LOGIN if member else ())] if not os.environ.get(name)]
    register = f"register at {CITYSCAPES}/register and " if member else ""
    return f"{register}set {' and '.join(names)} in the environment" if names else None


def filled(address: str) -> str:
    """`address` with what it takes from the environment in the place of `${NAME}`. Raises MirrorError where that is not set."""
    if advice := lacking(address):
        raise MirrorError(f"needs a login: {advice}")
    return NAME.sub(lambda found: quote(os.environ[found[1]], safe=""), address)


def download(url: str, archive: Archive, partial: Path) -> None:
    """Bring `partial` to its full length, going on after breaks as long as each try brings more bytes. Raises MirrorError, and
    StudyError where this machine cannot take the bytes."""
    if archive.md5 is None:
        partial.unlink(missing_ok=True)  # without a checksum nothing would show that the two ends belong together
    tries = 0
    while True:
        start = partial.stat().st_size if archive.md5 and partial.exists() else 0
        try:
            return _attempt(url, archive, partial, start)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {http.client.responses.get(error.code, '')}"  # the server's words may have an address
            if error.code == 416 and start:  # the server has no more: the checksum tells whether that is all
                return
            if error.code < 500 and error.code not in (408, 429):
                raise MirrorError(reason) from None
        except (http.client.InvalidURL, ValueError):  # their text has the address, or a proxy's
            raise MirrorError("is no valid URL, or leads to none: a space is written %20; or http_proxy or https_proxy is none, "
                              "or the answer's length no number") from None
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "filename", None) or getattr(error, "errno", None) in files.FULL:  # not the mirror's fault
                raise StudyError(f"{partial}: {error.strerror}. Mend that and run the same command again; "
                                 "what was fetched is kept") from error
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        new = archive.md5 and partial.exists() and partial.stat().st_size > start  # else the next try begins anew
        tries = 0 if new else tries + 1
        if tries >= ATTEMPTS:
            raise MirrorError(f"{reason} ({ATTEMPTS} tries)")
        time.sleep(PAUSE)


def _attempt(url: str, archive: Archive, partial: Path, start: int) -> None:
    """One request, from byte `start` on. Raises OSError where it ends early, MirrorError where the server has something else."""
    if archive.size is not None and start == archive.size:
        return
    kept = 0  # bytes that are there, and would be written over
    # Archives are compressed already; an encoding on the way would make lengths and ranges mean something else.
    headers = {"User-Agent": "deeplabv3plus-study", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = _cityscapes() if url.startswith(f"{CITYSCAPES}/") else urllib.request.build_opener(_Login)
    with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        if start and (answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")):
            if answer.status == 206:
                raise MirrorError("answers with another range than asked for")
            start, kept = 0, start  # a server without ranges sends all of it again
        length = answer.headers.get("Content-Length")
        length = int(length) if length and length.isdigit() else None
        total = archive.size if length is None else start + length
        if archive.size is not None and total != archive.size:
            raise MirrorError(f"offers {total} bytes, not {archive.size}")
        if kept and (length is None or length < kept and length != archive.size):  # perhaps a page: log in, come back later
            raise MirrorError(f"begins anew, with {length or 'who knows how many'} bytes, where there are {kept}: "
                              f"if those are of no use, delete {partial}")
        got = start
        with partial.open("ab" if start else "wb") as file, progress.bar(archive.name, total, "B", initial=start) as bar:
            while chunk := answer.read1(CHUNK):
                got += len(chunk)
                if total is not None and got > total:
                    raise MirrorError(f"sends more than the {total} bytes it should")
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and got < total:
        raise OSError(f"broke off after {got} of {total} bytes")


class _Login(urllib.request.BaseHandler):
    """Sends the user and password of an address by Basic authentication to its own host, whatever redirects follow."""
    handler_order = 100  # before a connection is made

    def __init__(self):
        self.logins = {}

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        parts = parsed(request.full_url)
        login, at, host = parts.netloc.rpartition("@")
        if at:
            name, _, password = login.partition(":")
            pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
            self.logins[parts.scheme, host] = f"Basic {base64.b64encode(pair).decode()}"
            request.full_url = parts._replace(netloc=host).geturl()
        if (parts.scheme, host) in self.logins:
            request.add_unredirected_header("Authorization", self.logins[parts.scheme, host])
        return request

    https_request = http_request


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


def published_md5(url: str) -> str:
    """The MD5 that Cityscapes publishes of the package at `url`. Raises MirrorError where it does not."""
    try:
        with _cityscapes().open(f"{CITYSCAPES}/md5-sum/?{urlsplit(url).query}", timeout=TIMEOUT) as answer:
            found = answer.read(1000).decode().split()[0]
    except (http.client.InvalidURL, ValueError, IndexError):  # text that may have the address, or says nothing to a person
        raise MirrorError("does not tell the checksum") from None
    except (OSError, http.client.HTTPException) as error:
        raise MirrorError(f"does not tell the checksum: {error}") from error
    if not re.fullmatch("[0-9a-fA-F]{32}", found):
        raise MirrorError("does not tell the checksum: answers with a page, perhaps that it is closed for maintenance")
    return found


@functools.cache
def _cityscapes() -> urllib.request.OpenerDirector:
    """An opener that is logged in, in the way of cityscapesscripts' downloader: the page of the login begins a session, and a
    redirect after it means that the login was taken."""
    cookies = urllib.request.HTTPCookieProcessor()
    form = {"username": os.environ[LOGIN[0]], "password": os.environ[LOGIN[1]], "submit": "Login"}
    opener = urllib.request.build_opener(cookies, _StayHere)

    def status(data: bytes | None = None) -> int:
        try:
            with opener.open(f"{CITYSCAPES}/login", data, TIMEOUT) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            if error.code >= 400:
                raise
            return error.code

    status()
    if status(urlencode(form).encode()) != 302:
        raise MirrorError(f"refused the login that {' and '.join(LOGIN)} give")
    return urllib.request.build_opener(cookies)
