"""Which masks are given away, and that no file is overwritten silently."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from ..scene import segments
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
    """The segmentation to export, or None, as of every scan that is left out.

    :param source: 'annotation' (finished or not), 'prediction', or 'best': what the table and the pictures show (the
        annotation, else the prediction), but nothing while that is an annotation nobody has called finished
    """
    if source not in SOURCES:
        raise ExportError(f"Masks come from {', '.join(SOURCES)}, not '{source}'.")
    if case.excluded:
        return None
    if source == "annotation":
        return case.annotation if case.has_drawing or case.done else None
    if source == "prediction":
        return case.prediction
    return None if case.unfinished else case.shown_segmentation()


def of_slices_alone(case: Case, source: str = "best") -> bool:
    """The mask to export is an annotation of which only slices count: elsewhere it is empty, whatever is there."""
    node = segmentation_of(case, source)
    return node is not None and node is case.annotation and bool(case.partial)


def empty_ones(cases: Iterable[Case], labels: Sequence[Label], source: str = "best") -> list[Case]:
    """Those whose mask to export holds no voxel of any label: the model found nothing, or nothing is there."""
    masks = [(case, segmentation_of(case, source)) for case in cases]
    return [case for case, node in masks if node is not None and not any(segments.voxel_counts(node, labels).values())]


def refuse_strays(cases: Iterable[Case], source: str, labels: Sequence[Label]) -> None:
    """Raise ExportError where all that a mask shows is no label of the task: it would be given away as an empty one."""
    for case in cases:
        node = segmentation_of(case, source)
        strays = segments.strays(node, labels) if node is not None else []
        if strays:
            raise ExportError(
                f"The mask of '{case.name}' shows nothing but {', '.join(strays)}, which is no label of the task: copy "
                "that into the label's segment with Logical operators or, where it has none, rename the segment as the "
                "label is called; or leave the scan out."
            )


def with_mask(cases: Iterable[Case], source: str, labels: Sequence[Label]) -> list[Case]:
    """Those of the cases that have something to export; raises ExportError when none has, or one has no label."""
    every = list(cases)
    chosen = [case for case in every if segmentation_of(case, source) is not None]
    left_out = [case.file_name for case in every if case.excluded]
    if left_out:
        logging.warning("SemiSeg: not exported, since left out: %s", ", ".join(left_out))
    unfinished = [case.file_name for case in every if case.unfinished and case not in chosen and not case.excluded]
    if unfinished:
        logging.warning("SemiSeg: not exported, since not marked as done: %s", ", ".join(unfinished))
    slices = [case.file_name for case in chosen if of_slices_alone(case, source)]
    if slices:
        names = ", ".join(slices)
        logging.warning("SemiSeg: only slices of these are annotated, their masks are empty elsewhere: %s", names)
    if not chosen:
        hint = " A drawing counts once it is marked as done." if unfinished else ""
        raise ExportError(f"None of the chosen cases has a mask to export.{hint}")
    refuse_strays(chosen, source, labels)
    return chosen


def check_format(file_format: str, allowed: Sequence[str]) -> None:
    if file_format not in allowed:
        raise ExportError(f"The format is one of {', '.join(allowed)}, not '{file_format}'.")


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise FilesExist(existing)
