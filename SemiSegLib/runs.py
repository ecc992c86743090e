"""The run folder: the only contract between a training process and whoever watches it (GUI, terminal, cluster).

    run.json          format version, when and by which SemiSeg it was made
    intent.json       what was asked for: data, splits, counts, settings, the model to start from, the command
    settings.json     the complete settings
    cases.json        the labelled, unlabelled and validation cases, with a fingerprint of their files
    environment.json  library versions, device and why it was chosen
    status.json       the state now, always whole: state, iteration, ETA, scores, process id
    events.jsonl      everything that happened, one JSON object a line, in order
    stop.request      exists while somebody asks the trainer to save and stop
    lock              held by the operating system for the trainer alone; freed even when it is killed
    checkpoints/      last.pt: everything needed to go on
    models/           last.safetensors, best.safetensors: a network with its card, ready to share
    report/           table, pictures and a page
    labels/           those that a training gave its own unlabelled scans (self-training)
    cache/            preprocessed scans, unless data.cache names another folder
    tensorboard/      and trackers/: what experiment trackers read

Nothing here imports torch.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSegLib import __version__
from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import is_temporary, naming, patiently, remove_temporary, write_whole

FORMAT_VERSION = 1
ACTIVE_STATES = ("preparing", "training", "labelling", "validating", "reporting")
_OF_FILE_MANAGERS = (".ds_store", "desktop.ini", "thumbs.db")  # in folders that were merely looked at
FINAL_STATES = ("finished", "stopped", "failed")


class RunError(SemiSegError):
    """A run folder is missing, foreign, newer than this program, in use, or incomplete."""


def write_json(path: Path, content: Any) -> None:
    """`content` as readable JSON, written whole; NaN and infinity become null, which every reader understands."""
    write_whole(path, json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Content of a JSON file; raises RunError naming the file."""
    try:
        return json.loads(patiently(lambda: path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}.") from error


@dataclass(frozen=True)
class Status:
    """What status.json says, with `state` corrected to 'interrupted' when the trainer is gone without a word."""

    state: str
    iteration: int = 0
    iterations: int = 0
    eta_seconds: float | None = None
    message: str = ""
    best_dsc: float | None = None
    device_memory: int | None = None  # bytes in use on the GPU; None on the CPU
    device_memory_total: int | None = None
    pid: int | None = None
    host: str = ""
    updated: float = 0.0

    @property
    def active(self) -> bool:
        """A process is at work on this run."""
        return self.state in ACTIVE_STATES

    @property
    def resumable(self) -> bool:
        """The run ended before its last iteration."""
        return self.state in ("stopped", "interrupted", "failed")


Listener = Callable[[dict[str, Any]], None]
"""Called with every event of a run as it is written; what it raises becomes a warning, see `RunFolder.event`."""


class RunFolder:
    """One run on disk. `create` makes it, `open` finds it again.

    >>> import tempfile
    >>> run = RunFolder.create(Path(tempfile.mkdtemp()) / "run")
    >>> run.event("message", level="info", text="hello")
    >>> [event["text"] for event in run.events()]
    ['hello']
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.run_file = self.path / "run.json"
        self.intent_file = self.path / "intent.json"
        self.settings_file = self.path / "settings.json"
        self.cases_file = self.path / "cases.json"
        self.environment_file = self.path / "environment.json"
        self.events_file = self.path / "events.jsonl"
        self.status_file = self.path / "status.json"
        self.stop_file = self.path / "stop.request"
        self.since = time.time()  # when this start of the run began: an older request to stop was for an earlier one
        self.lock_file = self.path / "lock"
        self.checkpoint = self.path / "checkpoints" / "last.pt"
        self.last_model = self.path / "models" / "last.safetensors"
        self.best_model = self.path / "models" / "best.safetensors"
        self.cache = self.path / "cache"
        self.report = self.path / "report"
        self.labels = self.path / "labels"  # that the training gives unlabelled scans, see training/labelling.py
        self.tensorboard = self.path / "tensorboard"
        self.trackers = self.path / "trackers"  # of other experiment trackers, see tracking/
        self.listeners: list[Listener] = []
        self._failed: list[Listener] = []  # those a warning was written about
        self._lock: Any = None  # made when first needed; one object, so that its holder may lock again

    def cache_at(self, named: str | None) -> Path:
        """Where preprocessed volumes are kept: the folder that `data.cache` names, seen from here, else one inside."""
        return self.path / named if named else self.cache

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run folder; raises RunError if it holds a training or other files already."""
        run = cls(path)
        with run.begun({}):
            return run

    @contextmanager
    def begun(self, intent: Mapping[str, Any]) -> Iterator[None]:
        """Make the folder anew for what `intent` asks, and hold its lock.

        A run that ended before it had learnt anything may be begun again: what it left is removed. Raises RunError if
        the folder holds a training (checkpoint or model) or other files already, or another process has it.
        """
        self._refuse_foreign_files()
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            if self.has_training():
                raise RunError(
                    f"{self.path} already holds a run: add --resume to go on with it, or name another folder."
                )
            self._clear()
            write_json(self.intent_file, intent)
            write_json(
                self.run_file,
                {"format_version": FORMAT_VERSION, "created": time.time(), "semiseg_version": __version__},
            )
            yield

    def has_training(self) -> bool:
        """Something was learnt here: there is a checkpoint or a model."""
        return any(file.exists() for file in (self.checkpoint, self.last_model, self.best_model))

    def _refuse_foreign_files(self) -> None:
        if self.run_file.exists() or not self.path.is_dir():
            return
        own = {"data", "config.json", "trainer.log", self.lock_file.name, self.intent_file.name, self.stop_file.name}
        names = [path.name for path in self.path.iterdir() if path.name.casefold() not in _OF_FILE_MANAGERS]
        foreign = [name for name in names if name not in own and not is_temporary(name)]
        if foreign:
            shown = ", ".join(sorted(foreign)[:3])
            raise RunError(f"{self.path} holds other files ({shown}); name a new or empty folder.")

    def _clear(self) -> None:
        """Remove what an earlier start wrote, its intent first; preprocessed scans are used again."""
        files = (self.intent_file, self.settings_file, self.cases_file, self.environment_file)
        for file in (*files, self.status_file, self.events_file):
            file.unlink(missing_ok=True)
        self.drop_old_request()
        learnt = (self.checkpoint.parent, self.last_model.parent, self.report, self.labels)
        for folder in (*learnt, self.tensorboard, self.trackers):
            shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Find a run folder again; raises RunError if there is none or it needs a newer SemiSeg."""
        run = cls(path)
        if not run.run_file.exists():
            raise RunError(f"{path} is not a run folder (it has no run.json).")
        version = read_json(run.run_file).get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise RunError(f"{path} was written by a newer SemiSeg (format {version}); update to read it.")
        return run

    def event(self, kind: str, **content: Any) -> None:
        """Append one line to events.jsonl, and tell the listeners; a reader never sees half of an earlier line.

        What a listener raises becomes one warning, an event as well, and never ends what is being told.
        """
        event = finite({"event": kind, "time": round(time.time(), 3), **content})
        line = json.dumps(event, allow_nan=False)
        opened = patiently(lambda: self.events_file.open("a", encoding="utf-8", newline="\n"))
        with naming(self.events_file), opened as stream:
            stream.write(line + "\n")
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception as error:
                if not any(listener is known for known in self._failed):
                    self._failed.append(listener)  # before the warning, which this listener hears, too
                    name = getattr(listener, "name", getattr(listener, "__name__", type(listener).__name__))
                    self._warn_of_listener(name, error)

    def listen(self, name: str, make: Callable[[], Listener | None]) -> None:
        """Add the listener that `make` gives, if any; when making it fails, a warning says so and the run goes on."""
        try:
            listener = make()
        except Exception as error:
            self._warn_of_listener(name, error)
            return
        if listener is not None:
            self.listeners.append(listener)

    def _warn_of_listener(self, name: str, error: Exception) -> None:
        text = f"{name} does not show everything of this run ({type(error).__name__}: {error}); training goes on."
        self.event("message", level="warning", text=text)

    def events(self, after_byte: int = 0) -> Iterator[dict[str, Any]]:
        """Events in order; a last line that is not yet complete is left for the next call."""
        yield from (event for event, _ in self.events_with_position(after_byte))

    def events_with_position(self, after_byte: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """(event, position after it), so that a watcher can go on where it stopped reading."""
        if not self.events_file.exists():
            return
        with patiently(lambda: self.events_file.open("rb")) as stream:
            stream.seek(after_byte)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                after_byte += len(line)
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:  # half a line, cut off by a crash and followed by a resumed run
                    continue
                yield event, after_byte

    def history(self) -> list[dict[str, Any]]:
        """Events of the training as it counts: what a crash lost and a resumed run did again appears once."""
        kept: list[dict[str, Any]] = []
        for event in self.events():
            if event["event"] == "resumed":
                kept = [old for old in kept if old.get("iteration", 0) <= event["iteration"]]
            kept.append(event)
        return kept

    def set_status(self, state: str, **content: Any) -> None:
        """Replace status.json; a change of state is an event too."""
        before = read_json(self.status_file).get("state") if self.status_file.exists() else None
        status = {
            "state": state,
            **content,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "updated": time.time(),
        }
        write_json(self.status_file, status)
        if state != before:
            self.event("state", state=state, message=content.get("message", ""))

    def status(self) -> Status:
        """The state now; 'new' before the first start, 'interrupted' when the trainer died without saying so."""
        if not self.status_file.exists():
            return Status("preparing" if self.is_locked() else "new")
        content = read_json(self.status_file)
        status = Status(**{key: content[key] for key in Status.__dataclass_fields__ if key in content})
        if status.active and status.host == socket.gethostname() and not self.is_locked():
            # Read once more: the trainer may have ended between the two looks.
            content = read_json(self.status_file)
            state = content["state"] if content["state"] in FINAL_STATES else "interrupted"
            return Status(**{**status.__dict__, "state": state, "message": content.get("message", "")})
        return status

    def request_stop(self) -> None:
        """Ask the trainer to save and stop; it does so within an iteration or two."""
        write_whole(self.stop_file, "")

    def drop_old_request(self) -> None:
        """Remove a request to stop that was for an earlier start; one that was made since this began holds."""
        with suppress(FileNotFoundError):
            if self.stop_file.stat().st_mtime < self.since:
                self.stop_file.unlink()

    def stop_requested(self) -> bool:
        """Somebody asked the trainer to stop."""
        return self.stop_file.exists()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process alone, again and again if need be; raises RunError when another has it."""
        import filelock  # comes with torch

        self._lock = self._lock or filelock.FileLock(self.lock_file)
        first = not self._lock.is_locked
        try:
            self._lock.acquire(timeout=2)  # a watcher's `is_locked` holds it for a moment
        except filelock.Timeout:
            raise RunError(f"Another process is training in {self.path}; wait for it or stop it first.") from None
        try:
            if first:
                self._tidy()
            yield
        finally:
            self._lock.release()

    def _tidy(self) -> None:
        """Remove and mend what a trainer left that was killed while it wrote."""
        remove_temporary(self.path)
        if self.events_file.exists() and self.events_file.stat().st_size:
            with self.events_file.open("rb+") as stream:
                stream.seek(-1, os.SEEK_END)
                if stream.read() != b"\n":
                    stream.write(b"\n")  # so that the next event does not become part of half a line

    def is_locked(self) -> bool:
        """A trainer holds the lock."""
        return is_held(self.lock_file)


def is_held(lock_file: Path) -> bool:
    """A process holds this lock, perhaps one of another Python: Slicer's own may have no filelock."""
    if not lock_file.exists():
        return False
    try:
        import filelock
    except ImportError:
        return _is_held(lock_file)
    probe = filelock.FileLock(lock_file)
    try:
        probe.acquire(timeout=0)
    except filelock.Timeout:
        return True
    probe.release()
    return False


def _is_held(path: Path) -> bool:
    """The same without filelock, found out by what that itself asks of the system."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # others: a drive without locks
        return error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
    finally:
        os.close(descriptor)
    return False


class ReadOnlyRun(RunFolder):
    """The run folder as processes other than the first of a training see it: they read it and leave no trace."""

    def event(self, kind: str, **content: Any) -> None:
        """Nothing: the first process writes."""

    def set_status(self, state: str, **content: Any) -> None:
        """Nothing: the first process writes."""

    def drop_old_request(self) -> None:
        """Nothing: the first process removes it."""

    @contextmanager
    def begun(self, intent: Mapping[str, Any]) -> Iterator[None]:
        """Nothing: the first process makes the folder."""
        yield

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Nothing: the first process holds it."""
        yield


def finite(value: Any) -> Any:
    """`value` as every JSON reader takes it: NaN and infinity become None, paths text, tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
