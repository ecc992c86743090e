"""Scans that come as NumPy arrays, checked as files are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.data.formats import ImageError
from SemiSegLib.data.geometry import Geometry, right_angled
from SemiSegLib.data.images import IN_MEMORY, scan_from_image

if TYPE_CHECKING:
    import SimpleITK as sitk

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def scan_from_array(
    array: np.ndarray, spacing: Sequence[float] | None = None, affine: np.ndarray | None = None
) -> sitk.Image:
    """A scan (3D, float32) of an array indexed [x, y, z], and one of

    spacing: mm along x, y, z; the axes then run to the patient's left, back and head, the first voxel lies at 0.
    affine: 4x4, voxel indices to mm in RAS, as nibabel's images have it.

    Raises ImageError for anything else, GeometryError for sheared axes.
    """
    import SimpleITK as sitk

    array = np.asarray(array)
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise ImageError(
            f"a scan is an array of numbers indexed [x, y, z], not {array.dtype} of shape {array.shape} "
            "(a single slice: array[:, :, None])"
        )
    if (spacing is None) == (affine is None):
        raise ImageError("an array needs its voxels' size: give spacing=(x, y, z) in mm, or affine= as nibabel has it")
    matrix = np.diag([*_sides(spacing), 1.0]) if spacing is not None else _RAS_TO_LPS @ _affine(affine)
    sides = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / np.where(sides > 0, sides, 1.0)
    geometry = Geometry(
        array.shape, *(tuple(map(float, part)) for part in (sides, matrix[:3, 3] + 0.0, direction.ravel() + 0.0))
    )
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T, dtype=np.float32))
    return scan_from_image(right_angled(geometry, IN_MEMORY).stamp(image))


def _sides(spacing: Sequence[float]) -> list[float]:
    sides = [float(side) for side in spacing]
    if len(sides) != 3 or not all(0 < side < float("inf") for side in sides):
        raise ImageError(f"spacing needs three sizes in mm along x, y and z, not {spacing}")
    return sides


def _affine(affine: np.ndarray | None) -> np.ndarray:
    matrix = np.asarray(affine, dtype=float)
    if matrix.shape != (4, 4):
        raise ImageError(f"affine needs 4 x 4 numbers, as nibabel's images have it, not shape {matrix.shape}")
    return matrix
