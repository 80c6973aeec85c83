"""Ctrl-C or SIGTERM in a training: the step is finished and saved first."""
import contextlib
import os
import signal
import threading


@contextlib.contextmanager
def deferred(title: str, wanted: bool = True):
    """Yield a function that says whether Ctrl-C or SIGTERM has asked the training `title` to stop; Ctrl-C then stops it at once.

    What a process was started to ignore, such as Ctrl-C in the background, it ignores. Where this is not `wanted`, or outside the
    main thread, which alone receives signals, Ctrl-C does what it always does.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def restore(numbers):
        for number in numbers & before.keys():
            signal.signal(number, before[number])

    def ask(number, frame):
        restore({signal.SIGINT})
        if asked:  # a scheduler may say it to each process, and each to those below it
            return
        asked.append(number)
        with contextlib.suppress(OSError):  # not `print`, which may be at work
            os.write(2, f"\n{title}: stops after this step; Ctrl-C now stops it at once\n".encode())

    try:
        for number in before:
            signal.signal(number, ask)
        yield lambda: bool(asked)
    finally:
        restore(before.keys())
