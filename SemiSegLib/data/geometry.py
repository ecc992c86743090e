"""Where voxels lie in the patient: comparing, describing and reorienting grids without losing them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.data.formats import ImageError

if TYPE_CHECKING:
    import SimpleITK as sitk

ORTHONORMAL = 1e-6
"""Largest deviation of DᵀD from the identity that is rounding, not shear."""

NEGLIGIBLE_SHEAR = 0.5
"""Shear is dropped when no voxel moves farther than this share of the smallest voxel side. Our own choice:
the voxel then stays the nearest one; files are written back with the unchanged header anyway."""


class GeometryError(ImageError):
    """Two grids do not fit together, or one is not a grid of right angles; the message describes them."""


@dataclass(frozen=True)
class Geometry:
    """The grid of a 3D image in ITK's convention: world axes point to the patient's left, posterior, superior.

    size: voxels along x, y, z (index order). spacing: mm. origin: centre of voxel (0, 0, 0), mm.
    direction: 3×3 matrix row by row; its columns are the index axes in the world.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Geometry:
        """The grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def axes(self) -> np.ndarray:
        """3×3: the step in mm (LPS) of one voxel along each index axis, as columns."""
        return np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)

    def world(self, indices: np.ndarray) -> np.ndarray:
        """World points in mm (LPS), shape (n, 3), of voxel indices of shape (n, 3)."""
        return indices @ self.axes.T + np.asarray(self.origin)

    def index(self, points: np.ndarray) -> np.ndarray:
        """Continuous voxel indices, shape (n, 3), of world points in mm (LPS) of shape (n, 3)."""
        return (points - np.asarray(self.origin)) @ np.linalg.inv(self.axes).T

    def contains(self, points: np.ndarray) -> np.ndarray:
        """For world points of shape (n, 3): whether each lies in a voxel of the grid, shape (n,)."""
        index = self.index(points)
        return np.all((index >= -0.5) & (index <= np.asarray(self.size) - 0.5), axis=1)

    @property
    def corners(self) -> np.ndarray:
        """World points in mm of the eight corner voxels' centres, shape (8, 3)."""
        return self.world(np.indices((2, 2, 2)).reshape(3, -1).T * (np.asarray(self.size) - 1))

    def same_as(self, other: Geometry, tolerance: float = 0.01) -> bool:
        """Whether both are the same voxels: equal size, and no corner farther away than `tolerance` times the
        smallest voxel side (0.01 is our own choice; far above what float32 headers lose)."""
        if tuple(self.size) != tuple(other.size):
            return False
        distance = np.linalg.norm(self.corners - other.corners, axis=1).max()
        return bool(distance <= tolerance * min(self.spacing))

    def same_box(self, other: Geometry, tolerance: float = 0.01) -> bool:
        """Whether both have the same voxel positions, perhaps numbered along swapped or reversed axes."""
        if sorted(self.size) != sorted(other.size):
            return False
        distances = np.linalg.norm(self.corners[:, None] - other.corners[None], axis=2)
        return bool(max(distances.min(0).max(), distances.min(1).max()) <= tolerance * min(self.spacing))

    def on_lattice_of(self, other: Geometry, tolerance: float = 0.01) -> bool:
        """Whether every voxel lies where `other` has one, or would have one beyond its borders: bringing what is in
        them there moves nothing."""
        steps = np.abs(np.linalg.inv(other.axes) @ self.axes)
        one_to_one = np.array_equal(np.sort(np.rint(steps), axis=0), np.sort(np.eye(3), axis=0))
        places = other.index(self.corners)
        return one_to_one and bool(np.abs(places - np.rint(places)).max() <= tolerance)

    @property
    def is_none(self) -> bool:
        """Whether it is what files have whose writer gave no place: 1 mm from the world's origin along its axes, as
        SimpleITK (LPS) or as nibabel (RAS) counts them."""
        straight = np.allclose(np.abs(np.reshape(self.direction, (3, 3))), np.eye(3))
        as_counted = straight and self.orientation in ("LPS", "RAS")
        return as_counted and np.allclose(self.spacing, 1) and np.allclose(self.origin, 0)

    def overlaps(self, other: Geometry) -> bool:
        """Whether the two boxes share space, judged at 9×9×9 points spread over each."""
        return bool(other.contains(self._lattice()).any() or self.contains(other._lattice()).any())

    def _lattice(self, count: int = 9) -> np.ndarray:
        share = np.indices((count,) * 3).reshape(3, -1).T / (count - 1)
        return self.world(share * np.asarray(self.size) - 0.5)

    @property
    def orientation(self) -> str:
        """Where the index axes point, nearest anatomical letters: 'LPS' for an identity direction."""
        left = np.abs(np.reshape(self.direction, (3, 3)))
        code = ["", "", ""]
        for _ in range(3):
            world, axis = np.unravel_index(np.argmax(left), (3, 3))
            positive = self.direction[3 * int(world) + int(axis)] >= 0
            code[int(axis)] = ("LPS" if positive else "RAI")[int(world)]
            left[world, :] = left[:, axis] = -1
        return "".join(code)

    @property
    def obliqueness(self) -> float:
        """Largest angle in degrees between an index axis and its nearest anatomical axis."""
        cosines = np.abs(np.reshape(self.direction, (3, 3))).max(axis=0)
        return float(np.degrees(np.arccos(np.clip(cosines, 0, 1))).max())

    def describe(self) -> str:
        """One line for people: '200 x 145 x 88 voxels of 0.625 x 0.625 x 0.625 mm, axes LPS, first voxel at …'."""
        size = " x ".join(str(n) for n in self.size)
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{o:.2f}" for o in self.origin)
        tilt = f" (oblique by {self.obliqueness:.1f} degrees)" if self.obliqueness > 0.05 else ""
        return f"{size} voxels of {spacing} mm, axes {self.orientation}{tilt}, first voxel at ({origin}) mm LPS"

    def stamp(self, image: sitk.Image) -> sitk.Image:
        """Gives `image` this spacing, origin and direction, in place, and returns it."""
        image.SetSpacing(tuple(map(float, self.spacing)))
        image.SetOrigin(tuple(map(float, self.origin)))
        image.SetDirection(tuple(map(float, self.direction)))
        return image


