"""The optional region of interest of a case: a markups box, and the block of the scan's voxels that it stands for.

>>> node = fit_region(None, volume, annotation, labels)                 # doctest: +SKIP
>>> voxel_box(node, volume).size                                        # doctest: +SKIP
(96, 80, 40)

Training and prediction use only this block. It holds every voxel whose centre lies in the box; a box that is turned
against the scan's axes is covered by the smallest block around it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import slicer

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from . import segments, volumes
from .scan import shown_name
from .volumes import VoxelBox

MARGIN_MM = 10.0  # our choice: surroundings to tell the organ from
FEWEST_VOXELS = 4  # along each axis (our choice): thinner blocks hold nothing to learn from
_ON_THE_FACE = 1e-3  # voxels: a centre that rounding puts this far outside counts as inside


class RegionError(SemiSegError):
    """The region of interest of a case is of no use; the message names the case."""


def fit_region(roi_node, volume_node, segmentation_node=None, labels: Sequence[Label] = ()):
    """Put a box around what is drawn, with a margin, or around the whole scan where nothing is.

    Its axes are those of the scan, and it lies below the scan's transform.

    :param roi_node: the box to move; a new one is made in the volume's scene when None
    :return: the vtkMRMLMarkupsROINode
    """
    node = roi_node or _new_region(volume_node)
    first, last = _bounds(volume_node, segmentation_node, labels)
    to_ras = volumes.ijk_to_ras(volume_node)
    spacing = np.linalg.norm(to_ras[:3, :3], axis=0)
    axes = np.eye(4)
    axes[:3, :3] = to_ras[:3, :3] / spacing
    if np.linalg.det(axes) < 0:  # the box is the same, and markups know rotations only
        axes[:3, 2] *= -1
    axes[:3, 3] = (to_ras @ [*(first + last) / 2, 1.0])[:3]
    parent = volume_node.GetParentTransformNode()
    with slicer.util.NodeModify(node):
        node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
        node.SetCenter(axes[:3, 3])
        node.GetObjectToNodeMatrix().DeepCopy(axes.ravel().tolist())
        node.SetSize((last - first) * spacing)
    return node


def voxel_box(roi_node, volume_node) -> VoxelBox:
    """The voxels of the scan that lie in the box; the whole scan when there is no box.

    :raises SemiSegError: the box misses the scan, is too thin, or one of both is under a non-linear transform
    """
    shape = _shape(volume_node)
    if roi_node is None:
        return VoxelBox.of(np.zeros(3), shape)
    if not roi_node.GetNumberOfDefinedControlPoints():
        raise _of_no_use(volume_node, "has no place: fit it again, or remove it.")
    corners = _corners(roi_node, volume_node)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high < -0.5).any() or (low > shape - 0.5).any():
        raise _of_no_use(volume_node, "lies outside the scan: move it, fit it again, or remove it.")
    first = np.maximum(np.ceil(low - _ON_THE_FACE), 0)
    size = np.minimum(np.floor(high + _ON_THE_FACE), shape - 1) - first + 1
    if (size < np.minimum(FEWEST_VOXELS, shape)).any():
        counts = " x ".join(str(max(0, int(count))) for count in size)
        raise _of_no_use(
            volume_node,
            f"is too thin, {counts} voxels: make it at least {FEWEST_VOXELS} voxels large in every direction, fit it "
            "again, or remove it.",
        )
    return VoxelBox.of(first, size)


def _of_no_use(volume_node, why: str) -> RegionError:
    return RegionError(f"The region of interest of '{shown_name(volume_node)}' {why}")


def slab(volume_node, orientation: str, place: Sequence[float], thickness_mm: float = 0.0) -> VoxelBox:
    """The slices of a scan within half of a thickness from a place in the world (RAS, mm); at least one.

    :param orientation: 'axial', 'coronal' or 'sagittal'
    :raises SemiSegError: the place lies beside the scan, or the scan is below a non-linear transform
    """
    axis = volumes.slice_axis(volume_node, orientation)
    shape = _shape(volume_node)
    to_index = _to_index(volume_node)
    middle = (to_index @ [*place, 1.0])[axis]
    if not -0.5 <= middle <= shape[axis] - 0.5:
        raise RegionError(f"The {orientation} slice lies beside '{shown_name(volume_node)}': show one of its slices.")
    spacing = np.linalg.norm(np.linalg.inv(to_index)[:3, axis])
    nearest, reach = min(round(middle), shape[axis] - 1), thickness_mm / 2 / spacing + _ON_THE_FACE
    first = max(0, min(nearest, int(np.ceil(middle - reach))))
    last = min(shape[axis] - 1, max(nearest, int(np.floor(middle + reach))))
    start, size = np.zeros(3), shape.copy()
    start[axis], size[axis] = first, last - first + 1
    return VoxelBox.of(start, size)


def shown_place(volume_node, orientation: str) -> tuple[float, float, float]:
    """The middle (RAS, mm) of the slice view that is nearest to an orientation of the scan's own slices; that of the
    scan where there is no view."""
    axis = volumes.slice_axis(volume_node, orientation)
    to_world = np.linalg.inv(_to_index(volume_node))
    normal = to_world[:3, axis] / np.linalg.norm(to_world[:3, axis])
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode", volume_node.GetScene())
    planes = [slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS()) for view in views]
    if planes:
        place = max(planes, key=lambda plane: abs(normal @ plane[:3, 2]))[:3, 3]
    else:
        middle = (_shape(volume_node) - 1) / 2
        place = (to_world @ [*middle, 1.0])[:3]
    return tuple(float(part) for part in place)


def voxels_outside(segmentation_node, volume_node, box: VoxelBox, labels: Sequence[Label]) -> int:
    """How many voxels of the labels, on the segmentation's own grid, lie outside a block of the scan's voxels."""
    indices = drawn_indices(segmentation_node, volume_node, labels)
    outside = (indices < box.start) | (indices >= np.add(box.start, box.size))
    return int(outside.any(axis=1).sum())


def drawn_indices(segmentation_node, volume_node, labels: Sequence[Label]) -> np.ndarray:
    """The scan's voxel (i, j, k) nearest to each voxel of the labels, shape (n, 3)."""
    return _on_scan(segmentation_node, volume_node, segments.drawn_voxels(segmentation_node, labels))


