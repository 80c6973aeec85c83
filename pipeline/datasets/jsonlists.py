"""Large JSON files read element by element, so that memory does not grow with the file.

COCO's instances_train2017.json has 450 MB, and as Python objects ten times that.
"""
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
LONGEST = 64 << 20  # bytes of one element


def elements(path: Path) -> Iterator[tuple[str, Any, tuple[int, int]]]:
    """(key, element, (first byte, length)) of each element of each list that the object in the file holds at its top level.

    Other values are skipped. Raises ValueError where the file is not JSON.
    """
    with open(path, "rb") as file:
        yield from _Reader(file).lists()


def element(path: Path, span: tuple[int, int]) -> Any:
    """One element again, by the span that `elements` gave."""
    with open(path, "rb") as file:
        file.seek(span[0])
        return json.loads(file.read(span[1]))


class _Reader:
    """A window of the file as text. In Latin-1 a byte is a character, so places in the window are places in the file."""

    def __init__(self, file):
        self.file = file
        self.window, self.base = "", 0  # what was read and may be needed, and where it begins in the file
        self.at = 0                     # where the reader is in the window
        self.decoder = json.JSONDecoder()

    def lists(self) -> Iterator[tuple[str, Any, tuple[int, int]]]:
        self.take("{")
        if self.peek() == "}":
            return
        while True:
            key, _ = self.value()
            self.take(":")
            if self.peek() != "[":
                self.value()
            else:
                self.at += 1
                while self.peek() != "]":
                    yield key, *self.value()
                    if self.peek() == ",":
                        self.take(",")
                    elif self.peek() != "]":
                        raise ValueError(f"no comma at byte {self.base + self.at}")
                self.at += 1
            if self.peek() == "}":
                return
            self.take(",")

    def more(self, size: int = CHUNK) -> None:
        """Read on; what lies before the reader is forgotten."""
        got = self.file.read(size)
        if not got:
            raise ValueError("the file is cut short")
        self.window = self.window[self.at:] + got.decode("latin-1")
        self.base += self.at
        self.at = 0

    def peek(self) -> str:
        """The next character that is no white space."""
        while True:
            while self.at < len(self.window) and self.window[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.window):
                return self.window[self.at]
            self.more()

    def take(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise ValueError(f"{wanted!r} expected at byte {self.base + self.at}")
        self.at += 1

    def value(self) -> tuple[Any, tuple[int, int]]:
        """The value that comes next, and its span."""
        self.peek()
        while True:
            problem = "no value ends here"
            try:
                found, end = self.decoder.raw_decode(self.window, self.at)
                if self.window[end:end + 1] and self.window[end] in " \t\r\n,:]}":  # else a number may go on
                    raw, span = self.window[self.at:end], (self.base + self.at, end - self.at)
                    self.at = end
                    return found if raw.isascii() else json.loads(raw.encode("latin-1")), span
            except json.JSONDecodeError as error:
                problem = error.msg
            if len(self.window) - self.at > LONGEST:
                raise ValueError(f"no JSON from byte {self.base + self.at} on: {problem}")
            self.more(max(CHUNK, len(self.window) - self.at))  # twice as much each time
