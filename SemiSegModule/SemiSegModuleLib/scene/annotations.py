"""Human annotations: made, limited to a box, taken over from a prediction, read as masks.

>>> make_annotation(table, case)                                                       # doctest: +SKIP
>>> accept_prediction(table, case)                                                     # doctest: +SKIP

An annotation is changed by nothing here but `accept_prediction(..., overwrite=True)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import slicer

from SemiSegLib.config import DataSettings, Label
from SemiSegLib.errors import SemiSegError

from . import segments, volumes
from .case import Case, CaseError
from .case_table import CaseTable
from .mask_files import label_names
from .nodes import follow, new_segmentation, put_beside
from .records import ORIENTATIONS, SlicePlan
from .region import fit_region

IGNORE_VALUE = DataSettings().ignore_value


def make_annotation(table: CaseTable, case: Case):
    """The case's human segmentation node, with a segment for every label of the task; made when there is none.

    It lies below the volume's transform, on the volume's voxels, beside it in the subject hierarchy.
    """
    with table.paused():
        if case.annotation is None:
            case.annotation = new_segmentation(table.scene, f"{case.name} annotation", case.volume)
        segments.add_segments(case.annotation, table.labels)
        segments.add_not_sure(case.annotation)
    return case.annotation


def add_region(table: CaseTable, case: Case):
    """Limit training and prediction of a case to a box: around what is drawn, else around the whole scan.

    A region that is there already is fitted again. It lies beside the volume in the subject hierarchy.

    :return: the vtkMRMLMarkupsROINode
    """
    with table.paused():
        case.region = fit_region(case.region, case.volume, case.annotation, table.labels)
        put_beside(case.region, case.volume)
    return case.region


def edited_elsewhere(case: Case | None) -> bool:
    """Somebody holds a tool over the case's annotation in a segment editor, such as that of Slicer's own module; a
    module that is left puts its tool away."""
    annotation = case.annotation if case is not None else None
    if annotation is None:
        return False
    editors = slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode", annotation.GetScene())
    return any(node.GetSegmentationNode() is annotation and node.GetActiveEffectName() for node in editors)


def accept_prediction(table: CaseTable, case: Case, overwrite: bool = False, done: bool = True):
    """Copy the prediction into the human annotation, to be edited there or to count as it is.

    What was drawn outside the parts of the scan that were predicted (`Case.predicted_parts`) stays. Nothing is said of
    the rest: where these parts are slices, only they and those with a drawing count from now on (`Case.partial`).

    :param done: the case counts as corrected at once; False when the clinician is yet to edit the copy
    :return: the annotation node
    :raises CaseError: no prediction, one of a part that is no slices, one that is to be done and is empty or shows no
        label of the task, or an annotation that is somebody's work and not `overwrite`
    """
    if case.prediction is None:
        raise CaseError(f"'{case.name}' has no prediction to accept.")
    if case.has_work and not overwrite:
        raise CaseError(f"'{case.name}' has an annotation already; it would be replaced by the prediction.")
    outside = _drawn_outside(case, table.labels)
    if done and outside is None:
        _refuse_as_done(case, table.labels)
    slices = "" if _known_as_a_whole(case) else _orientation_of_parts(case)
    if not slices and not _known_as_a_whole(case):
        raise CaseError(
            f"Only a part of '{case.name}' was predicted, and nobody has looked at the rest: predict the whole scan, "
            "limit it to that part by a box, or annotate it by drawing what is there."
        )
    with table.paused():
        annotation = make_annotation(table, case)
        _take_over(annotation, case, outside, table.labels)
        case.partial = case.refinement = ""
        if slices:
            case.slice_plan = _plan_of_parts(case, slices, table.labels)
        case.remember_accepted(done)
        case.remember_beginning()
        case.mark_done(done, corrected=True)
    return annotation


def _refuse_as_done(case: Case, labels: Sequence[Label]) -> None:
    """Raises CaseError where the prediction, as it is, cannot be what counts."""
    if not segments.counts_by_segment(case.prediction):
        raise CaseError(
            f"Nothing was found in '{case.name}': correct that by drawing what is there or, if it is right, by marking "
            "the empty mask as done; or leave the scan out."
        )
    strays = segments.strays(case.prediction, labels)
    if strays:
        raise CaseError(
            f"The prediction of '{case.name}' shows {', '.join(strays)}, which is no label of the task: predict again "
            "with a model of these labels, or correct it."
        )


def _take_over(annotation, case: Case, outside: np.ndarray | None, labels: Sequence[Label]) -> None:
    """Copy the prediction into the annotation, together with what was drawn outside its parts; *not sure* stays."""
    not_sure = segments.not_sure_on_grid(annotation, case.volume)
    if outside is None:
        segments.copy_segments(case.prediction, annotation)
        follow(annotation, case.prediction.GetParentTransformNode())
    else:
        predicted = segments.voxels_on_grid(case.prediction, case.volume, labels)
        joined = np.where(outside > 0, outside, predicted)
        segments.set_voxels(annotation, joined, volumes.ijk_to_ras(case.volume), labels)
        follow(annotation, case.volume.GetParentTransformNode())
    segments.add_segments(annotation, labels)
    if not_sure.any():
        into_node = np.linalg.inv(segments.world_matrix(annotation)) @ segments.world_matrix(case.volume)
        segments.set_not_sure(annotation, not_sure, into_node @ volumes.ijk_to_ras(case.volume))
    segments.add_not_sure(annotation)
    annotation.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)


def reaches_beyond_prediction(case: Case) -> bool:
    """The annotation began as this prediction, and once it is done more counts than was predicted: its region of
    interest was pulled larger, or removed."""
    return case.began_as_this_prediction and not case.partial and not _predicted_as_a_whole(case)


def _known_as_a_whole(case: Case) -> bool:
    """All that counts of the scan was predicted, or annotated before; true where the parts are not known."""
    return (case.done and not case.partial) or _predicted_as_a_whole(case)


def _predicted_as_a_whole(case: Case) -> bool:
    """All of the scan that counts was predicted: in its box, or everywhere without one."""
    if not case.predicted_parts:
        return True
    try:
        return bool(case.predicted_voxels()[case.box().slices].all())
    except SemiSegError:  # a box that is of no use
        return False


def _orientation_of_parts(case: Case) -> str:
    """The orientation of whole slices that the parts are, the one that counts already first; '' when they are none."""
    shape = np.array(segments.grid_shape(case.volume)[::-1])
    for orientation in [case.partial] if case.partial and case.has_drawing else ORIENTATIONS:
        others = np.arange(3) != volumes.slice_axis(case.volume, orientation)
        if all((np.array(part.size)[others] == shape[others]).all() for part in case.predicted_parts):
            return orientation
    return ""


def _plan_of_parts(case: Case, orientation: str, labels: Sequence[Label]) -> SlicePlan:
    """The slices that were predicted, those in which nothing is as looked at and empty."""
    axis = volumes.slice_axis(case.volume, orientation)
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    predicted = np.flatnonzero(drawn_slices(case.predicted_voxels(), axis)).tolist()
    before = case.slice_plan_of(orientation)
    empty = {number for number in predicted if not drawn_slices(mask, axis)[number]}
    return SlicePlan(orientation, tuple(predicted), (), tuple(sorted(empty.union(before.empty if before else ()))))


def _drawn_outside(case: Case, labels: Sequence[Label]) -> np.ndarray | None:
    """The human mask where nothing was predicted, (k, j, i); None when nothing is drawn there."""
    if not case.predicted_parts or not case.has_drawing:
        return None
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    mask[case.predicted_voxels()] = 0
    return mask if mask.any() else None


def annotation_mask(case: Case, labels: Sequence[Label]) -> np.ndarray:
    """The human mask on the volume's voxels, (k, j, i), with 255 where somebody was not sure and in slices that a
    partial annotation leaves out.

    The region of interest is not considered: what lies outside it is annotated as well.

    :raises CaseError: nothing of the task's labels is drawn, and nobody has said that this is right; or no voxel of the
        scan is in what is drawn
    """
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    if not mask.any() and any(segments.voxel_counts(case.annotation, labels).values()):
        raise CaseError(beside_its_scan(case))
    mask[segments.not_sure_on_grid(case.annotation, case.volume)] = IGNORE_VALUE
    if not case.confirmed_empty and not ((mask > 0) & (mask != IGNORE_VALUE)).any():
        names = ", ".join(segments.foreign_segments(case.annotation, labels)) or "none"
        raise CaseError(
            f"The annotation of '{case.name}' has nothing drawn for {label_names(labels)} (other segments: {names})."
        )
    if not case.partial:
        return mask
    return ignore_slices(mask, volumes.slice_axis(case.volume, case.partial), looked_at=case.empty_slices)


def beside_its_scan(case: Case) -> str:
    """What to say where something is drawn, but no voxel of the scan is in it."""
    return (
        f"The mask of '{case.name}' lies beside the scan, or is thinner than its voxels: move both below the same "
        "transform (Data module), draw anew, or leave the scan out."
    )


def ignore_slices(mask: np.ndarray, axis: int, looked_at: Iterable[int] = ()) -> np.ndarray:
    """A copy of a mask (k, j, i) with 255 in the slices across index axis `axis` in which nothing is drawn, unless
    somebody has looked at them."""
    array_axis = 2 - axis  # arrays are (k, j, i)
    marked = mask.copy()
    empty = ~drawn_slices(mask, axis)
    empty[[number for number in looked_at if number < len(empty)]] = False
    np.moveaxis(marked, array_axis, 0)[empty] = IGNORE_VALUE
    return marked


def drawn_slices(mask: np.ndarray, axis: int) -> np.ndarray:
    """For each slice across index axis `axis` (0 for i) of an array (k, j, i), whether something is drawn in it."""
    return mask.any(axis=tuple(number for number in range(3) if number != 2 - axis))
