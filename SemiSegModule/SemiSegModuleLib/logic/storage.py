"""What a study takes on the disk, and what of it can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from SemiSegLib.runs import RunError, RunFolder


@dataclass(frozen=True)
class Storage:
    """Bytes in all, and the folders that can be made again with theirs."""

    total: int
    removable: dict[Path, int]

    @property
    def spare(self) -> int:
        """Bytes that tidying up would free."""
        return sum(self.removable.values())


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
    found = {path: size for path in spare if not _holds(path, busy) and (size := size_of(path))}
    return Storage(size_of(folder), found)


def tidy_up(storage: Storage) -> int:
    """Remove what can be made again; returns the bytes freed. What cannot be removed, a file in use, stays."""
    freed = 0
    for path, size in storage.removable.items():
        shutil.rmtree(path, ignore_errors=True)
        freed += size - size_of(path)
    return freed


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # removed meanwhile
            continue
    return total


def _is_over(run: Path) -> bool:
    try:
        return RunFolder.open(run).status().state == "finished"
    except RunError:
        return False


def _holds(path: Path, busy: list[Path]) -> bool:
    resolved = path.resolve()
    return any(other == resolved or resolved in other.parents or other in resolved.parents for other in busy)
