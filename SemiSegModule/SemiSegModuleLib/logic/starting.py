"""Word among the windows of one computer that a training is starting: its folder says nothing until its trainer does.

>>> announce(run_folder)                                                # doctest: +SKIP
>>> announced()                                                         # doctest: +SKIP
>>> withdraw(run_folder)                                                # doctest: +SKIP
"""

from __future__ import annotations

import time
from pathlib import Path

from .study import set_setting, setting

_NAME = "StartingRun"
SECONDS = 180.0  # that a trainer needs at most until its first word; later nobody is kept waiting by a window that died


def announce(run: Path) -> None:
    """A training in this folder is about to start, here."""
    set_setting(_NAME, f"{time.time():.0f} {run}")


def withdraw(run: Path) -> None:
    """It has started, and its folder says so, or it will not; what another window announced since stays."""
    if setting(_NAME).partition(" ")[2] == str(run):
        set_setting(_NAME, "")


def announced() -> Path | None:
    """The training that starts now in this or another window; None when none does."""
    when, _space, run = setting(_NAME).partition(" ")
    fresh = bool(run) and abs(time.time() - float(when)) < SECONDS  # clocks are set back, too
    return Path(run) if fresh else None
