"""One Python program in a process group of its own, its output in a file: it outlives the window that started it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..paths import command_of, library_folder, training_python

_CLOCK_SECONDS = 2.0  # clocks of a process table and of a file may differ by so much
# Variables of Slicer's own Python that would change or break another interpreter.
_HARMFUL_VARIABLES = ("PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONEXECUTABLE")


def child_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment Slicer was started with, cleaned, so that the child finds SemiSegLib and writes at once."""
    environment = dict(_startup_environment() if base is None else base)
    for name in _HARMFUL_VARIABLES:
        environment.pop(name, None)
    environment["PYTHONPATH"] = str(library_folder())
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONUTF8"] = "1"
    return environment


def _startup_environment() -> Mapping[str, str]:
    # Slicer's launcher adds library paths; PythonSlicer adds them again for itself, another Python must not see them.
    slicer = sys.modules.get("slicer")
    return slicer.util.startupEnvironment() if hasattr(slicer, "app") else os.environ


class ChildProcess:
    """`python -m module arguments`, started at once; output is appended to `log_file`.

    The child is not ended with Slicer: a training goes on when the window is closed. One that is `attached` gets the
    end of a pipe as its standard input, which the system closes when Slicer ends in whatever way.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        log_file: Path,
        python: Path | None = None,
        attached: bool = False,
    ) -> None:
        """Start. Raises OSError when the interpreter cannot be run or the log cannot be written."""
        command = [*command_of(python or training_python()), "-u", "-m", module, *arguments]
        log_file.parent.mkdir(parents=True, exist_ok=True)
        logging.info("SemiSeg starts: %s", " ".join(command))
        with log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=log_file.parent,
                env=child_environment(),
                **_own_process_group(),
            )
        self.pid = self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    @property
    def running(self) -> bool:
        """The child has not ended."""
        return self.exit_code is None

    def end(self) -> None:
        """End the child and everything it started, at once."""
        if self.running:
            end_process_tree(self.pid)
            try:
                self._popen.wait(timeout=5)
            except subprocess.TimeoutExpired:  # stuck in a driver: the next poll will see it end
                logging.warning("SemiSeg: process %d does not end", self.pid)


def _own_process_group() -> dict[str, object]:
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def end_process_tree(pid: int) -> None:
    """End a process and its descendants at once; one that is gone already is no error."""
    if os.name == "nt":
        subprocess.run(
            ["taskkill", "/PID", str(pid), "/T", "/F"],
            capture_output=True,
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
        return
    descendants = _descendants(pid)
    with contextlib.suppress(ProcessLookupError):
        group = os.getpgid(pid)
        if group != os.getpgrp():  # never the group that Slicer itself is in
            os.killpg(group, signal.SIGKILL)
    for process in [pid, *descendants]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """Processes below `pid`, also those that left its group; empty without psutil."""
    try:
        import psutil
    except ImportError:
        return []
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def is_of_semiseg(pid: int, written: float) -> bool:
    """The process with this number runs SemiSegLib, and did so when something was `written` (seconds since 1970).

    Numbers of processes are given away again, and a run folder on a shared drive holds those of another computer.
    False without psutil: what cannot be told apart is not ended.
    """
    try:
        import psutil
    except ImportError:
        return False
    try:
        process = psutil.Process(pid)
        was_there = process.create_time() <= written + _CLOCK_SECONDS
        return was_there and any("SemiSegLib" in part for part in process.cmdline())
    except psutil.Error:
        return False


def memory_of(pid: int) -> int | None:
    """Bytes of main memory that a process uses; None without psutil, or when it is gone."""
    try:
        import psutil
    except ImportError:
        return None
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None


class LogFile:
    """A growing text file, read from where the last reading stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def skip(self) -> None:
        """What stands there already belongs to an earlier start."""
        self.position = self.path.stat().st_size if self.path.exists() else 0

    def new_lines(self) -> list[str]:
        """Complete lines since the last call."""
        content = self._read(self.position)
        complete = content[: content.rfind(b"\n") + 1]
        self.position += len(complete)
        return complete.decode("utf-8", errors="replace").splitlines()

    def tail(self, since: int = 0, size: int = 20000) -> str:
        """The end of the file, at most `size` bytes and only from byte `since` on, as text."""
        length = self.path.stat().st_size if self.path.exists() else 0
        return self._read(max(since, length - size)).decode("utf-8", errors="replace")

    def _read(self, start: int) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as stream:
            stream.seek(start)
            return stream.read()
