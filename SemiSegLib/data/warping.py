"""Random geometry of patches in one resampling: turns, scale, mirroring and a small elastic deformation together.

One resampling, since each blurs. Works in 3D and in 2D (a slice is one voxel thick), on the CPU or on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from SemiSegLib.config import AugmentationSettings


@dataclass(frozen=True)
class Warp:
    """Where the voxels of a patch come from.

    matrix   (4, 4) affine map from patch voxels to voxels of the scan, both counted at voxel centres from 0
    bumps    (3, a, b, c) elastic displacement in scan voxels at control points spread over the patch, or None
    """

    matrix: np.ndarray
    bumps: np.ndarray | None = None


def random_warp(
    random: np.random.Generator,
    centre: Sequence[float],
    sides: Sequence[int],
    spacing: Sequence[float],
    settings: AugmentationSettings,
) -> Warp:
    """A warp that puts the scan's voxel `centre` into the middle of a patch with `sides` (x, y, z) voxels.

    `spacing` in mm: turns are rigid in the patient, not in voxels. A side of one voxel (a slice) stays in its plane.
    """
    flat = sides[2] == 1
    angles = [0.0 if flat else settings.tilt, 0.0 if flat else settings.tilt, settings.turn]
    turns = [random.uniform(-angle, angle) for angle in angles]
    scale = np.exp(random.uniform(-settings.scale, settings.scale) + random.uniform(-1, 1, 3) * settings.stretch)
    if flat:
        scale[2] = 1.0
    for axis in settings.mirror_axes:
        if random.random() < 0.5:
            scale[axis] *= -1
    millimetres = np.diag(spacing)
    linear = np.linalg.inv(millimetres) @ _rotation(turns) @ np.diag(scale) @ millimetres
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.asarray(centre) - linear @ ((np.asarray(sides) - 1) / 2)
    return Warp(matrix, _random_bumps(random, sides, settings))


def _rotation(degrees: Sequence[float]) -> np.ndarray:
    """(3, 3): about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, two = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[two, one] = np.sin(angle)
        turn[one, two] = -turn[two, one]
        result = turn @ result
    return result


def _random_bumps(
    random: np.random.Generator, sides: Sequence[int], settings: AugmentationSettings
) -> np.ndarray | None:
    if settings.elastic <= 0 or random.random() >= settings.elastic_probability:
        return None
    points = [1 if side == 1 else max(3, round(side / settings.elastic_spacing) + 1) for side in sides]
    sizes = np.array([0 if side == 1 else settings.elastic for side in sides]).reshape(3, 1, 1, 1)
    return (random.standard_normal((3, *points)) * sizes).astype(np.float32)


class Resampler:
    """Cuts the same warped patch out of the scan's image and mask."""

    def __init__(self, warp: Warp, sides: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.places = _places(warp, sides, torch.device(device))
        self.lowest, self.highest = _reach(warp, sides)

    def __call__(self, volume: np.ndarray, smooth: bool, padding: float = 0.0) -> torch.Tensor:
        """(x, y, z) of the patch from a volume (x, y, z): linear interpolation if `smooth`, else nearest voxel.

        Voxels outside the volume are `padding`. Only the part of the volume that is needed is read.
        """
        box = [
            (int(np.clip(a, 0, n - 1)), int(np.clip(b, 1, n)))
            for a, b, n in zip(self.lowest, self.highest, volume.shape, strict=True)
        ]
        part = np.array(volume[tuple(slice(min(a, b - 1), b) for a, b in box)], dtype=np.float32)
        first = torch.tensor([min(a, b - 1) for a, b in box], device=self.places.device, dtype=torch.float32)
        length = torch.tensor(part.shape, device=self.places.device, dtype=torch.float32)
        # From voxels to grid_sample's -1 to 1 between the outer edges of the outermost voxels, its axes reversed.
        grid = ((2 * (self.places.permute(1, 2, 3, 0) - first) + 1) / length - 1).flip(-1)
        source = torch.from_numpy(part).to(self.places.device) - padding  # what grid_sample pads with is 0
        mode = "bilinear" if smooth else "nearest"
        found = functional.grid_sample(source[None, None], grid[None], mode=mode, align_corners=False)
        return found[0, 0] + padding


def _reach(warp: Warp, sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """First and last (exclusive) voxel of the scan that a patch may need, along x, y, z; may lie outside the scan."""
    ends = [(0.0, side - 1.0) for side in sides]
    corners = np.array([[x, y, z, 1.0] for x in ends[0] for y in ends[1] for z in ends[2]]) @ warp.matrix.T
    margin = np.zeros(3) if warp.bumps is None else np.abs(warp.bumps).max((1, 2, 3))
    lowest, highest = corners[:, :3].min(0) - margin, corners[:, :3].max(0) + margin
    return np.floor(lowest).astype(int) - 1, np.ceil(highest).astype(int) + 2


def _places(warp: Warp, sides: Sequence[int], device: torch.device) -> torch.Tensor:
    """(3, x, y, z) float32: the place in the scan, in voxels, of every voxel of the patch."""
    matrix = torch.tensor(warp.matrix, dtype=torch.float32, device=device)
    result = matrix[:3, 3].reshape(3, 1, 1, 1)
    for axis, side in enumerate(sides):
        steps = torch.arange(side, dtype=torch.float32, device=device)
        shape = [-1 if other == axis else 1 for other in range(3)]
        result = result + matrix[:3, axis].reshape(3, 1, 1, 1) * steps.reshape(1, *shape)
    if warp.bumps is not None:
        bumps = torch.from_numpy(warp.bumps).to(device)[None]
        smooth = functional.interpolate(bumps, size=tuple(sides), mode="trilinear", align_corners=True)
        result = result + smooth[0]
    return result
