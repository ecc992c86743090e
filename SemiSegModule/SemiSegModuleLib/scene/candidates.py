"""What of a scene can be a case, and which mask can be its annotation."""

from __future__ import annotations

from .case import Case, CaseError
from .left_annotations import volume_of_left
from .scan import shown_name


def check_volume(node) -> None:
    """Raises CaseError where a node cannot be a case."""
    problem = why_not(node)
    if problem:
        raise CaseError(problem)


def check_annotation(annotation, volume_node, owner: Case | None) -> None:
    """No mask may count as two patients'; raises CaseError.

    :param owner: the case that it belongs to, if any
    """
    volume = owner.volume if owner is not None else volume_of_left(annotation)
    if volume is not None and volume is not volume_node:
        raise CaseError(f"'{shown_name(annotation)}' is that of '{shown_name(volume)}': a scan needs its own mask.")


def why_not(node) -> str:
    """Why a node cannot be a case; '' when it can."""
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return f"'{node.GetName() if node else 'nothing'}' is not a scan (a scalar volume)."
    if node.IsA("vtkMRMLVectorVolumeNode") or node.GetAttribute("SemiSeg.LabelValue"):
        return f"'{node.GetName()}' is a colour image or a map made by SemiSeg, not a scan."
    image = node.GetImageData()
    if image is None or not image.GetNumberOfPoints():
        return f"'{node.GetName()}' has no voxels."
    if image.GetNumberOfScalarComponents() != 1:
        return f"'{node.GetName()}' has {image.GetNumberOfScalarComponents()} values a voxel; a scan has one."
    return ""
