"""Files that are there whole or not at all: written under another name, put on the disk for good, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")
_OF_NUMPY = "requested and"  # 18513 requested and 6080 written
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")  # .NAME.PROCESS.tmp


@contextmanager
def whole(path: Path, attempts: int = 10) -> Iterator[Path]:
    """The name to write to instead of `path`, which it replaces at the end: readers see the old file or the new one.

    After a failure the old file is as it was and nothing else is left; after a loss of power either of them is whole.
    `attempts` as in `patiently`. Raises OSError naming `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path, instead=temporary):
            yield temporary
            put_on_disk(temporary)
            replace(temporary, path, attempts)
    finally:
        with suppress(OSError):  # not there, or held by whoever keeps it from being renamed: the error says that
            temporary.unlink()


@contextmanager
def naming(path: Path, instead: Path | None = None) -> Iterator[None]:
    """An OSError that names no file, or `instead`, names `path`, which is written here: a full disk does not say where
    it is full. PyTorch has a RuntimeError for it, and the reason is in its context; NumPy has words of its own."""
    try:
        yield
    except (OSError, RuntimeError) as raised:
        reason = raised if isinstance(raised, OSError) else raised.__context__
        if not isinstance(reason, OSError) or reason.filename not in (None, str(instead)):
            raise
        if reason.errno is None and _OF_NUMPY not in str(reason):
            raise
        raise OSError(reason.errno or errno.ENOSPC, reason.strerror or str(reason), str(path)) from raised


def put_on_disk(path: Path) -> None:
    """Have a file's content on the disk for good: else its name may outlive a loss of power, and its content not."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def same_file(path: Path, other: Path) -> bool:
    """Both names lead to one file that is there, so that writing to one would replace the other."""
    return path.exists() and other.exists() and path.samefile(other)


def write_whole(path: Path, content: str | bytes, attempts: int = 10) -> None:
    """Write a file so that a reader sees the old or the new content, never a part, and a crash loses neither."""
    with whole(path, attempts) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def replace(source: Path, target: Path, attempts: int = 10, in_vain: Callable[[], bool] = lambda: False) -> None:
    """os.replace, patient with Windows, where a reader or virus scanner may hold either for a moment.

    `in_vain` says whether waiting cannot help.
    """
    patiently(lambda: os.replace(source, target), attempts, in_vain)


def patiently(act: Callable[[], _Result], attempts: int = 5, in_vain: Callable[[], bool] = lambda: False) -> _Result:
    """What `act` gives, tried again where Windows refuses it while another program replaces or scans the file.

    Five attempts wait 0.75 s in all, seven 3 s, ten 26 s: in a window nobody wants to wait long.
    """
    for attempt in range(attempts - 1):
        try:
            return act()
        except PermissionError:
            if in_vain():
                raise
            time.sleep(0.05 * 2**attempt)
    return act()


def unfinished_folder(beside: Path, prefix: str) -> Path:
    """Make a folder in `beside` to fill and then rename; `prefix` begins its name, which nobody else's has.

    Who may read it follows from the folder around it, as under its later name: tempfile.mkdtemp's are their maker's
    alone, on Windows, too, for good.
    """
    beside.mkdir(parents=True, exist_ok=True)
    made = beside / f"{prefix}-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    return made


def is_temporary(name: str) -> bool:
    """Whether a file's name is one of those that `whole` writes to."""
    return _TEMPORARY.fullmatch(name) is not None


def writer_mark() -> str:
    """Of this process, for names of what it makes in folders where others, also of other machines, may be at work."""
    return f"{socket.gethostname()}-{os.getpid()}"


def abandoned(path: Path, mark: str) -> bool:
    """Whether the process with this mark, one of this machine, is gone that made `path`."""
    import psutil

    host, _, pid = mark.rpartition("-")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return psutil.Process(int(pid)).create_time() > path.stat().st_mtime + 1  # another one with its number
    except (psutil.Error, OSError):
        return True


def remove_abandoned(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove files and folders in `folder` whose whole name fits and whose maker, the pattern's group, is gone."""
    for path in folder.iterdir() if folder.is_dir() else ():
        found = pattern.fullmatch(path.name)
        if found and abandoned(path, found[1]):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """Remove what writers that were killed left in `folder` and below; nobody may be writing there now."""
    for leftover in [path for path in folder.rglob(".*.tmp") if is_temporary(path.name)]:
        leftover.unlink(missing_ok=True)
