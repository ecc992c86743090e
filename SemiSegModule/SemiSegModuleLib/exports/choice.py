"""Which masks are given away, and that no file is overwritten silently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from SemiSegLib.errors import SemiSegError

from ..scene.case import Case

SOURCES = ("best", "annotation", "prediction")


class ExportError(SemiSegError):
    """Something cannot be exported; the message says what and why."""


class FilesExist(ExportError):
    """Files are there already; `paths` names them, so that the user can be asked."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        names = ", ".join(path.name for path in self.paths[:3]) + (" and more" if len(self.paths) > 3 else "")
        super().__init__(f"{self.paths[0].parent} holds {names} already; nothing was written.")


def segmentation_of(case: Case, source: str = "best"):
    """The segmentation to export, or None.

    :param source: 'annotation', 'prediction', or 'best': what the table and the pictures show, which is what somebody
        drew, finished or not, else the prediction (`Case.shown_segmentation`)
    """
    if source not in SOURCES:
        raise ExportError(f"Masks come from {', '.join(SOURCES)}, not '{source}'.")
    if source == "annotation":
        return case.annotation if case.has_drawing else None
    if source == "prediction":
        return case.prediction
    return case.shown_segmentation()


def unfinished(cases: Iterable[Case]) -> list[Case]:
    """Cases in which something is drawn that nobody has marked as done.

    Their drawing is what is shown and exported, while training takes them for scans without a mask: whoever exports or
    trains should ask first.
    """
    return [case for case in cases if not case.done and case.has_drawing]


def with_mask(cases: Iterable[Case], source: str) -> list[Case]:
    chosen = [case for case in cases if segmentation_of(case, source) is not None]
    if not chosen:
        raise ExportError("None of the chosen cases has a mask to export.")
    return chosen


def check_format(file_format: str, allowed: Sequence[str]) -> None:
    if file_format not in allowed:
        raise ExportError(f"The format is one of {', '.join(allowed)}, not '{file_format}'.")


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise FilesExist(existing)
