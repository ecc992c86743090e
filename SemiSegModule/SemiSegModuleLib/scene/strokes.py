"""What somebody drew on a predicted scan, as strokes that `SemiSegLib.refine` follows, and the mask that comes of it.

>>> before = Corrections(case, labels, earlier)                         # doctest: +SKIP
>>> before.strokes                                                      # doctest: +SKIP
>>> follow_strokes(table, case, before, refined)                        # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from SemiSegLib.config import Label

from . import segments, volumes
from .annotations import IGNORE_VALUE, drawn_slices, make_annotation
from .case import Case, CaseError
from .case_table import CaseTable


@dataclasses.dataclass(frozen=True)
class Corrections:
    """What was drawn up to some moment; arrays (k, j, i) on the voxels of the scan.

    mask      the annotation at that moment
    strokes   value of what was drawn, 0 where something was erased, 255 where nobody drew
    """

    mask: np.ndarray
    strokes: np.ndarray


def corrections(
    case: Case, labels: Sequence[Label], base: np.ndarray | None, earlier: np.ndarray | None = None, whole: str = ""
) -> Corrections:
    """What somebody drew in the annotation of a case.

    :param base: the mask that was edited, (k, j, i); None: the annotation began empty, and all of it was drawn
    :param earlier: strokes that count as well
    :param whole: 'axial', 'coronal' or 'sagittal': slices of that orientation in which something was drawn are right as
        a whole; '': only what was drawn is
    :raises CaseError: nothing was drawn
    """
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    drawn = mask != base if base is not None else mask > 0
    if whole:
        axis = 2 - volumes.slice_axis(case.volume, whole)
        np.moveaxis(drawn, axis, 0)[drawn_slices(drawn, 2 - axis)] = True
    strokes = np.full_like(mask, IGNORE_VALUE) if earlier is None else earlier.astype(mask.dtype)
    strokes[drawn] = mask[drawn]
    strokes[segments.not_sure_on_grid(case.annotation, case.volume)] = IGNORE_VALUE
    if (strokes == IGNORE_VALUE).all():
        raise CaseError(
            f"Nothing was corrected in '{case.name}' yet: draw or erase where the mask is wrong, then refine it."
        )
    return Corrections(mask, strokes)


def base_of(case: Case, labels: Sequence[Label]) -> np.ndarray | None:
    """The mask that somebody edits: the prediction that the annotation began as; None where it began empty.

    :raises CaseError: it is not there any more: differences from any other mask are nobody's strokes
    """
    if not case.began_as_prediction:
        return None
    if case.refinement or not case.began_as_this_prediction:
        raise CaseError(
            f"Nobody can tell any more what in the mask of '{case.name}' was drawn: the mask that it began as is gone "
            "or was changed. It stays as it is and can be marked as done. To refine the scan, press Correct (section "
            "4), which replaces it by the mask that is predicted now, and draw on that."
        )
    return segments.voxels_on_grid(case.prediction, case.volume, labels)


def renumbered(array: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """A copy in which these values are others; what is not named stays."""
    result = array.astype(np.result_type(array.dtype, np.min_scalar_type(max(values.values(), default=0))))
    for old, new in values.items():
        result[array == old] = new
    return result


def follow_strokes(table: CaseTable, case: Case, before: Corrections, refined: np.ndarray) -> np.ndarray:
    """Put a refined mask into the annotation, but for what was drawn since; returns what is there now, (k, j, i).

    :param refined: values of the labels on the part of the scan in its region of interest; outside, all stays
    """
    labels, box = table.labels, case.box()
    result = before.mask.copy()
    result[box.slices] = refined
    with table.paused():
        node = make_annotation(table, case)
        now = segments.voxels_on_grid(node, case.volume, labels)
        meanwhile = now != before.mask
        result[meanwhile] = now[meanwhile]
        into_node = np.linalg.inv(segments.world_matrix(node)) @ segments.world_matrix(case.volume)
        segments.replace_voxels(node, result, into_node @ volumes.ijk_to_ras(case.volume), labels)
        case.mark_done(case.done and bool(result.any()), corrected=True)
    return result