def marked_slices(segmentation_node, volume_node, labels: Sequence[Label], axis: int) -> set[int]:
    """The scan's slices across index axis `axis` (0 for i) in which a label is drawn, or where nobody is sure.

    Without the whole scan being looked at: this is asked for after every stroke.
    """
    indices = _on_scan(segmentation_node, volume_node, segments.marked_voxels(segmentation_node, labels))
    shape = _shape(volume_node)
    inside = ((indices >= 0) & (indices < shape)).all(axis=1)
    return set(np.unique(indices[inside, axis]).tolist())


def _on_scan(segmentation_node, volume_node, voxels: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    to_index = _to_index(volume_node) @ segments.world_matrix(segmentation_node)
    found = [np.empty((0, 3), int)]
    for image_to_node, indices in voxels:
        matrix = to_index @ image_to_node
        step = segments.whole_step(matrix, int(np.abs(indices).max(initial=0)))  # quick, and nearly always so
        moved = np.rint(indices @ matrix[:3, :3].T + matrix[:3, 3]).astype(int) if step is None else indices + step
        found.append(moved)
    return np.concatenate(found)


def _new_region(volume_node):
    node = volume_node.GetScene().AddNewNodeByClass(
        "vtkMRMLMarkupsROINode", f"{shown_name(volume_node)} region of interest"
    )
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetHandlesInteractive(True)
    display.SetRotationHandleVisibility(False)  # what counts has the scan's axes
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(False)
    display.SetFillOpacity(0.05)
    return node


def _bounds(volume_node, segmentation_node, labels: Sequence[Label]) -> tuple[np.ndarray, np.ndarray]:
    """First and last corner of the box in voxel indices (i, j, k): faces lie between voxels."""
    shape = _shape(volume_node)
    whole = np.full(3, -0.5), shape - 0.5
    if segmentation_node is None:
        return whole
    indices = drawn_indices(segmentation_node, volume_node, labels)
    inside = indices[((indices >= 0) & (indices < shape)).all(axis=1)]
    if not len(inside):
        return whole
    to_world = segments.world_matrix(volume_node) @ volumes.ijk_to_ras(volume_node)
    margin = np.ceil(MARGIN_MM / np.linalg.norm(to_world[:3, :3], axis=0))
    return np.maximum(inside.min(axis=0) - 0.5 - margin, -0.5), np.minimum(
        inside.max(axis=0) + 0.5 + margin, shape - 0.5
    )


def _corners(roi_node, volume_node) -> np.ndarray:
    """The eight corners of the box as continuous voxel indices (i, j, k), shape (8, 3)."""
    to_node = slicer.util.arrayFromVTKMatrix(roi_node.GetObjectToNodeMatrix())
    half = np.array(roi_node.GetSize()) / 2
    corners = np.array([[*half * signs, 1.0] for signs in itertools.product((-1, 1), repeat=3)])
    to_index = _to_index(volume_node) @ segments.world_matrix(roi_node) @ to_node
    return (corners @ to_index.T)[:, :3]


def _shape(volume_node) -> np.ndarray:
    """Voxels along (i, j, k)."""
    return np.array(segments.grid_shape(volume_node)[::-1])


def _to_index(volume_node) -> np.ndarray:
    """4 x 4 from the world (RAS, mm) to voxel indices of the volume."""
    return np.linalg.inv(segments.world_matrix(volume_node) @ volumes.ijk_to_ras(volume_node))
