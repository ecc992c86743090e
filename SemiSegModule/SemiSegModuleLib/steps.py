"""Long work in the window, one step at a time: the window stays alive, shows progress, and can cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import qt
import slicer

from .i18n import _


class Steps:
    """Runs an iterator one item a turn of the event loop.

    >>> Steps(panel).run((load(file) for file in files), len(files), _("Loading"), done=show)   # doctest: +SKIP
    """

    def __init__(self, parent: Any, show: Callable[[str, int, int], None] = lambda text, index, count: None) -> None:
        """:param show: is given a text, the steps done and their number; the text is empty at the end"""
        self._show = show
        self._timer = qt.QTimer(parent)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._step)
        self._work: Iterator[Any] | None = None

    @property
    def active(self) -> bool:
        """Something is going on."""
        return self._work is not None

    def run(self, work: Iterator[Any], count: int, text: str, done: Callable[[], None] = lambda: None) -> None:
        """Begin; an error ends the work and is shown to the user."""
        if self.active:
            raise RuntimeError(_("Wait until this is done: {text}.").format(text=self._text))
        self._work, self._count, self._index, self._text, self._done = work, count, 0, text, done
        self._show(text, 0, count)
        self._timer.start()

    def cancel(self) -> None:
        """End after the present step; what is done stays."""
        self._finish()

    def _step(self) -> None:
        if self._work is None:
            return
        with slicer.util.tryWithErrorDisplay(_("{text} failed.").format(text=self._text)):
            try:
                next(self._work)
            except StopIteration:
                done = self._done
                self._finish()
                done()
                return
            except Exception:
                self._finish()
                raise
        self._index += 1
        self._show(self._text, self._index, self._count)

    def _finish(self) -> None:
        self._timer.stop()
        self._work = None
        self._show("", 0, 0)
