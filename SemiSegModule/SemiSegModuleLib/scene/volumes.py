"""Volume nodes as images in world space and back; ITK's world is LPS, Slicer's is RAS."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import replace

from .scan import shown_name
from .segments import grid_shape, world_matrix

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SHEAR = 1e-4  # largest cosine between axes that counts as a right angle
_LEVEL = 1  # of zlib: four times as fast as its default and a few per cent larger
_NIFTI_HEAD, _NRRD_HEAD = 352, 65536  # bytes: exactly so long; not longer
_OFF_GRID = 0.1  # voxels that a grid may lie beside another and still be the same


class VolumeError(SemiSegError):
    """A volume cannot be brought to a file or back; the message names it."""


@dataclasses.dataclass(frozen=True)
class VoxelBox:
    """A block of a volume's voxels: its first index and its size, each (i, j, k)."""

    start: tuple[int, int, int]
    size: tuple[int, int, int]

    @classmethod
    def of(cls, start: Sequence[float] | np.ndarray, size: Sequence[float] | np.ndarray) -> VoxelBox:
        """From any whole numbers."""
        return cls(tuple(int(part) for part in start), tuple(int(part) for part in size))

    def contains(self, other: VoxelBox) -> bool:
        """Every voxel of the other block is in this one."""
        return all(
            a <= b and b + m <= a + n for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True)
        )

    @property
    def slices(self) -> tuple[slice, ...]:
        """The block in an array (k, j, i)."""
        return tuple(slice(first, first + count) for first, count in zip(self.start, self.size, strict=True))[::-1]


def ijk_to_ras(volume_node) -> np.ndarray:
    """4 x 4 from voxel indices to the volume's own frame, mm."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def world_image(volume_node, array: np.ndarray | None = None, box: VoxelBox | None = None) -> sitk.Image:
    """The volume, or another array on its voxels, where its transforms put it in the world (a hardened copy).

    :param array: shape (k, j, i); the volume's own voxels when None
    :param box: only this part of it
    :raises SemiSegError: a non-linear transform, or one that shears the voxels
    """
    grid_shape(volume_node)  # raises where there are no voxels
    voxels = slicer.util.arrayFromVolume(volume_node) if array is None else array
    matrix = RAS_LPS @ world_matrix(volume_node) @ ijk_to_ras(volume_node)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > _SHEAR:
        raise VolumeError(
            f"The axes of '{shown_name(volume_node)}' are not at right angles in the world, which files cannot hold: "
            "take it out of its shearing transform, resample it (module Resample Scalar/Vector/DWI Volume), or leave "
            "it out."
        )
    image = sitk.GetImageFromArray(_storable(voxels if box is None else voxels[box.slices]))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((matrix @ [*(box.start if box else (0, 0, 0)), 1])[:3].tolist())
    return image


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a volume was in the world when a file of it was written.

    to_world  4 x 4 from its voxel indices to the world (RAS, mm)
    size      of the volume, (i, j, k)
    """

    to_world: list[list[float]]
    size: list[int]

    @classmethod
    def of(cls, volume_node) -> Place:
        """Where it is now."""
        matrix = world_matrix(volume_node) @ ijk_to_ras(volume_node)
        return cls(matrix.tolist(), list(grid_shape(volume_node)[::-1]))

    def into_frame_of(self, volume_node) -> np.ndarray:
        """4 x 4 from that world to the volume's own frame: to the same voxels, wherever they are now.

        Transforms may have been changed or hardened meanwhile. Of a volume that has other voxels now nobody knows which
        are the same, so what was made of it stays where it was in the world.
        """
        if list(grid_shape(volume_node)[::-1]) == self.size:
            return ijk_to_ras(volume_node) @ np.linalg.inv(self.to_world)
        return np.linalg.inv(world_matrix(volume_node))


def covered_box(volume_node, to_ras: np.ndarray, size: Sequence[int]) -> VoxelBox | None:
    """The block of the volume's voxels that a grid coincides with; None when it is another grid, or reaches beyond.

    :param to_ras: 4 x 4 from the grid's indices to the volume's own frame, mm
    :param size: of the grid, (i, j, k)
    """
    to_index = np.linalg.inv(ijk_to_ras(volume_node)) @ to_ras
    start = np.rint(to_index[:3, 3])
    same = np.abs(to_index[:3, :3] - np.eye(3)).max() < _SHEAR and np.abs(to_index[:3, 3] - start).max() < _OFF_GRID
    whole = grid_shape(volume_node)[::-1]
    return VoxelBox.of(start, size) if same and (start >= 0).all() and (start + size <= whole).all() else None


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
    """The index axis (0 for i) across 'axial', 'coronal' or 'sagittal' slices.

    Each axis is across slices of one orientation, also where the volume is oblique: that choice of three is taken which
    lies nearest to the patient's axes in all.

    :raises SemiSegError: slices of no other orientation are known, or the volume is below a non-linear transform
    """
    towards = {"sagittal": 0, "coronal": 1, "axial": 2}.get(orientation)
    if towards is None:
        raise VolumeError(f"Slices are axial, coronal or sagittal, not '{orientation}'.")
    axes = (world_matrix(volume_node) @ ijk_to_ras(volume_node))[:3, :3]
    cosines = np.abs(axes / np.linalg.norm(axes, axis=0))
    nearest = max(permutations(range(3)), key=lambda order: cosines[range(3), order].sum())
    return nearest[towards]


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
        sitk.WriteImage(image, str(unfinished), useCompression=compress, compressionLevel=_LEVEL)
        if not _is_whole(unfinished, image, compress):
            raise OSError("the disk is full, or was taken away")
        replace(unfinished, path, attempts=7)
    except (OSError, RuntimeError) as error:
        raise VolumeError(f"{path} cannot be written: {str(error).strip().splitlines()[-1]}") from error
    finally:
        with contextlib.suppress(OSError):  # not there, or held
            unfinished.unlink()


def _is_whole(path: Path, image: sitk.Image, compressed: bool) -> bool:
    """Whether the file ends where its voxels do: ITK's writers of NIfTI, and at the end of NRRD, do not notice that a
    disk is full. Only the amount is looked at, which compressed data say in their last four bytes."""
    amount = image.GetNumberOfPixels() * image.GetSizeOfPixelComponent()
    head = _NIFTI_HEAD if path.name.endswith(".nii.gz") else 0
    with path.open("rb") as stream:
        if compressed or head:
            stream.seek(-4, os.SEEK_END)
            return int.from_bytes(stream.read(), "little") == (head + amount) % 2**32
        start = stream.read(_NRRD_HEAD).partition(b"\n\n")[0]
        return stream.seek(0, os.SEEK_END) == len(start) + 2 + amount


def _storable(voxels: np.ndarray) -> np.ndarray:
    """The array in a type that every format holds."""
    if voxels.dtype == np.bool_:
        return voxels.astype(np.uint8)
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        return voxels.astype(np.int32 if np.abs(voxels).max(initial=0) < 2**31 else np.float64)
    return voxels
