"""A training as the panel sees it: started here or found again, watched through its run folder, stopped in peace.

>>> training = TrainingProcess(Path("study/run"))          # doctest: +SKIP
>>> training.start(data=Path("study/data"), settings={"method": "simcvd", "training.iterations": 3000})
>>> while training.active:
...     for event in training.poll():
...         show(event, training.state, training.status)
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SemiSegLib.runs import ACTIVE_STATES, RunFolder, Status, read_json, write_json

from ..i18n import _
from .child_process import ChildProcess, LogFile, end_process_tree, is_of_semiseg, memory_of
from .failures import Failure, explain

ACTIVE = ("starting", *ACTIVE_STATES, "stopping")
GRACE_SECONDS = 60.0  # for the checkpoint, once a stop was asked for


class TrainingProcess:
    """One run: `state` is 'new', one of ACTIVE, 'finished', 'stopped', 'interrupted' or 'failed'.

    It needs no Qt: somebody calls `poll` now and then. A run that another Slicer session started is found by making
    an object for the same folder and polling it.
    """

    def __init__(self, run_path: Path, python: Path | None = None, grace: float = GRACE_SECONDS) -> None:
        self.run = RunFolder(Path(run_path))
        self.log = LogFile(self.run.path / "trainer.log")
        self.state = "new"
        self.status = Status("new")
        self.failure: Failure | None = None
        self._python = python
        self._grace = grace
        self._child: ChildProcess | None = None
        self._word_before = 0.0  # when a trainer had said something last before this start
        self._event_position = 0
        self._log_start = 0
        self._deadline: float | None = None
        self._last_word = 0.0  # when the trainer had said something last as it was asked to stop

    @property
    def active(self) -> bool:
        """A process is at work, or about to be."""
        return self.state in ACTIVE

    @property
    def resumable(self) -> bool:
        """It can go on, from its checkpoint if it has one."""
        return not self.active and self.state != "finished" and self.run.cases_file.exists()

    @property
    def memory(self) -> int | None:
        """Bytes of main memory that the trainer uses now; None when it is unknown (nothing runs, no psutil)."""
        if not self.active or not self.status.active or not self.status.pid or self.elsewhere:
            return None
        return memory_of(self.status.pid)

    @property
    def elsewhere(self) -> str:
        """The name of the other computer that trains; '' when it is this one, or nobody trains."""
        return self.status.host if self.status.active and self.status.host != socket.gethostname() else ""

    def start(
        self,
        data: Path,
        settings: Mapping[str, Any],
        initial_model: Path | None = None,
        validation: int = 0,
    ) -> None:
        """Start a new training on `data`.

        :param settings: as in a `--config` file: 'method', 'preset', and dotted names
        :param initial_model: weights to start from instead of random ones
        :param validation: so many annotated cases are held out to measure with
        :raises OSError: the interpreter cannot be started
        """
        config = self.run.path / "config.json"
        write_json(config, dict(settings))
        arguments = ["--data", str(data), "--config", str(config), "--validation", str(validation)]
        if initial_model:
            arguments += ["--init", str(initial_model)]
        self._launch(arguments)

    def resume(self) -> None:
        """Go on where the run stopped, with its own settings; its scans may have moved along with it."""
        self.run.stop_file.unlink(missing_ok=True)  # that it has followed; from now on one is meant for this start
        data = self.run.path / "data"
        self._launch(["--resume", *(["--data", str(data)] if data.is_dir() else [])])

    def _launch(self, arguments: list[str]) -> None:
        self.failure, self._deadline = None, None
        self._word_before = self.run.status().updated
        self.log.skip()
        self._log_start = self.log.position
        arguments = ["--out", str(self.run.path), *arguments]
        self._child = ChildProcess("SemiSegLib.train", arguments, self.log.path, self._python)
        self.state = "starting"

    def poll(self) -> list[dict[str, Any]]:
        """New events since the last call; brings `state`, `status` and `failure` up to date. Never waits."""
        exit_code = self._child.exit_code if self._child else None
        self.status = self._read_status()
        events = self._new_events()
        if self._child and exit_code is None:
            self.state = self._state_while_running()
        elif self._child:
            self._conclude(exit_code)
        else:
            self._observe()
        self._enforce_deadline()
        return events

    def skip_history(self) -> list[dict[str, Any]]:
        """What the run has been through so far; the next `poll` goes on after it."""
        self._new_events()
        return self.run.history()

    def stop(self) -> None:
        """Ask for a checkpoint and an end; what still runs after the grace period is ended."""
        if self.active and self._deadline is None:
            self.run.request_stop()
            self._deadline, self._last_word = time.monotonic() + self._grace, self.status.updated
            self.state = "stopping"

    def end_now(self) -> None:
        """End the process tree at once; what was learnt since the last checkpoint is lost.

        A run that was found again is ended only if its trainer can be told apart from any other process here; one on
        another computer is asked to stop, and does so there.
        """
        if self._child:
            self._child.end()
        elif self._trainer_is_here():
            end_process_tree(self.status.pid)
        else:
            self.run.request_stop()
        self._deadline = self._deadline or time.monotonic()

    def _trainer_is_here(self) -> bool:
        status = self.status
        return bool(
            status.active and status.pid and not self.elsewhere and is_of_semiseg(status.pid, written=status.updated)
        )

    def _read_status(self) -> Status:
        if not self._child or not self._child.running:
            return self.run.status()
        # RunFolder.status() would try the lock, which a child that is just starting needs for itself.
        if not self.run.status_file.exists():
            return Status("preparing")
        content = read_json(self.run.status_file)
        return Status(**{key: content[key] for key in Status.__dataclass_fields__ if key in content})

    def _new_events(self) -> list[dict[str, Any]]:
        events = []
        for event, position in self.run.events_with_position(self._event_position):
            events.append(event)
            self._event_position = position
        return events

    def _state_while_running(self) -> str:
        if self._deadline is not None:
            return "stopping"
        from_this_start = self.status.updated != self._word_before  # not later: clocks are set back, too
        return self.status.state if self.status.active and from_this_start else "starting"

    def _conclude(self, exit_code: int | None) -> None:
        """The child has ended: success is exit code 0 and a complete result, never one of them."""
        self._child = None
        asked_to_stop, self._deadline = self._deadline is not None, None
        if exit_code == 0 and self.status.state == "finished" and self.run.last_model.exists():
            self.state = "finished"
        elif self.status.state == "stopped" and (exit_code == 0 or asked_to_stop):
            self.state = "stopped"
        elif asked_to_stop and self.status.state != "failed":
            self.state = "interrupted"
        else:
            self.state = "failed"
            own_message = self.status.message if self.status.state == "failed" else ""
            self.failure = explain(self.log.tail(self._log_start), exit_code, own_message)

    def _observe(self) -> None:
        """A run that was started elsewhere."""
        state = self.status.state
        if state == "finished" and not self.run.last_model.exists():
            state = "interrupted"
        if self._unanswered():
            self.state, self.failure = "interrupted", _unanswered_by(self.elsewhere)
            return
        self.state = "stopping" if self._deadline is not None and self.status.active else state
        if not self.status.active:
            self._deadline = None
        if state in ("failed", "interrupted") and self.failure is None:
            self.failure = explain(self.log.tail(self._log_start), None, self.status.message)

    def _unanswered(self) -> bool:
        """Another computer was asked to stop and has said nothing within the grace period: it is switched off, or it is
        this one, which had another name then."""
        over = self._deadline is not None and time.monotonic() > self._deadline
        return bool(self.elsewhere) and over and self.status.updated == self._last_word

    def _enforce_deadline(self) -> None:
        if self.active and self._deadline is not None and time.monotonic() > self._deadline:
            self.end_now()


def _unanswered_by(computer: str) -> Failure:
    title = _("{computer} does not answer.").format(computer=computer)
    return Failure("unanswered", title, _("If nothing trains there any more, press Resume or Train."))
