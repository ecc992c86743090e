"""Work that a child process does for a study: watched by a timer, cancelled, its end told once."""

from __future__ import annotations

from typing import Any

from ..signal import Signal
from .poller import Poller
from .study import Study


class ChildWork:
    """`process` is the one that runs, or the last one; a subclass starts it and keeps what it reports."""

    process: Any = None  # with `active`, `poll` and `cancel`

    def __init__(self, study: Study) -> None:
        self.study = study
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
        self.process = None
        self.changed.emit()

    def poll(self) -> None:
        """Look now what has happened."""
        self._poller.look()

    def _watch(self) -> None:
        """Look at the process that was started, now and until it ends."""
        self._poller.start()
        self._poller.look()

    def _poll(self) -> bool:
        reports = self.process.poll()
        try:
            self._keep(reports)
        finally:
            self.changed.emit()
            if not self.process.active:
                self.ended.emit(self.process)
        return self.process.active

    def _keep(self, reports: list[Any]) -> None:
        """Take over what the process has reported since the last look."""
        raise NotImplementedError
