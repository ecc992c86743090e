"""A few slices of a scan instead of all: which to annotate, in which order, and which are done.

>>> propose(table, case, "axial", every=5)                              # doctest: +SKIP
>>> following(case, table.labels)                                       # doctest: +SKIP
12

Training learns from slices in which something is drawn, or in which somebody looked and found nothing; the others are
left out of its losses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from SemiSegLib.config import Label

from . import segments, volumes
from .annotations import make_annotation
from .case import Case, CaseError
from .case_table import CaseTable
from .records import ORIENTATIONS, SlicePlan
from .region import marked_slices


def propose(table: CaseTable, case: Case, orientation: str, every: int) -> SlicePlan:
    """Plan every so many slices of an orientation, within the region of interest; suggested ones come first.

    What was looked at before stays known. A scan that has no annotation yet gets an empty one, to be drawn in.

    :raises CaseError: unknown orientation, less than every slice, or a finished annotation of which more than these
        slices count
    """
    if orientation not in ORIENTATIONS or every < 1:
        raise CaseError(f"Every k-th slice is {', '.join(ORIENTATIONS)} with k from 1, not '{orientation}', {every}.")
    axis, box = volumes.slice_axis(case.volume, orientation), case.box()
    if case.done and case.partial != orientation:
        raise CaseError(
            f"'{case.name}' is done: with {orientation} slices proposed, no others of it would count any more. Say "
            "first that it is not done, or that only these slices are annotated."
        )
    make_annotation(table, case)
    first, count = box.start[axis], box.size[axis]
    hint = case.suggestion
    suggested = tuple(hint.slices) if hint is not None and hint.axis == axis else ()
    regular = range(first + min(every // 2, count // 2), first + count, every)
    before = case.slice_plan_of(orientation)
    empty = before.empty if before is not None else ()
    ordered = tuple(dict.fromkeys([*suggested, *regular]))
    case.slice_plan = SlicePlan(orientation, ordered, suggested, empty)
    return case.slice_plan


def orientation_of(case: Case, axis: int) -> str:
    """The orientation of the slices across an index axis of the scan (0 for i)."""
    return next(name for name in ORIENTATIONS if volumes.slice_axis(case.volume, name) == axis)


def done(case: Case, labels: Sequence[Label]) -> set[int]:
    """Slices of the orientation of `Case.partial` that count as annotated; empty without an orientation."""
    if not case.partial:
        return set()
    looked_at = set(case.empty_slices)
    if case.annotation is None:
        return looked_at
    return looked_at | marked_slices(
        case.annotation, case.volume, labels, volumes.slice_axis(case.volume, case.partial)
    )


def following(case: Case, labels: Sequence[Label], after: int | None = None) -> int | None:
    """The first slice in the order proposed, from `after` on and round the end, that is not done; None without one."""
    plan = case.slice_plan
    if plan is None:
        return None
    start = plan.proposed.index(after) + 1 if after in plan.proposed else 0
    ready = done(case, labels)
    return next((n for n in (*plan.proposed[start:], *plan.proposed[:start]) if n not in ready), None)


def mark_empty(case: Case, number: int, empty: bool = True) -> None:
    """Say that there is nothing to draw in a slice, or take that back; CaseError without a plan or such a slice."""
    plan = case.slice_plan
    if plan is None:
        raise CaseError(f"No slices are proposed for '{case.name}'.")
    count = segments.grid_shape(case.volume)[2 - volumes.slice_axis(case.volume, plan.orientation)]
    if not 0 <= number < count:
        raise CaseError(f"'{case.name}' has {plan.orientation} slices from 0 to {count - 1}, not {number}.")
    others = [n for n in plan.empty if n != number]
    case.slice_plan = dataclasses.replace(plan, empty=tuple(sorted([*others, *([number] if empty else [])])))


def place_of(case: Case, axis: int, number: int) -> tuple[float, float, float]:
    """The middle of a slice in the world (RAS, mm); raises SemiSegError below a non-linear transform."""
    index = (np.array(segments.grid_shape(case.volume)[::-1]) - 1) / 2
    index[axis] = number
    to_world = segments.world_matrix(case.volume) @ volumes.ijk_to_ras(case.volume)
    return tuple(float(part) for part in (to_world @ [*index, 1.0])[:3])
