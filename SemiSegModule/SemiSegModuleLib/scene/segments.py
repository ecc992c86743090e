"""Task labels and the segments of a segmentation node: names, colours, terminology, voxels, volumes.

A segment belongs to a label by its ID (`SemiSeg_<value>`, kept when a clinician renames it) or else by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

BINARY = "Binary labelmap"  # names of representations, as in Slicer's files
SURFACE = "Closed surface"
_CACHED_COUNTS = 2000
_GENERAL = "Segmentation category and type - 3D Slicer General Anatomy list"
_DICOM = "Segmentation category and type - DICOM master list"
_REGIONS = "Anatomic codes - DICOM master list"
_ANATOMY = {  # SNOMED CT
    "left atrium": ("82471001", "Left atrium"),
    "right ventricle": ("53085002", "Right Ventricle"),
    "left ventricle": ("87878005", "Left Ventricle"),
    "myocardium": ("74281007", "Myocardium"),
    "pancreas": ("15776009", "Pancreas"),
}
_ONLY_IN_DICOM = {"left atrium"}  # Slicer's general list lacks it
_IN_NO_LIST = {"myocardium": ("SCT", "80891009", "Heart")}  # what Slicer can show instead of it
_TISSUE = ("SCT", "85756007", "Tissue")  # what Slicer itself gives to a new segment
Code = tuple[str, str, str]  # scheme, value, meaning


class SegmentError(SemiSegError):
    """A segmentation does not fit the task's labels."""


def segment_id(label: Label) -> str:
    """The ID of the segment that stands for `label`, the same in every case and scene."""
    return f"SemiSeg_{label.value}"


def codes(label: Label) -> tuple[Code, Code]:
    """Category and type of what the label stands for: the anatomy where the name is known, else tissue."""
    known = _ANATOMY.get(label.name.casefold())
    return (("SCT", "123037004", "Anatomical Structure"), ("SCT", *known)) if known else (_TISSUE, _TISSUE)


def terminology(label: Label) -> str:
    """Slicer's `TerminologyEntry` text for the label."""
    category, kind = ("^".join(code) for code in codes(label))
    context = _DICOM if label.name.casefold() in _ONLY_IN_DICOM else _GENERAL
    if label.name.casefold() in _IN_NO_LIST:
        kind = "^".join(_IN_NO_LIST[label.name.casefold()])
    return f"{context}~{category}~{kind}~^^~{_REGIONS}~^^~^^"


def add_segments(segmentation_node, labels: Sequence[Label]) -> None:
    """Give the node an empty segment for every label that has none yet; existing segments stay as they are."""
    segmentation = segmentation_node.GetSegmentation()
    present = set(segments_by_label(segmentation_node, labels).values())
    for label in labels:
        if label.value not in present:
            segmentation.AddSegment(_new_segment(label), segment_id(label))


def set_voxels(segmentation_node, array: np.ndarray, ijk_to_ras: np.ndarray, labels: Sequence[Label]) -> None:
    """Replace all segments by those of a label map.

    :param array: integers, shape (k, j, i); values without a label are left out
    :param ijk_to_ras: 4 x 4, in the coordinate frame of the node (below its parent transform), mm
    """
    image = _oriented_image(array, ijk_to_ras)
    segmentation = segmentation_node.GetSegmentation()
    with slicer.util.NodeModify(segmentation_node):
        segmentation.RemoveAllSegments()
        segmentation.SetSourceRepresentationName(BINARY)
        for label in labels:
            segment = _new_segment(label)
            segment.AddRepresentation(BINARY, image)  # one shared label map, as Slicer keeps it
            segmentation.AddSegment(segment, segment_id(label))


def segments_by_label(segmentation_node, labels: Sequence[Label]) -> dict[str, int]:
    """Label value by segment ID, in the order of the segments; segments that fit no label are left out.

    :raises SegmentError: two segments fit the same label
    """
    segmentation = segmentation_node.GetSegmentation()
    by_id = {segment_id(label): label for label in labels}
    by_name = {label.name.strip().casefold(): label for label in labels}
    found: dict[str, int] = {}
    for identifier in segmentation.GetSegmentIDs():
        name = segmentation.GetSegment(identifier).GetName()
        label = by_id.get(identifier) or by_name.get((name or "").strip().casefold())
        if label is None:
            continue
        if label.value in found.values():
            raise SegmentError(
                f"'{segmentation_node.GetName()}' has two segments for '{label.name}': "
                "join them with Logical operators, rename one or delete it."
            )
        found[identifier] = label.value
    return found


