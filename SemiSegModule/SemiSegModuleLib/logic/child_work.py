"""Work that a child process does for a study: watched by a timer, cancelled, its end told once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from SemiSegLib.errors import SemiSegError

from ..signal import Signal
from .poller import Poller
from .study import Study


class ChildWork:
    """`process` is the one that runs, or the last one; a subclass starts it and keeps what it reports."""

    process: Any = None  # with `active`, `poll` and `cancel`

    def __init__(self, study: Study) -> None:
        self.study = study
        self.problems: list[str] = []  # why something that it reported is not shown
        self.changed = Signal()  # something happened
        self.ended = Signal()  # the process, once, when it has ended and what it found is kept
        self._poller = Poller(self._poll)
        self.failed = self._poller.failed

    def close(self) -> None:
        """End what runs."""
        self.cancel()

    @property
    def active(self) -> bool:
        """A process is at work."""
        return self.process is not None and self.process.active

    @property
    def watched(self) -> bool:
        """A process is at work, and somebody looks what it does."""
        return self.active and self._poller.running

    def cancel(self) -> None:
        """End what runs; what is known already is kept."""
        self._poller.stop()
        if self.active:
            self.process.cancel()
            self.changed.emit()
            self.ended.emit(self.process)

    def scene_closed(self) -> None:
        """What runs or has run was for cases that are gone."""
        self.cancel()
        self.process, self.problems = None, []
        self.changed.emit()

    def poll(self) -> None:
        """Look now what has happened."""
        self._poller.look()

    def _watch(self) -> None:
        """Look at the process that was started, now and until it ends."""
        self.problems = []
        self._poller.start()
        self._poller.look()

    def _poll(self) -> bool:
        for report in self.process.poll():
            self._attempt(self._keep, report)
        if self.process.active:
            self.changed.emit()
            return True
        self._poller.stop()  # the end is told once, whatever who hears of it makes of that
        self._attempt(self._finish)
        self.changed.emit()
        self.ended.emit(self.process)
        return self.process.active

    def _attempt(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do this; whatever is raised is told, and everything else goes on."""
        try:
            act(*arguments)
        except Exception as error:
            if not isinstance(error, SemiSegError):
                logging.exception("SemiSeg: what a child process has reported cannot be shown")
            text = str(error) or type(error).__name__
            if text not in self.problems:
                self.problems.append(text)

    def _keep(self, report: Any) -> None:
        """Take over one thing that the process has reported; what is raised does not keep the others from it."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Take over what there is at the end of the process."""
