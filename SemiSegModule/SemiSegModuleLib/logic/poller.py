"""Looks at a child process now and then while one runs, without making the window wait."""

from __future__ import annotations

import logging
from collections.abc import Callable

import qt

from ..signal import Signal

MILLISECONDS = 500


class Poller:
    """Calls `look` regularly between `start` and the first time it answers False.

    An error in `look` is told once, by `failed`, and ends the looking: a window that opens at every tick helps nobody.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self.failed = Signal()  # the exception
        self._look = look
        self._timer = qt.QTimer()
        self._timer.setInterval(MILLISECONDS)
        self._timer.connect("timeout()", self.look)

    def start(self) -> None:
        """Look regularly from now on."""
        self._timer.start()

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()

    def look(self) -> None:
        """Look now."""
        try:
            more = self._look()
        except Exception as error:
            logging.exception("SemiSeg: a child process cannot be watched")
            self._timer.stop()
            self.failed.emit(error)
            return
        if not more:
            self._timer.stop()
