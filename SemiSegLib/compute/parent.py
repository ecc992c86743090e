"""A process that ends with the one that started it, on every system, even if that one was killed.

The parent puts `ward()` into the child's environment; the child calls `watch()` first of all. A thread of the child
then looks once a second whether the parent is still there, by its process id and the time it began (psutil): process
groups do not outlive a SIGKILL of their leader in the way that is wanted here, job objects are for Windows alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time

_VARIABLE = "SEMISEG_PARENT"  # PID:SECONDS, when the parent began
_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 60.0  # for a checkpoint


def ward() -> dict[str, str]:
    """Variables for the environment of a child that is to end with this process."""
    import psutil

    return {_VARIABLE: f"{os.getpid()}:{psutil.Process().create_time()}"}


def watch() -> None:
    """Have this process end with its parent, if that wants it: as at SIGTERM, and for good after a grace period."""
    pid, _, began = os.environ.pop(_VARIABLE, "").partition(":")  # the children of this process have another parent
    if pid:
        threading.Thread(target=_end_with, args=(int(pid), float(began)), daemon=True, name="parent").start()


def _end_with(pid: int, began: float) -> None:
    while _is_there(pid, began):
        time.sleep(_LOOK_SECONDS)
    signal.raise_signal(signal.SIGTERM)  # handled by the main thread: a training saves and stops
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _is_there(pid: int, began: float) -> bool:
    """Whether the process is at work: not another one with its number, and no zombie that nobody has buried."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - began) < 1
    except psutil.Error:
        return False
