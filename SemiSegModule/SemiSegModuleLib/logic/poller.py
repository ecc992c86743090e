"""Looks at a child process now and then while one runs, without making the window wait."""

from __future__ import annotations

import logging
from collections.abc import Callable

import qt

from ..signal import Signal

MILLISECONDS = 500
PATIENCE = 20  # looks that fail one after the other until it is given up: a drive may be away for a moment


class Poller:
    """Calls `look` regularly between `start` and the first time it answers False.

    An error in `look` is told once, by `failed`: a window that opens at every tick helps nobody. The next look may go
    well; after PATIENCE that did not there are no more.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self.failed = Signal()  # the exception
        self._look = look
        self._failures = 0  # one after the other
        self._timer = qt.QTimer()
        self._timer.setInterval(MILLISECONDS)
        self._timer.connect("timeout()", self.look)

    @property
    def running(self) -> bool:
        """It looks now and then."""
        return bool(self._timer.active)

    def start(self) -> None:
        """Look regularly from now on."""
        self._failures = 0
        self._timer.start()

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()

    def look(self) -> None:
        """Look now."""
        try:
            more = self._look()
        except Exception as error:
            self._fail(error)
            return
        self._failures = 0
        if not more:
            self._timer.stop()

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= PATIENCE:
            self._timer.stop()
        if self._failures == 1:
            logging.exception("SemiSeg: a child process cannot be watched")
            self.failed.emit(error)
