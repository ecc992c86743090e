"""Between a scan's own grid and the networks' grid: canonical axes, target spacing, normalised intensities.

The networks' grid has the scan's own axes, permuted and flipped to run closest to patient left, posterior and
superior (LPS), and the target spacing; an oblique scan stays oblique. Everything on it knows its place in the world,
so results come back to the scan's grid by resampling in world space, or untouched where the grids are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.config import DataSettings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.geometry import Geometry, canonical, from_array, restore_orientation, to_array
from SemiSegLib.errors import SemiSegError

if TYPE_CHECKING:
    import SimpleITK as sitk

_SLAB = 8  # slices along x
_MOST_VOXELS = 2**31  # 8 GB a map; a scan that has more is one whose header has another unit


def target_spacing(image: sitk.Image, spacing: Sequence[float] | None) -> tuple[float, ...]:
    """Spacing in mm that a canonical image is resampled to: `spacing`, its own where that is 0 or None."""
    own = image.GetSpacing()
    if spacing is None:
        return own
    # Within 1 % the scan's own grid serves: resampling would only blur it.
    return tuple(o if s == 0 or abs(s - o) <= 0.01 * o else s for s, o in zip(spacing, own, strict=True))


def to_network_grid(image: sitk.Image, settings: DataSettings) -> sitk.Image:
    """A scan as float32 on the networks' grid, normalised: window, then z-score or [0, 1] over the whole scan.

    Statistics are taken before resampling and never from a mask's surroundings.
    """
    return resample_image(canonical(_normalised(image, settings)), settings.spacing)


def resample_image(image: sitk.Image, spacing: Sequence[float] | None) -> sitk.Image:
    """Linear resampling of a canonical scan, after smoothing along axes that lose resolution."""
    import SimpleITK as sitk

    wanted = target_spacing(image, spacing)
    if wanted == image.GetSpacing():
        return image
    if math.prod(_sides(image, wanted)) > _MOST_VOXELS:
        sides, own, target = (
            " x ".join(f"{n:g}" for n in part) for part in (image.GetSize(), image.GetSpacing(), wanted)
        )
        raise SemiSegError(
            f"its {sides} voxels of {own} mm are too many at {target} mm, to which they would be resampled; is the "
            "voxel size in its header right (mm)?"
        )
    for axis, (new, old) in enumerate(zip(wanted, image.GetSpacing(), strict=True)):
        if new > 1.2 * old and image.GetSize()[axis] >= 4:
            # The sd (mm) that widens a voxel of the old spacing to one of the new.
            sd = 0.5 * np.sqrt(new**2 - old**2) * 0.8
            image = sitk.RecursiveGaussian(image, sigma=sd, direction=axis)
    return sitk.Resample(image, _resampled_grid(image, wanted), sitk.Transform(), sitk.sitkLinear, _edge(image))


def resample_mask(mask: sitk.Image, spacing: Sequence[float] | None) -> sitk.Image:
    """Canonical class indices on the networks' grid: each class is resampled linearly, the largest wins."""
    import SimpleITK as sitk

    wanted = target_spacing(mask, spacing)
    if wanted == mask.GetSpacing():
        return mask
    grid = _resampled_grid(mask, wanted)
    values = np.unique(sitk.GetArrayViewFromImage(mask))
    best = share = None
    for value in values:
        here = sitk.Cast(mask == int(value), sitk.sitkFloat32)
        here = sitk.Resample(here, grid, sitk.Transform(), sitk.sitkLinear, float(value == values[0]))
        array = sitk.GetArrayFromImage(here)
        if best is None or share is None:
            best, share = np.full(array.shape, value, np.uint8), array
        else:
            wins = array > share
            best[wins], share[wins] = value, array[wins]
    result = sitk.GetImageFromArray(best)
    result.CopyInformation(grid)
    return result


