"""One of SemiSegLib's commands in a child process: started, followed by the events that it prints, cancelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from SemiSegLib.errors import SOME_FAILED

from .child_process import ChildProcess, LogFile
from .failures import Failure, explain


class CommandProcess:
    """`state` is 'new', 'running', 'finished', 'cancelled' or 'failed'; somebody calls `poll` now and then.

    The command ends with Slicer, and has its output folder to itself.

    >>> process = CommandProcess("SemiSegLib.quality", folder)              # doctest: +SKIP
    >>> process.start(["--model", "run", "--input", "scans"], count=3)      # doctest: +SKIP
    >>> for event in process.poll():                                        # doctest: +SKIP
    ...     print(event["event"], process.index, process.count)
    """

    def __init__(self, module: str, output: Path, python: Path | None = None) -> None:
        """:param output: folder of what the command writes, and of its log"""
        self.module, self.output = module, Path(output)
        self.log = LogFile(self.output / "command.log")
        self.state = "new"
        self.failure: Failure | None = None
        self.index = 0
        self.count = 0
        self._python = python
        self._child: ChildProcess | None = None

    @property
    def active(self) -> bool:
        """A process is at work."""
        return self.state == "running"

    def start(self, arguments: Sequence[str], count: int) -> None:
        """Work on `count` things, of which the events name the index; raises OSError when nothing can be started."""
        self.failure, self.index, self.count = None, 0, count
        self.log.skip()
        arguments = [*arguments, "--json-progress", "--attached"]
        self._child = ChildProcess(self.module, arguments, self.log.path, self._python, attached=True)
        self.state = "running"

    def poll(self) -> list[dict[str, Any]]:
        """Events since the last call; brings `state` and `failure` up to date. Never waits."""
        exit_code = self._child.exit_code if self._child else None
        events = [event for line in self.log.new_lines() if (event := _event(line))]
        for event in events:
            self.index, self.count = int(event.get("index", self.index)), int(event.get("count", self.count))
        if self._child and exit_code is not None:
            self._child = None
            self.state = "finished" if exit_code in (0, SOME_FAILED) else "failed"
            failed = self.state == "failed"
            self.failure = explain(self.log.tail(), exit_code, log_file=self.log.path) if failed else None
        return events

    def cancel(self) -> None:
        """End it at once."""
        if self._child:
            self._child.end()
            self._child = None
            self.state = "cancelled"


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
