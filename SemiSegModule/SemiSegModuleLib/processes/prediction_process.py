"""A prediction of many scans in a child process: started, watched case by case, cancelled."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from SemiSegLib.errors import SOME_FAILED

from ..i18n import _
from .child_process import ChildProcess, LogFile
from .failures import Failure, explain


class PredictionProcess:
    """`state` is 'new', 'running', 'finished', 'cancelled' or 'failed'; somebody calls `poll` now and then."""

    def __init__(self, output: Path, python: Path | None = None) -> None:
        """:param output: folder of the masks and distance maps"""
        self.output = Path(output)
        self.log = LogFile(self.output / "predict.log")
        self.state = "new"
        self.failure: Failure | None = None
        self.index = 0
        self.count = 0
        self.current_case = ""
        self._python = python
        self._child: ChildProcess | None = None
        self._log_start = 0
        self._first_case_done = 0.0
        self._refused: list[str] = []  # why scans could not be predicted

    @property
    def active(self) -> bool:
        """A process is at work."""
        return self.state == "running"

    @property
    def eta_seconds(self) -> float | None:
        """Known from the second case on: the first one includes loading the network."""
        if self.index < 2 or not self.active:
            return None
        return (time.monotonic() - self._first_case_done) / (self.index - 1) * (self.count - self.index)

    def start(
        self,
        model: Path,
        inputs: Path,
        count: int,
        options: Sequence[str] = ("--sdm", "--format", "seg.nrrd"),
    ) -> None:
        """Predict `count` scans of the file or folder `inputs`; raises OSError when nothing can be started."""
        arguments = ["--model", str(model), "--input", str(inputs), "--output", str(self.output), *options]
        self.log.skip()
        self._log_start = self.log.position
        self.failure, self.index, self.count, self.current_case, self._refused = None, 0, count, "", []
        arguments += ["--json-progress", "--attached"]  # it does not outlive the window, nor share the folder
        self._child = ChildProcess("SemiSegLib.predict", arguments, self.log.path, self._python, attached=True)
        self.state = "running"

    def poll(self) -> list[str]:
        """Names of the cases done since the last call; brings `state` and `failure` up to date. Never waits."""
        exit_code = self._child.exit_code if self._child else None
        names = [name for line in self.log.new_lines() if (name := self._read(line))]
        if self._child and exit_code is not None:
            self._conclude(exit_code)
        return names

    def cancel(self) -> None:
        """End it; files of finished cases stay."""
        if self._child:
            self._child.end()
            self._child = None
            self.state = "cancelled"

    def _conclude(self, exit_code: int) -> None:
        self._child = None
        if exit_code == 0 and self.index >= self.count:
            self.state = "finished"
        elif exit_code == SOME_FAILED and self._refused and self.index >= self.count:
            self.state = "finished"
            title = _("{count} of {all} scans could not be predicted:").format(count=len(self._refused), all=self.count)
            self.failure = Failure("input", title, " ".join(self._refused))
        else:
            self.state = "failed"
            self.failure = explain(self.log.tail(self._log_start), exit_code, log_file=self.log.path)

    def _read(self, line: str) -> str:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            return ""
        if not isinstance(event, dict) or event.get("event") not in ("case", "failed"):
            return ""
        self.index, self.count = int(event["index"]), int(event["count"])
        self.current_case = str(event["name"])
        if self.index == 1:
            self._first_case_done = time.monotonic()
        if event["event"] == "failed":
            self._refused.append(str(event["message"]))
            return ""
        return self.current_case
