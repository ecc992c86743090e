"""Steps that can be taken back: a prediction taken over, a case removed. Each function does the step's opposite.

>>> back = keep_removed(table, case)                                    # doctest: +SKIP
>>> table.remove(case)                                                  # doctest: +SKIP
>>> back()                                                              # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer

from SemiSegLib.errors import SemiSegError

from . import segments, volumes
from .annotations import make_annotation
from .case import Case, CaseError
from .case_table import CaseTable
from .merging import of_other_meaning
from .nodes import follow, put_beside

_SAME_PLACE = 1e-4  # mm, or a part of a turn, that rounding alone may make

Back = Callable[[], Case]


def keep_annotation(table: CaseTable, case: Case) -> Back:
    """What gives a case the annotation again that it has now, or none."""
    node, kept, labels = case.annotation, case.kept_annotation(), table.labels
    drawn = place = None
    if node is not None:
        drawn, place = slicer.vtkSegmentation(), _keep_place(node, case.volume)
        drawn.DeepCopy(node.GetSegmentation())

    def back() -> Case:
        with table.paused():
            if drawn is None:
                if case.annotation is not None:
                    table.scene.RemoveNode(case.annotation)
                case.restore(kept)
            elif case in table.cases:
                annotation = make_annotation(table, case)  # somebody may have deleted it
                annotation.GetSegmentation().RemoveAllSegments()
                annotation.GetSegmentation().DeepCopy(drawn)
                segments.follow_labels(annotation, labels, table.labels)
                place(annotation)
                case.restore(kept)
        return case

    return back


def _keep_place(node, volume) -> Callable[[Any], None]:
    """What puts a node, or another that holds the same, on those voxels of a scan again on which it lies now: what was
    taken away meanwhile was not there when the scan's transform was hardened, changed or deleted."""
    transform = node.GetTransformNodeID()
    try:
        scan, own = volumes.Place.of(volume), segments.world_matrix(node)
    except SemiSegError:  # bent, or a scan without voxels: all that is known is the transform
        return lambda again: again.SetAndObserveTransformNodeID(transform)

    def place(again) -> None:
        again.SetAndObserveTransformNodeID(transform)
        with contextlib.suppress(SemiSegError):  # bent now
            into = scan.into_frame_of(volume) @ own
            now = np.linalg.inv(segments.world_matrix(volume)) @ segments.world_matrix(again)
            if np.abs(now - into).max() > _SAME_PLACE:
                follow(again, volume.GetParentTransformNode())
                again.ApplyTransformMatrix(slicer.util.vtkMatrixFromArray(into))

    return place


def drawn_since(case: Case) -> Callable[[], bool]:
    """What tells whether somebody has drawn in the annotation of a case from now on."""
    then = segments.fingerprint(case.annotation)
    return lambda: case.annotation is not None and segments.fingerprint(case.annotation) != then


def keep_removed(table: CaseTable, case: Case) -> Back:
    """What puts a case into the table again after `CaseTable.remove`, with its prediction, maps and region; it raises
    CaseError when the scan itself was deleted since, or was added again and something was made of it, or its masks
    would count as other structures."""
    name, volume, annotation, labels = case.name, case.volume, case.annotation, table.labels
    prediction = case.prediction
    masked = annotation is not None or prediction is not None
    owned = [("prediction", case.prediction), ("region", case.region)]
    owned += [("sdm", node) for node in case.sdms.values()]
    owned += [("probability", node) for node in case.probabilities.values()]
    owned += [("uncertainty", case.uncertainty)]
    owned = [(kind, node) for kind, node in owned if node is not None]
    others = [("volume", volume), ("annotation", annotation)]
    places = [(node, _keep_place(node, volume)) for _, node in owned]
    displays = [node.GetNthDisplayNode(n) for _, node in owned for n in range(node.GetNumberOfDisplayNodes())]
    kept = case.kept_prediction()

    def back() -> Case:
        if volume.GetScene() is None:
            raise CaseError(f"'{name}' cannot be brought back: its scan was deleted from the scene.")
        meant = table.called_now(labels)
        if masked and of_other_meaning(meant, table.labels):
            raise CaseError(
                f"'{name}' cannot be brought back: the labels of the study are others now. Add its scan again."
            )
        added = table.case_of(volume)
        others_mask = added is not None and added.annotation not in (None, annotation)
        if others_mask or (added is not None and added.prediction is not None):
            raise CaseError(f"'{name}' is in the table again, with a mask: that one stays.")
        with table.paused():
            if added is not None:
                case.restore(added.kept_annotation() if added.annotation is not None else {})
                case.restore(added.kept_scan())
                table.remove(added)
            for node in [*displays, *(node for _, node in owned)]:
                if node is not None and node.GetScene() is None:
                    table.scene.AddNode(node)
            if prediction is not None:
                segments.follow_labels(prediction, labels, meant)  # the annotation was in the scene all the time
            for kind, node in [*others, *owned]:
                if node is not None and node.GetScene() is not None:
                    case.add_reference(kind, node)
            for node, place in places:
                place(node)
                put_beside(node, volume)
            table.scene.AddNode(case.node)  # when it is complete
            case.restore(kept)
            table.tell_apart()  # a study that was added meanwhile may have given its files to another scan
        return case

    return back