def foreign_segments(segmentation_node, labels: Sequence[Label]) -> list[str]:
    """Names of the segments that belong to no label of the task, such as helpers drawn on the way."""
    known = segments_by_label(segmentation_node, labels)
    segmentation = segmentation_node.GetSegmentation()
    others = [identifier for identifier in segmentation.GetSegmentIDs() if identifier not in known]
    return [segmentation.GetSegment(identifier).GetName() for identifier in others]


def voxels_on_grid(segmentation_node, volume_node, labels: Sequence[Label]) -> np.ndarray:
    """The segmentation as a label map on the voxels of a volume, wherever transforms have put both.

    Values are those of the labels, whatever the order of the segments; where segments overlap, the later one wins.

    :return: uint8 (uint16 for values above 255), shape (k, j, i) of the volume
    """
    shape = slicer.util.arrayFromVolume(volume_node).shape
    values = segments_by_label(segmentation_node, labels)
    mask = np.zeros(shape, np.min_scalar_type(max((label.value for label in labels), default=0)))
    with _temporary_labelmap(segmentation_node.GetScene()) as labelmap:
        for identifier, value in values.items():
            if not is_empty(segmentation_node, identifier):
                mask[_segment_on_grid(segmentation_node, identifier, volume_node, labelmap)] = value
    return mask


def make_voxels(segmentation_node, volume_node) -> None:
    """Give a segmentation made of surfaces (an STL file, say) voxels on the grid of a volume; others stay."""
    if not segmentation_node.GetSegmentation().ContainsRepresentation(BINARY):
        segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        segmentation_node.CreateBinaryLabelmapRepresentation()


def is_empty(segmentation_node, identifier: str) -> bool:
    """Nothing is drawn in this segment."""
    return not _count_voxels(segmentation_node.GetSegmentation().GetSegment(identifier))


def counts_by_segment(segmentation_node) -> dict[str, int]:
    """Number of voxels of each segment, by its ID."""
    segmentation = segmentation_node.GetSegmentation()
    return {
        identifier: _count_voxels(segmentation.GetSegment(identifier)) for identifier in segmentation.GetSegmentIDs()
    }


def voxel_counts(segmentation_node, labels: Sequence[Label]) -> dict[int, int]:
    """Number of voxels, on the segmentation's own grid, by value of the labels that have a segment."""
    segmentation = segmentation_node.GetSegmentation()
    return {
        value: _count_voxels(segmentation.GetSegment(identifier))
        for identifier, value in segments_by_label(segmentation_node, labels).items()
    }