def sparse_on_grid(drawn: np.ndarray, scan: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """Class indices drawn on a few voxels of a scan, on a coarser or finer `grid`; nothing that was drawn gets lost.

    A voxel of the grid takes the class that most of the drawn voxels within it have (of two equal the larger index),
    and IGNORE if there are none. Where the grid is finer, each drawn voxel fills those whose centres it holds.

    :param drawn: uint8 (x, y, z) on the scan's grid, IGNORE where nothing was drawn
    :return: uint8 (x, y, z) on `grid`
    """
    import SimpleITK as sitk

    image = from_array(np.ascontiguousarray(drawn), scan)
    held = to_array(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, float(IGNORE)))
    best, most = np.full(held.shape, IGNORE, np.uint8), np.zeros(held.shape, np.int32)
    for index in range(int(drawn.max(initial=0, where=drawn != IGNORE)) + 1):
        votes = (held == index).astype(np.int32)
        _vote(votes, drawn == index, Geometry.of(scan), Geometry.of(grid))
        wins = (votes > 0) & (votes >= most)
        best[wins], most[wins] = index, votes[wins]
    return best


def _vote(votes: np.ndarray, drawn: np.ndarray, own: Geometry, wanted: Geometry) -> None:
    """Count each drawn voxel at the voxel of the `wanted` grid that it lies in."""
    for start in range(0, len(drawn), _SLAB):  # places of all voxels at once would take a hundred bytes each
        voxels = np.argwhere(drawn[start : start + _SLAB]) + np.array((start, 0, 0))
        nearest = np.rint(wanted.index(own.world(voxels))).astype(int)
        inside = ((nearest >= 0) & (nearest < votes.shape)).all(1)
        np.add.at(votes, tuple(nearest[inside].T), 1)


def back_to_scan(values: np.ndarray, grid: sitk.Image, scan: sitk.Image, outside: float) -> np.ndarray:
    """A float map (x, y, z) on `grid` as an array (x, y, z) on the scan's own grid, linearly in world space."""
    import SimpleITK as sitk

    image = from_array(np.ascontiguousarray(values, dtype=np.float32), grid)
    if Geometry.of(canonical(scan)).same_as(Geometry.of(grid)):
        return to_array(restore_orientation(image, scan))
    inside = sitk.Resample(image, scan, sitk.Transform(), sitk.sitkLinear, outside, sitk.sitkFloat32)
    return to_array(inside)


def _normalised(image: sitk.Image, settings: DataSettings) -> sitk.Image:
    array = to_array(image).astype(np.float32)
    if settings.window is not None:
        array = array.clip(*settings.window)
    if settings.normalisation in ("z-score", "tissue"):
        counted = _tissue(array) if settings.normalisation == "tissue" else array
        centre, scale = float(counted.mean(dtype=np.float64)), float(counted.std(dtype=np.float64))
    else:
        low, high = settings.window or (float(array.min()), float(array.max()))
        centre, scale = low, high - low
    if scale <= 0:
        raise SemiSegError("all voxels have the same intensity; there is nothing to segment")
    return from_array((array - centre) / scale, image)


def _tissue(array: np.ndarray) -> np.ndarray:
    """The voxels brighter than the darkest by a twentieth of the range up to the 99.5th percentile (choice)."""
    lowest, high = float(array.min()), float(np.percentile(array, 99.5))
    brighter = array[array > lowest + 0.05 * (high - lowest)]
    return brighter if brighter.size > 1 else array


def _resampled_grid(image: sitk.Image, spacing: tuple[float, ...]) -> sitk.Image:
    """An empty image that covers the old one's extent, its centre in the same place."""
    import SimpleITK as sitk

    size = _sides(image, spacing)
    middle_old = [(n - 1) / 2 for n in image.GetSize()]
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint(middle_old))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    origin = middle - direction @ (np.array(spacing) * (np.array(size) - 1) / 2)
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetDirection(image.GetDirection())
    grid.SetOrigin(origin.tolist())
    return grid


def _sides(image: sitk.Image, spacing: tuple[float, ...]) -> list[int]:
    """Voxels of this spacing along x, y, z that cover the image."""
    axes = zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)
    return [max(1, math.ceil(n * old / new - 0.01)) for n, old, new in axes]


def _edge(image: sitk.Image) -> float:
    """Value for voxels half a voxel beyond the border: the darkest of the scan, as around a body."""
    import SimpleITK as sitk

    return float(sitk.GetArrayViewFromImage(image).min())
