"""A process that belongs to the program that started it: it ends with that program, and has its folder to itself."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from SemiSegLib.errors import SemiSegError

LOCK_NAME = ".in-use"
ORPHANED = 70  # exit code of a process whose starter is gone


@contextmanager
def attached(folder: Path) -> Iterator[None]:
    """Work in `folder` alone, and only as long as the starting program lives.

    That program holds the other end of standard input and never writes: when it ends, in whatever way, the system
    closes it, and this process ends, too, instead of working on for nobody.

    :raises SemiSegError: another process works in the folder
    """
    import filelock

    threading.Thread(target=_end_with_starter, args=(sys.stdin.fileno(),), daemon=True).start()
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=5)  # one whose starter has just gone ends within a moment
    except filelock.Timeout:
        raise SemiSegError(f"Another process writes into {folder}: wait for it, or end it first.") from None
    try:
        yield
    finally:
        lock.release()


def _end_with_starter(line: int) -> None:
    while os.read(line, 1024):  # not through sys.stdin, whose lock a thread must not hold when Python ends
        pass
    os._exit(ORPHANED)
