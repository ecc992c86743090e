"""Annotations whose scan has left the table: they stay in the scene, and are found again when the scan is added again.

>>> leave_annotation(case, table.labels)                                # doctest: +SKIP
>>> take_up_annotation(again, left_annotation(again.volume), table.labels)   # doctest: +SKIP

The annotation says itself of which volume it is, and what its segments stand for. A copy of the volume, which Slicer
makes with everything that a volume says, is another scan and gets nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import slicer

from SemiSegLib.config import Label

from . import segments
from .case import ANNOTATION_MARK, Case
from .merging import keep_meaning
from .node_values import role
from .records import labels_from_text, labels_to_text

_KEPT, _LABELS = "SemiSeg.Kept", "SemiSeg.Labels"  # attributes of the annotation: what was known of it, and its labels


def leave_annotation(case: Case, labels: Sequence[Label]) -> None:
    """The annotation notes whose it is and what is known of it, before its case is gone."""
    for former in _left(case.volume):
        former.SetNodeReferenceID(role("volume"), None)
    if case.annotation is not None:
        case.annotation.SetNodeReferenceID(role("volume"), case.volume.GetID())
        case.annotation.SetAttribute(_KEPT, json.dumps(case.kept_annotation()))
        case.annotation.SetAttribute(_LABELS, labels_to_text(labels))


def left_annotation(volume):
    """The annotation that this very volume had when its case left the table; None when there is none."""
    return next(iter(_left(volume)), None)


def volume_of_left(annotation):
    """The volume whose case had this annotation when it left the table; None of any other."""
    return annotation.GetNodeReference(role("volume")) if annotation is not None else None


def take_up_annotation(case: Case, annotation, labels: Sequence[Label]) -> None:
    """It is this case's again, as finished as it was; where the labels are others by now, it stands for what it did."""
    case.annotation = annotation
    case.restore(json.loads(annotation.GetAttribute(_KEPT) or "{}"))
    keep_meaning(case, labels_from_text(annotation.GetAttribute(_LABELS) or ""), labels)


def rename_left(scene, then: Label, name: str) -> None:
    """Where this label was among those of an annotation, it is called otherwise from now on."""
    for node in _every_left(scene):
        theirs = labels_from_text(node.GetAttribute(_LABELS) or "")
        known = [label for label in theirs if (label.value, label.name) == (then.value, then.name)]
        if known and name.casefold() not in [label.name.casefold() for label in theirs if label not in known]:
            now = [dataclasses.replace(label, name=name) if label in known else label for label in theirs]
            segments.follow_labels(node, theirs, now)
            node.SetAttribute(_LABELS, labels_to_text(now))


def _left(volume) -> list:
    return [node for node in _every_left(volume.GetScene()) if node.GetNodeReference(role("volume")) is volume]


def _every_left(scene) -> list:
    every = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    return [node for node in every if node.GetAttribute(ANNOTATION_MARK) and node.GetNodeReference(role("volume"))]
