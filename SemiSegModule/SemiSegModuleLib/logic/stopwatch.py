"""How long somebody works on each scan: what the minutes of annotation are counted by.

>>> ticks = iter([0.0, 20.0, 500.0])
>>> class Scan:
...     seconds = 0.0
>>> scan, watch = Scan(), Stopwatch(clock=lambda: next(ticks))
>>> watch.begin(scan)
>>> watch.touch()
>>> watch.end()
>>> scan.seconds
80.0
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

IDLE_SECONDS = 60.0  # so much counts at most from one sign of life to the next (our choice)


class Stopwatch:
    """Adds to `seconds` of the case at work; long pauses, when nothing is drawn, count as a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._case: Any = None
        self._last = 0.0

    def begin(self, case: Any) -> None:
        """Somebody works on this case now, and no longer on the one before; None: on nothing."""
        if case == self._case:
            return
        self.end()
        if case is not None:
            self._case, self._last = case, self._clock()

    def touch(self) -> None:
        """A sign of life: something was drawn, or another slice is shown."""
        if self._case is not None:
            now = self._clock()
            self._case.seconds += min(now - self._last, IDLE_SECONDS)
            self._last = now

    def end(self) -> None:
        """Nobody works on it any more."""
        self.touch()
        self._case = None