def right_angled(geometry: Geometry, path: Path) -> Geometry:
    """The grid with the nearest orthonormal direction (polar decomposition), turned about its centre.

    A grid that is already orthonormal is returned unchanged. Raises GeometryError naming the shear when some
    voxel would move farther than NEGLIGIBLE_SHEAR of a voxel side, or when the axes span no volume.
    """
    direction = np.reshape(geometry.direction, (3, 3))
    gram = direction.T @ direction
    if not np.all(np.isfinite(gram)) or abs(np.linalg.det(direction)) < 1e-3 or min(geometry.spacing) <= 0:
        raise GeometryError(
            f"{path}: its header gives axes that span no volume ({geometry.spacing} mm, {geometry.direction}); "
            "write the file anew with a valid affine"
        )
    if np.abs(gram - np.eye(3)).max() <= ORTHONORMAL:
        return geometry
    u, _, vt = np.linalg.svd(direction)
    nearest = u @ vt
    centre = geometry.world((np.asarray(geometry.size) - 1)[None] / 2)[0]
    half = (np.asarray(geometry.size) - 1) / 2 * np.asarray(geometry.spacing)
    origin = centre - nearest @ half
    squared = Geometry(geometry.size, geometry.spacing, tuple(origin), tuple(nearest.ravel()))
    moved = np.linalg.norm(squared.corners - geometry.corners, axis=1).max()
    if moved > NEGLIGIBLE_SHEAR * min(geometry.spacing):
        angle = np.degrees(np.arcsin(np.clip(np.abs(gram - np.diag(np.diag(gram))).max(), 0, 1)))
        raise GeometryError(
            f"{path}: its axes are sheared by {angle:.2f} degrees from right angles, so voxels would be misplaced "
            f"by up to {moved:.1f} mm; resample the scan to a grid with right angles first (in Slicer: harden "
            "the acquisition transform and use Resample Scalar Volume)"
        )
    return squared


def canonical(image: sitk.Image) -> sitk.Image:
    """The image with its axes swapped and reversed so that x, y, z run nearest to left, posterior, superior.

    LPS, because ITK's identity direction, DICOM's axial slices and the literature's left-atrium files have it.
    Lossless: no voxel value changes, the place of each voxel in the world stays; oblique axes stay oblique.
    """
    import SimpleITK as sitk

    return sitk.DICOMOrient(image, "LPS")


def turned_like(image: sitk.Image, like: sitk.Image) -> sitk.Image:
    """The image with its axes swapped and reversed to point nearest to where those of `like` point; lossless."""
    import SimpleITK as sitk

    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(like.GetDirection())
    return sitk.DICOMOrient(image, code)


def restore_orientation(image: sitk.Image, like: sitk.Image) -> sitk.Image:
    """Undoes `canonical`: axes as in `like`, with exactly its origin, spacing and direction.

    Raises GeometryError when the voxels of `image` are not those of `like`.
    """
    turned = turned_like(image, like)
    if not Geometry.of(turned).same_as(Geometry.of(like)):
        raise GeometryError(
            f"the image is not on the grid to return to: it has {Geometry.of(turned).describe()}, "
            f"the grid is {Geometry.of(like).describe()}"
        )
    return Geometry.of(like).stamp(turned)


def to_array(image: sitk.Image) -> np.ndarray:
    """The voxels in index order (x, y, z): a copy, of the image's own type."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image).T


def volumes_ml(mask: np.ndarray, values: Mapping[str, int], image: sitk.Image) -> dict[str, float]:
    """Volume of each class in ml; `values` are its numbers in a mask (x, y, z) on the grid of `image`."""
    voxel = math.prod(image.GetSpacing()) / 1000  # mm³ to ml
    return {name: float(np.count_nonzero(mask == value) * voxel) for name, value in values.items()}


def from_array(array_xyz: np.ndarray, like: sitk.Image) -> sitk.Image:
    """An image of an array in index order (x, y, z), booleans as 0 and 1, on the grid of `like`.

    Raises GeometryError when the shapes differ.
    """
    import SimpleITK as sitk

    if tuple(array_xyz.shape) != tuple(like.GetSize()):
        raise GeometryError(f"an array of shape {array_xyz.shape} does not fit a grid of {like.GetSize()} voxels")
    if array_xyz.dtype == bool:
        array_xyz = array_xyz.astype(np.uint8)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array_xyz.T))
    return Geometry.of(like).stamp(image)
