"""One thin command a stage: `python -m stages.STAGE`."""
import os
import sys


def _stopped(kind, error, trace):
    """Ctrl-C while modules are loading, before `console.run` is there: a line in the place of a traceback."""
    if kind is not KeyboardInterrupt:
        return sys.__excepthook__(kind, error, trace)
    print("\nstopped", file=sys.stderr, flush=True)
    os._exit(130)  # as console.STOPPED; nothing has begun


if sys.argv[0] == "-m":  # Python is looking for the stage: this is its process. Typer puts its own hook in the place of this one
    sys.excepthook = _stopped
