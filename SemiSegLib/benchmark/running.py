"""Cells as child processes: finished ones are skipped, interrupted ones resumed, several run side by side.

A cell is a run of `python -m SemiSegLib.train` in its own folder; what it prints is in the folder's trainer.log.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from SemiSegLib.benchmark.cells import Cell, differences
from SemiSegLib.benchmark.results import collect, measured_otherwise, read_result, result_file, save
from SemiSegLib.compute.parent import ward
from SemiSegLib.data.cases import CaseList, fingerprint
from SemiSegLib.errors import SemiSegError
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.training.signals import sigterm_as_ctrl_c

GRACE_SECONDS = 120.0  # for checkpoints, once Ctrl-C was pressed
REPORT_SECONDS = 60.0  # between two lines about a cell at work
_LOOK_SECONDS = 0.2


class BenchmarkError(SemiSegError):
    """Cells cannot be measured as asked for; the message says which and why."""


@dataclass
class Benchmark:
    """Cells to measure: their run folders are made in `out`, their results kept in `results`."""

    cells: Sequence[Cell]
    out: Path
    results: Path
    jobs: int = 1
    say: Callable[[str], None] = print
    failures: dict[str, str] = field(default_factory=dict)  # name of the cell: why it has no result

    def check(self) -> None:
        """Raise SemiSegError, before anything is trained, for cells that cannot be or were measured otherwise."""
        of_count = {cell.labelled: cell for cell in self.cells}  # methods and seeds have the same cases
        digests = {count: fingerprint(_cases_of(cell))["digest"] for count, cell in of_count.items()}
        for cell in self.cells:
            wanted = cell.settings().to_dict()
            stored = result_file(self.results, cell)
            digest = digests[cell.labelled]
            unlike = measured_otherwise(cell, read_result(stored), digest) if stored.exists() else ""
            if unlike:
                raise BenchmarkError(f"{stored} was measured with another {unlike}: name another --results.")
            run = self._run(cell)
            begun = run.settings_file.exists() and run.cases_file.exists()
            unlike = ", ".join(differences(wanted, read_json(run.settings_file))) if begun else ""
            if unlike or (begun and read_json(run.cases_file)["fingerprint"]["digest"] != digest):
                raise BenchmarkError(f"{run.path} was begun with other {unlike or 'cases'}: name another --out.")

    def measure(self) -> None:
        """Run all cells that have no result; what fails is noted in `failures`, the others go on.

        On KeyboardInterrupt the trainings at work save a checkpoint and end before it is raised again.
        """
        waiting = deque(cell for cell in self.cells if not self._is_measured(cell))
        working: dict[str, _Training] = {}
        with sigterm_as_ctrl_c():
            try:
                while waiting or working:
                    while waiting and len(working) < self.jobs:
                        cell = waiting.popleft()
                        self._start(cell, working)
                    time.sleep(_LOOK_SECONDS)
                    for name in [name for name, training in working.items() if training.process.poll() is not None]:
                        self._finish(working.pop(name))
                    for training in working.values():
                        training.report(self.say)
            except KeyboardInterrupt:
                _stop(working.values(), self.say)
                raise

    def _run(self, cell: Cell) -> RunFolder:
        return RunFolder(self.out / cell.name)

    def _is_measured(self, cell: Cell) -> bool:
        """The cell has a result; that of a finished run is collected if need be."""
        if result_file(self.results, cell).exists():
            self.say(f"{cell.name}: measured already")
            return True
        run = self._run(cell)
        if run.status().state != "finished":
            return False
        save(self.results, cell, collect(cell, run))
        self.say(f"{cell.name}: had finished")
        return True

    def _start(self, cell: Cell, working: dict[str, _Training]) -> None:
        run = self._run(cell)
        if run.is_locked():  # the status alone may be that of a machine that broke down
            self._fail(cell, f"another process is training in {run.path}")
            return
        resumed = run.settings_file.exists() and run.cases_file.exists()
        if not resumed and (run.path / "run.json").exists():
            shutil.rmtree(run.path)  # ended before it knew its cases: nothing to go on with
        working[cell.name] = _Training(cell, run, resumed)
        self.say(f"{cell.name}: {'going on' if resumed else 'training'}")

    def _finish(self, training: _Training) -> None:
        cell, run = training.cell, training.run
        status = run.status()
        if training.process.returncode == 0 and status.state == "finished":
            save(self.results, cell, collect(cell, run))
            self.say(f"{cell.name}: finished")
        elif status.state == "stopped":
            self._fail(cell, "stopped as somebody asked; the same command goes on with it")
        else:
            self._fail(cell, (status.state == "failed" and status.message) or training.last_words())

    def _fail(self, cell: Cell, message: str) -> None:
        self.failures[cell.name] = message
        self.say(f"{cell.name}: FAILED: {message}")


class _Training:
    """A child process at work on a cell; it ends with this process, however that ends."""

    def __init__(self, cell: Cell, run: RunFolder, resumed: bool) -> None:
        self.cell, self.run = cell, run
        self.log = run.path / "trainer.log"
        self.next_line = time.monotonic() + REPORT_SECONDS
        run.path.mkdir(parents=True, exist_ok=True)
        command = cell.resume_command(run.path) if resumed else cell.start_command(run.path)
        threads = {"OMP_NUM_THREADS": str(cell.study.threads)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **threads, **ward()}
            )

    def report(self, say: Callable[[str], None]) -> None:
        """Now and then a line on how far it is."""
        if time.monotonic() < self.next_line:
            return
        from SemiSegLib.console import time_left

        self.next_line = time.monotonic() + REPORT_SECONDS
        status = self.run.status()
        say(f"{self.cell.name}: iteration {status.iteration}/{status.iterations}, {time_left(status.eta_seconds)} left")

    def ask_to_stop(self) -> None:
        """A checkpoint and an end; before there is anything to save, an end at once."""
        if self.run.status_file.exists():
            self.run.request_stop()
        else:
            self.process.terminate()

    def last_words(self) -> str:
        """The last line that the process printed."""
        lines = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines()]
        said = next((line for line in reversed(lines) if line), "it said nothing")
        return f"{said} (exit code {self.process.returncode}, {self.log})"


def _stop(trainings: Iterable[_Training], say: Callable[[str], None]) -> None:
    """End all trainings with their checkpoints; a second KeyboardInterrupt, or time running out, kills them."""
    trainings = list(trainings)
    if trainings:
        say("stopping: checkpoints are being written; Ctrl-C again ends at once")
    try:
        for training in trainings:
            training.ask_to_stop()
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and any(training.process.poll() is None for training in trainings):
            time.sleep(_LOOK_SECONDS)
    finally:
        for training in trainings:
            if training.process.poll() is None:
                training.process.kill()
            training.process.wait()


def _cases_of(cell: Cell) -> CaseList:
    """The cases that the cell is to be measured with; raises SemiSegError."""
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.data.splits import apply_splits

    return apply_splits(find_cases(cell.study.data), cell.study.splits, cell.labelled)
