"""A headless Chromium that a test steers over its own pipe (the DevTools protocol): real keys, real widths, what it complains of."""
import json
import os
import select
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
PATIENCE = 120  # seconds


def axe() -> str | None:
    """The source of axe-core, from a package that brings it along; None where there is none."""
    for name in ("axe_playwright_python", "axe_core_python"):
        spec = find_spec(name)
        if spec and (found := Path(spec.submodule_search_locations[0], "axe.min.js")).exists():
            return found.read_text()
    return None


class Browser:
    """One page. `complaints` are console errors, exceptions and blocked or failed loads; `requests` all URLs it asked for."""

    def __init__(self, profile: Path):
        (to_read, self.out), (self.into, to_write) = os.pipe(), os.pipe()
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}', *command],
                                        pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for end in (to_read, to_write):
            os.close(end)
        self.number, self.session, self.rest, self.events = 0, None, b"", []
        self.complaints, self.requests = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def close(self):
        self.process.kill()
        self.process.wait()
        for end in (self.out, self.into):
            os.close(end)

    def call(self, method: str, **params) -> dict:
        """One command of the protocol and its result; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        self._write(message)
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, path: Path, width: int, dark: bool) -> None:
        """Load a file at a width (CSS pixels) in a colour scheme; returns when it is loaded."""
        self.complaints, self.requests, self.events = [], [], []
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self.events:
            self._read()

    def evaluate(self, script: str):
        """The value of an expression, or of what it promises."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key as a person presses it."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text if kind == "keyDown" else "")

    def _write(self, message: dict) -> None:
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data):]

    def _read(self) -> dict:
        while b"\0" not in self.rest:
            assert select.select([self.into], [], [], PATIENCE)[0], f"the browser said nothing for {PATIENCE} s"
            more = os.read(self.into, 1 << 20)
            assert more, "the browser went away"
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(line)
        method, params = message.get("method", ""), message.get("params", {})
        self.events.append(method)
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        if method == "Runtime.exceptionThrown" or (method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")):
            self.complaints.append(str(params))
        if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            self.requests.append(params["request"]["url"])
        return message
