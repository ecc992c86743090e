"""What training needs on this computer: Python packages, installed after asking, and the device that will be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import slicer

from .. import paths
from ..processes import dependencies
from ..signal import Signal
from .poller import Poller
from .study import set_setting, setting


class Installation:
    """`device` and `failure` are known once `look_for_device` has its answer; `changed` tells of it."""

    def __init__(self) -> None:
        self.changed = Signal()
        self.report: dependencies.DeviceReport | None = None
        self._poller = Poller(self._poll)

    def close(self) -> None:
        """Stop looking."""
        self._poller.stop()
        if self.report is not None:
            self.report.cancel()

    @property
    def wheels(self) -> Path | None:
        """A folder of wheels to install from, where there is no internet; remembered on this computer."""
        text = setting("WheelsFolder").strip()
        return Path(text) if text else None

    @wheels.setter
    def wheels(self, folder: Path | str | None) -> None:
        set_setting("WheelsFolder", str(folder or ""))

    def missing(self) -> list[str]:
        """Packages to install first. Those of an interpreter that somebody named are that person's business."""
        return [] if paths.python_is_named() else dependencies.missing()

    def install(self, ask: Callable[[str], bool]) -> None:
        """Install what is missing, if `ask`, which is given a question, says so; raises DependencyError."""
        missing = self.missing()
        if missing:
            dependencies.install(missing, self.wheels, ask=ask)

    def look_for_device(self, device: str) -> None:
        """Ask a child process, without waiting for it, what 'auto', 'cuda', 'mps' or 'cpu' stands for here."""
        if self.report is not None:
            self.report.cancel()
        log = Path(slicer.app.temporaryPath) / "semiseg-device.log"
        self.report = dependencies.DeviceReport(device, log)
        self.changed.emit()
        self._poller.start()

    def _poll(self) -> bool:
        self.report.poll()
        if self.report.done:
            self.changed.emit()
        return not self.report.done
