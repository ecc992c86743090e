"""Steps that can be taken back: a prediction taken over, a case removed. Each function does the step's opposite.

>>> back = keep_removed(table, case)                                    # doctest: +SKIP
>>> table.remove(case)                                                  # doctest: +SKIP
>>> back()                                                              # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable

import slicer

from . import segments
from .annotations import make_annotation
from .case import Case, CaseError
from .case_table import CaseTable
from .merging import of_other_meaning
from .nodes import put_beside

Back = Callable[[], Case]


def keep_annotation(table: CaseTable, case: Case) -> Back:
    """What gives a case the annotation again that it has now, or none."""
    node, kept, labels = case.annotation, case.kept_annotation(), table.labels
    drawn = transform = None
    if node is not None:
        drawn, transform = slicer.vtkSegmentation(), node.GetTransformNodeID()
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
                annotation.SetAndObserveTransformNodeID(transform)
                case.restore(kept)
        return case

    return back


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
            for _, node in owned:
                put_beside(node, volume)
            table.scene.AddNode(case.node)  # when it is complete
            case.restore(kept)
            table.tell_apart()  # a study that was added meanwhile may have given its files to another scan
        return case

    return back
