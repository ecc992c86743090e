"""What a study takes on the disk, and what of it can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from SemiSegLib.compute.attached import LOCK_NAME
from SemiSegLib.runs import RunError, RunFolder, is_held

from ..scene.identity import owner_of

CACHE = "cache"  # in the study's folder: preprocessed scans, each once for all trainings of the study


@dataclass(frozen=True)
class Storage:
    """Bytes in all and in what can be made again, and the folders that hold the latter."""

    total: int
    spare: int
    removable: list[Path]


def storage_of(folder: Path, in_use: Iterable[Path] = ()) -> Storage:
    """Look at a study's folder.

    Scans that were written for predictions and their masks, which are in the scene, can be made again, and so can the
    scans of refinements, those of a training that ended for good, and what trainings made of their scans. Models,
    reports, settings, strokes, checkpoints of trainings that can be resumed, and whatever somebody else put there stay.
    Other studies in folders below do not count.

    :param in_use: folders of processes that run; those of another window are known by their locks
    """
    folder = Path(folder)
    busy = [Path(path).resolve() for path in in_use]
    states = {run: _state(run) for run in folder.glob("training-*")}
    spare = [path for kind in ("predictions", "suggestions") for path in (folder / kind).glob("*") if path.is_dir()]
    spare += (folder / "refinements").glob("*/scan")  # what is beside it the next refinement begins from
    spare += [
        run / part for run, state in states.items() if state == "finished" for part in ("data", "cache", "checkpoints")
    ]
    spare.append(folder / "scans")  # what is still used has another name in the folder that uses it
    if "active" not in states.values():  # in this window or another
        spare.append(folder / CACHE)
    found = [path for path in spare if path.is_dir() and not _holds(path, busy) and not _locked(path)]
    total = size_of(folder)
    return Storage(total, total - size_of(folder, without=found), found)


def tidy_up(storage: Storage) -> None:
    """Remove what can be made again. What cannot be removed, a file in use, stays."""
    for path in storage.removable:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def only_if_started(folder: Path) -> Iterator[None]:
    """A new folder goes again, with the copies of scans in it, where the work on them does not start after all."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def size_of(folder: Path, without: Iterable[Path] = ()) -> int:
    """Bytes of all files of a study; a file with several names counts once.

    :param without: folders below whose names of files do not count
    """
    sizes = {}
    for path in _files(Path(folder), set(without)):
        try:
            found = path.stat()
        except OSError:  # removed meanwhile
            continue
        sizes[(found.st_dev, found.st_ino) if found.st_nlink > 1 else path] = found.st_size
    return sum(sizes.values())


def _files(folder: Path, without: set[Path]) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_file():
            yield path
        elif path.is_dir() and path not in without and not (path.name.startswith("study-") and owner_of(path)):
            yield from _files(path, without)


def _state(run: Path) -> str:
    """'finished', 'active', or something else; '' where there is no training."""
    try:
        status = RunFolder.open(run).status()
    except RunError:
        return ""
    return "active" if status.active else status.state


def _locked(path: Path) -> bool:
    """A process works in the folder, in one just below it, or in the one around it."""
    locks = [path.parent / LOCK_NAME, path / LOCK_NAME, *path.glob(f"*/{LOCK_NAME}")]
    return any(is_held(lock) for lock in locks)


def _holds(path: Path, busy: list[Path]) -> bool:
    resolved = path.resolve()
    return any(other == resolved or resolved in other.parents or other in resolved.parents for other in busy)
