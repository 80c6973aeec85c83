"""A real terminal of 80 columns in the place of stderr."""
import contextlib
import os
import pty
import sys
import termios


@contextlib.contextmanager
def terminal(monkeypatch, columns: int = 80):
    """Yield a list; after the block it holds what the terminal's line showed, one after the other. At most 4,000 characters."""
    redrawn, (reader, writer) = [], pty.openpty()
    termios.tcsetwinsize(writer, (24, columns))
    with open(writer, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield redrawn
        print("end", file=stream, flush=True)
        text = ""
        while not text.endswith("end\r\n"):  # it comes in parts
            text += os.read(reader, 10_000).decode()
        redrawn += [line.rstrip() for line in text.removesuffix("end\r\n").split("\r") if line.strip()]
    os.close(reader)
