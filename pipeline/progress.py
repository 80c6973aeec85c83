"""A progress bar on a terminal; in a log file, and beside other jobs, a line now and then."""
import os
import sys
from collections.abc import Iterable

from tqdm import tqdm

QUIET = 30  # seconds: no two lines of a log are closer
LINE = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
SHORT = "{desc} {percentage:.0f}% <{remaining}{postfix}"


class Lines(tqdm):
    """tqdm for what is no terminal: whole lines, and none at all where the work is done within QUIET seconds."""

    cleared = False

    def clear(self, nolock=False):
        self.cleared = True  # by `write`, which draws the bar anew below its words

    def display(self, msg=None, pos=None):
        if not self.cleared:
            print(msg or str(self), file=self.fp, flush=True)
        self.cleared = False

    def close(self):
        if not self.disable and self.n > self.last_print_n and self.last_print_t > self.start_t:
            self.display()
        self.leave, self.display = False, lambda *_, **__: None  # tqdm would clear a line now
        super().close()


def bar(title: str, total: int | None, unit: str, *, of: Iterable | None = None, initial: int = 0, disable: bool = False,
        drawn: bool = True, patience: float = 0) -> tqdm:
    """Progress on stderr: to iterate over where `of` is given, else for `update()`, `set_postfix_str(refresh=False)`, `close()`.
    unit: "B" counts in kB, MB, GB. drawn: a bar on a terminal; else a line, whose 80 columns have room for a postfix of 50.
    patience: seconds before there is one.

    The time left is the mean pace of all that this process did, pauses (validation, compilation) included, so it is what the rest
    will take. In a log: a line a per cent, at least QUIET seconds after the last and about ten minutes at most.
    """
    common = {"iterable": of, "desc": title, "total": total, "unit": unit, "initial": initial, "disable": disable, "smoothing": 0,
              "unit_scale": unit == "B"}
    if sys.stderr.isatty() and "STUDY_JOB" not in os.environ:  # or the bars of two jobs would share a line
        return tqdm(**common, mininterval=0.5, dynamic_ncols=True, delay=patience, bar_format=None if drawn else SHORT)
    return Lines(**common, mininterval=QUIET, delay=QUIET, miniters=max((total or 0) // 100, 1), maxinterval=600, bar_format=LINE)
