"""The server of served.py, the scale tiny in an empty folder, and a small VOC that a test may change."""
import http.server
import shutil
import threading

import pytest

from pipeline import schema, study
from pipeline.datasets import miniature, mirrors
from tests import changed
from tests.datasets.served import BODY, Handler


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(mirrors, "PAUSE", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.log, running.logins, running.paths = {"a.bin": BODY}, [], [], []
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=[.01], daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The scale `tiny` in an empty folder."""
    settings = changed.at("tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "load", lambda: settings)
    return settings


@pytest.fixture
def use(tiny, monkeypatch):
    """use(folder=...): that is VOC's source at scale tiny from then on; use(): none is."""
    def choose(**source):
        found = changed.dataset(tiny, "voc", source=schema.Source(**source) if source else None)
        monkeypatch.setattr(study, "load", lambda: found)
    return choose


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    miniature.generate("voc", schema.Generate(train=10, val=6, size=49, seed=3), root)
    return root


@pytest.fixture
def root(original, tmp_path):
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"
