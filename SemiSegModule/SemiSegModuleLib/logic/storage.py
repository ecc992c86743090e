"""What a study takes on the disk, and what of it can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from SemiSegLib.runs import RunError, RunFolder


@dataclass(frozen=True)
class Storage:
    """Bytes in all and in what can be made again, and the folders that hold the latter."""

    total: int
    spare: int
    removable: list[Path]


def storage_of(folder: Path, in_use: Iterable[Path] = ()) -> Storage:
    """Look at a study's folder.

    Scans that were written for predictions and their masks, which are in the scene, can be made again, and so can the
    scans of a training that ended for good. Models, reports, settings, checkpoints of trainings that can be resumed,
    and whatever somebody else put there stay.

    :param in_use: folders of processes that run
    """
    folder = Path(folder)
    busy = [Path(path).resolve() for path in in_use]
    spare = [path for path in (folder / "predictions").glob("*") if path.is_dir()]
    spare += [
        run / part for run in folder.glob("training-*") if _is_over(run) for part in ("data", "cache", "checkpoints")
    ]
    spare += [folder / "scans"]  # what is still used has another name in the folder that uses it
    found = [path for path in spare if path.is_dir() and not _holds(path, busy)]
    return Storage(size_of(folder), size_of(*found), found)


def tidy_up(storage: Storage) -> None:
    """Remove what can be made again. What cannot be removed, a file in use, stays."""
    for path in storage.removable:
        shutil.rmtree(path, ignore_errors=True)


def size_of(*folders: Path) -> int:
    """Bytes of all files below some folders; a file with several names counts once."""
    sizes = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        try:
            found = path.stat()
        except OSError:  # removed meanwhile
            continue
        if path.is_file():
            sizes[(found.st_dev, found.st_ino) if found.st_nlink > 1 else path] = found.st_size
    return sum(sizes.values())


def _is_over(run: Path) -> bool:
    try:
        return RunFolder.open(run).status().state == "finished"
    except RunError:
        return False


def _holds(path: Path, busy: list[Path]) -> bool:
    resolved = path.resolve()
    return any(other == resolved or resolved in other.parents or other in resolved.parents for other in busy)
