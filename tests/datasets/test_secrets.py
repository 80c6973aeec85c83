"""A download with a login, in a process of its own: its secrets are in no file, log or process list."""
import base64
import hashlib
import os
import subprocess
import sys
from urllib.parse import quote, quote_plus

import psutil
import pytest

from pipeline.study import ROOT
from tests.datasets.packed import tar
from tests.datasets.served import BODY, Handler

DOWNLOAD = """
import sys
from pipeline import schema, study
from pipeline.datasets import mirrors
from stages import console, download
from tests import changed
mirrors.CITYSCAPES, mirrors.PAUSE = sys.argv.pop(1), 0
settings = study.load()
names = ("a.tar", "b.tar")
source = schema.Source(archives=tuple(schema.Archive(name=name, mirrors=(f"{mirrors.CITYSCAPES}/members/{name}?packageID=1",)) for name in names))
found = changed.dataset(settings, "cityscapes", source=source)
study.load = lambda: found
console.run(download.main)
"""


@pytest.mark.parametrize("password, done", [("ge heim", True), ("Ver/borgen+1", False)])
def test_a_secret_is_in_no_file_log_or_process_list(server, tmp_path, monkeypatch, password, done):
    """The whole stage in a process of its own; while it downloads, the server looks at the process list."""
    server.files = {"a.tar": tar({"leftImg8bit/a.png": BODY}), "b.tar": b"no archive", "": b""}
    seen = []

    def listing(handler):
        seen.append("\n".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])))
        Handler.do_GET(handler)
    monkeypatch.setattr(server, "RequestHandlerClass", type("Watching", (Handler,), {"do_GET": listing}))
    server.files[""] = hashlib.md5(server.files["a.tar"]).hexdigest().encode()
    environment = os.environ | {"CITYSCAPES_USERNAME": "lo9in", "CITYSCAPES_PASSWORD": password, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", DOWNLOAD, server.url, "cityscapes"], cwd=tmp_path, env=environment, text=True,
                         capture_output=True, check=False)
    assert ran.returncode == 1 and ("has MD5" if done else "refused the login") in ran.stderr  # the second archive, or the login
    assert (len(seen) > 1) == done and all("cityscapes" in each for each in seen)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "a.tar" for path in left) == done
    texts = [ran.stdout, ran.stderr, *seen, *(path.read_bytes().decode("latin-1") for path in left), *map(str, left)]
    secrets = {password, quote(password), quote(password, safe=""), quote_plus(password), base64.b64encode(password.encode()).decode()}
    assert not [secret for secret in secrets for text in texts if secret in text]
