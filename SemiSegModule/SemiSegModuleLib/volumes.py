"""Volume nodes as images in world space and back; ITK's world is LPS, Slicer's is RAS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from SemiSegLib.errors import SemiSegError

from .segments import world_matrix

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SHEAR = 1e-4  # largest cosine between axes that counts as a right angle


class VolumeError(SemiSegError):
    """A volume cannot be brought to a file or back; the message names it."""


def ijk_to_ras(volume_node) -> np.ndarray:
    """4 x 4 from voxel indices to the volume's own frame, mm."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def world_image(volume_node, array: np.ndarray | None = None) -> sitk.Image:
    """The volume, or another array on its voxels, where its transforms put it in the world (a hardened copy).

    :param array: shape (k, j, i); the volume's own voxels when None
    :raises SemiSegError: a non-linear transform, or one that shears the voxels
    """
    voxels = slicer.util.arrayFromVolume(volume_node) if array is None else array
    matrix = RAS_LPS @ world_matrix(volume_node) @ ijk_to_ras(volume_node)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > _SHEAR:
        raise VolumeError(
            f"The axes of '{volume_node.GetName()}' are not at right angles in the world, which files cannot hold: "
            "take it out of its shearing transform, or resample it (module Resample Scalar/Vector/DWI Volume)."
        )
    image = sitk.GetImageFromArray(_storable(voxels))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def image_to_ras(image: sitk.Image) -> np.ndarray:
    """4 x 4 from the image's voxel indices to the world (RAS, mm)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return RAS_LPS @ matrix


def like(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    """An array (k, j, i) as an image in the place of another."""
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


def fill_volume(volume_node, array: np.ndarray, matrix: np.ndarray) -> None:
    """Give the node voxels (k, j, i) and their place: 4 x 4 to its own frame, mm."""
    slicer.util.updateVolumeFromArray(volume_node, np.ascontiguousarray(array))
    volume_node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))


def slice_axis(volume_node, orientation: str) -> int:
    """The index axis (0 for i) most nearly perpendicular to 'axial', 'coronal' or 'sagittal' slices."""
    towards = {"sagittal": 0, "coronal": 1, "axial": 2}[orientation]
    axes = (world_matrix(volume_node) @ ijk_to_ras(volume_node))[:3, :3]
    return int(np.argmax(np.abs(axes / np.linalg.norm(axes, axis=0))[towards]))


def read_image(path: Path) -> sitk.Image:
    """A scalar image file of three dimensions; raises VolumeError."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise VolumeError(f"{path} cannot be read as an image: {str(error).strip().splitlines()[-1]}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise VolumeError(f"{path} is not one scalar volume of three dimensions.")
    return image


def write_image(image: sitk.Image, path: Path, compress: bool = True) -> None:
    """Write whole or not at all: under a temporary name first. Raises VolumeError."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(unfinished), useCompression=compress)
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:
        raise VolumeError(f"{path} cannot be written: {str(error).strip().splitlines()[-1]}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _storable(voxels: np.ndarray) -> np.ndarray:
    """The array in a type that every format holds."""
    if voxels.dtype == np.bool_:
        return voxels.astype(np.uint8)
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        return voxels.astype(np.int32 if np.abs(voxels).max(initial=0) < 2**31 else np.float64)
    return voxels