def drawn_voxels(segmentation_node, labels: Sequence[Label]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each label with voxels: 4 x 4 from indices to the node's own frame, and indices (i, j, k), shape (n, 3)."""
    yield from _voxels(segmentation_node, segments_by_label(segmentation_node, labels))


def all_voxels(segmentation_node) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same for every segment, whether it stands for a label or not."""
    yield from _voxels(segmentation_node, segmentation_node.GetSegmentation().GetSegmentIDs())


def _voxels(segmentation_node, identifiers: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    segmentation = segmentation_node.GetSegmentation()
    for identifier in identifiers:
        image = segmentation.GetSegment(identifier).GetRepresentation(BINARY)
        voxels = _segment_voxels(segmentation.GetSegment(identifier))
        if voxels is not None:
            matrix = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(matrix)
            yield slicer.util.arrayFromVTKMatrix(matrix), np.argwhere(voxels)[:, ::-1] + image.GetExtent()[::2]


def fingerprint(segmentation_node) -> str:
    """Of everything that is drawn, the same only while no voxel is changed."""
    digest = hashlib.blake2b(digest_size=16)
    segmentation = segmentation_node.GetSegmentation()
    for identifier in segmentation.GetSegmentIDs():
        voxels = _segment_voxels(segmentation.GetSegment(identifier))
        where = np.argwhere(voxels) if voxels is not None else np.empty((0, 3), int)
        if len(where):  # an editor may have made the grid larger than what is drawn
            image = segmentation.GetSegment(identifier).GetRepresentation(BINARY)
            digest.update(identifier.encode())
            digest.update(np.ascontiguousarray(where[:, ::-1] + image.GetExtent()[::2]).data)
    return digest.hexdigest()


def volumes_ml(segmentation_node, labels: Sequence[Label]) -> dict[int, float]:
    """Volume in millilitres of world space by label value; labels without a segment are left out.

    :raises SegmentError: the node is under a non-linear transform, where a voxel has no one size
    """
    segmentation = segmentation_node.GetSegmentation()
    scale = abs(float(np.linalg.det(world_matrix(segmentation_node)[:3, :3])))
    return {
        value: _volume_mm3(segmentation.GetSegment(identifier)) * scale / 1000.0
        for identifier, value in segments_by_label(segmentation_node, labels).items()
    }


def copy_segments(source_node, target_node) -> None:
    """Replace the segments of `target_node` by independent copies of those of `source_node`."""
    target = target_node.GetSegmentation()
    with slicer.util.NodeModify(target_node):
        target.RemoveAllSegments()
        target.DeepCopy(source_node.GetSegmentation())


def world_matrix(transformable_node) -> np.ndarray:
    """4 x 4 from the node's own frame to world (RAS, mm).

    :raises SegmentError: the node is under a non-linear transform
    """
    matrix = vtk.vtkMatrix4x4()
    parent = transformable_node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise SegmentError(
            f"'{transformable_node.GetName()}' is under the non-linear transform '{parent.GetName()}', which does "
            "not keep voxels on a grid. Harden the transform in the Data module (right click, Harden transform) "
            "or take the node out of it, then try again."
        )
    if parent is not None:
        parent.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def rgb(label: Label) -> tuple[float, float, float]:
    """Colour from 0 to 1, as VTK wants it."""
    red, green, blue = label.color
    return red / 255.0, green / 255.0, blue / 255.0


def by_value(labels: Sequence[Label]) -> Mapping[int, Label]:
    """The labels by their values."""
    return {label.value: label for label in labels}


def _new_segment(label: Label):
    segment = slicer.vtkSegment()
    segment.SetName(label.name)
    segment.SetColor(*rgb(label))
    segment.SetLabelValue(label.value)
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminology(label))
    return segment


def _oriented_image(array: np.ndarray, ijk_to_ras: np.ndarray):
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*reversed(array.shape))
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True)
    image.GetPointData().SetScalars(scalars)
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    return image


def _segment_voxels(segment) -> np.ndarray | None:
    """True where the segment is, on its own grid (k, j, i); None when nothing was ever drawn."""
    image = segment.GetRepresentation(BINARY)
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return None
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(tuple(reversed(image.GetDimensions())))
    return values == segment.GetLabelValue()


_counts: dict[tuple, int] = {}


def _count_voxels(segment) -> int:
    """Counted once for each state of the voxels: tables ask for every case at every change."""
    image = segment.GetRepresentation(BINARY)
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None:
        return 0
    # VTK's modification times are unique in a process, so no other image can have this key.
    key = (image.GetMTime(), scalars.GetMTime(), segment.GetLabelValue())
    if key not in _counts:
        while len(_counts) >= _CACHED_COUNTS:
            _counts.pop(next(iter(_counts)))
        voxels = _segment_voxels(segment)
        _counts[key] = 0 if voxels is None else int(np.count_nonzero(voxels))
    return _counts[key]


def _volume_mm3(segment) -> float:
    count = _count_voxels(segment)
    return count * float(np.prod(segment.GetRepresentation(BINARY).GetSpacing())) if count else 0.0


def _segment_on_grid(segmentation_node, identifier: str, volume_node, labelmap) -> np.ndarray:
    """True where the segment is, on the voxels of the volume; Slicer resamples through both nodes' transforms."""
    exported = slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
        segmentation_node, [identifier], labelmap, volume_node, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    )
    if not exported:
        raise SegmentError(f"A segment of '{segmentation_node.GetName()}' could not be turned into voxels.")
    return slicer.util.arrayFromVolume(labelmap) != 0


@contextmanager
def _temporary_labelmap(scene):
    """A hidden label map node that leaves nothing behind, not even the display and colour nodes Slicer adds."""
    labelmap = slicer.vtkMRMLLabelMapVolumeNode()
    labelmap.SetHideFromEditors(True)
    scene.AddNode(labelmap)
    try:
        yield labelmap
    finally:
        display = labelmap.GetDisplayNode()
        colors = display.GetColorNode() if display is not None else None
        if colors is not None and colors.IsA("vtkMRMLColorTableNode") and colors.GetType() == colors.User:
            scene.RemoveNode(colors)
        if display is not None:
            scene.RemoveNode(display)
        scene.RemoveNode(labelmap)
