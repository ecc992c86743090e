"""Long work inside the window: the rest of the panel waits, progress is shown, and it can be cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import slicer

from ..i18n import _


class Cancelled(Exception):
    """The user pressed Cancel; what was done so far stays."""


class Busy:
    """Shows one piece of work at a time in a label, a progress bar and a button.

    >>> with busy(_("Loading scans")) as progress:                    # doctest: +SKIP
    ...     for index, file in enumerate(files):
    ...         progress(index, len(files), file.name)
    """

    def __init__(self, box: Any, label: Any, bar: Any, cancel_button: Any, others: list[Any]) -> None:
        """:param others: widgets that are disabled meanwhile"""
        self._box, self._label, self._bar, self._others = box, label, bar, others
        self._cancelled = False
        self.active = False
        cancel_button.connect("clicked()", self.cancel)
        box.visible = False

    def cancel(self) -> None:
        """The next report of progress raises Cancelled."""
        self._cancelled = True

    @contextmanager
    def __call__(self, text: str) -> Iterator[Any]:
        """Yields `progress(done, count, name)`, which also lets the window live. Cancelled ends the work quietly."""
        if self.active:
            raise RuntimeError(_("Something else is still being done; wait for it or cancel it."))
        self.active, self._cancelled = True, False
        self._text = text
        self._enable(False)
        try:
            self._progress(0, 0, "")
            yield self._progress
        except Cancelled:
            pass
        finally:
            self.active = False
            self._enable(True)

    def _enable(self, enabled: bool) -> None:
        self._box.visible = not enabled
        for widget in self._others:
            widget.enabled = enabled

    def _progress(self, done: int, count: int, name: str) -> None:
        self._bar.maximum = count
        self._bar.value = done
        self._label.text = f"{self._text}: {name}" if name else self._text
        slicer.app.processEvents()
        if self._cancelled:
            raise Cancelled
