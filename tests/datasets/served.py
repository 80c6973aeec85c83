"""A server on this machine that breaks, lies and redirects, and what it serves."""
import hashlib
import http.server
import io
import time
from urllib.parse import unquote

import numpy as np
from PIL import Image

from pipeline.schema import Archive
from tests.processes import free_port

BODY = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
KEPT = {"a.bin", ".a.bin.from", ".a.bin.lock"}  # what lies there after a download


class Handler(http.server.BaseHTTPRequestHandler):
    """/BEHAVIOUR/NAME serves `server.files[NAME]` in the way that BEHAVIOUR says."""

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.path == "/login" and sent == b"username=lo9in&password=ge+heim&submit=Login" and self.has("begun=1")
        self.send_response(302 if right else 200)
        if right:
            self.send_header("Location", "/missing/nothing")
            self.send_header("Set-Cookie", "session=abc")
        self.end_headers()

    def has(self, cookie):
        return cookie in (self.headers.get("Cookie") or "").split("; ")

    def do_GET(self):
        if self.path == "/login":
            self.send_response(200)
            self.send_header("Set-Cookie", "begun=1")
            return self.end_headers()
        _, behaviour, name = self.path.partition("?")[0].split("/")
        self.server.log.append((behaviour, self.headers.get("Range")))
        self.server.logins.append(self.headers.get("Authorization"))
        self.server.paths.append(self.path)
        body = self.server.files[name]
        asked = self.headers.get("Range")
        if behaviour in ("members", "md5-sum") and not self.has("session=abc"):
            return self.send_error(403)
        if behaviour == "page" or (asked and behaviour.startswith("breaks-then-page")):
            self.send_response(200)
            if not behaviour.endswith("without-length"):
                self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            return self.wfile.write(PAGE)
        if behaviour == "missing" or (asked and behaviour == "breaks-then-missing"):
            return self.send_error(404)
        if behaviour == "busy-once" and len(self.server.log) == 1:
            return self.send_error(503)
        if behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/ok/{name}")
            return self.end_headers()
        if behaviour == "elsewhere":  # the same server by another name; after ? is what goes before the host
            self.send_response(302)
            self.send_header("Location", f"http://{unquote(self.path.partition('?')[2])}localhost:{self.server.server_port}/ok/{name}")
            return self.end_headers()
        if behaviour == "other-bytes":
            body = bytes([body[0] ^ 1]) + body[1:]
        if behaviour == "shorter":
            body = body[:-7]
        start = 0
        if asked and behaviour != "no-ranges":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if behaviour != "no-length":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body)
        if behaviour.startswith("breaks") or (behaviour == "no-length" and len(self.server.log) == 1):
            end = min(len(body), start + 100_000)
        if behaviour == "breaks-at-once":
            end = start
        if behaviour == "breaks-later-each-time":
            end = start + 10_000 * len(self.server.log)
        if behaviour == "slow":
            self.wfile.write(body[start:start + 100_000])
            time.sleep(1)
            start += 100_000
        self.wfile.write(body[start:end])


def archive(*mirrors, md5=MD5, size=len(BODY), name="a.bin"):
    return Archive(name=name, mirrors=mirrors, md5=md5, size=size)


def dead():
    return f"http://127.0.0.1:{free_port()}/a.bin"


def png(labels):
    image, file = Image.fromarray(labels), io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
