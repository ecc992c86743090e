"""Changing patches at random: turns, mirrors and rotations, alike for image, mask and distance maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from SemiSegLib.config import TrainingSettings

_ALIKE = 0.01  # voxels' sides may differ so much and count as equal


class Turn(NamedTuple):
    """How a crop is turned: quarter turns in the x-y plane, then axes to flip, then an angle about its centre.

    `aspect` is a voxel's length along y by that along x, so that the angle is one of the patient.
    """

    quarters: int = 0
    flips: tuple[int, ...] = ()
    degrees: float = 0.0
    aspect: float = 1.0


def random_turn(
    sides: Sequence[int], training: TrainingSettings, random: np.random.Generator, aspect: float = 1.0
) -> Turn:
    """The turn of one patch of `sides` (x, y, z) voxels: as the settings and the voxels' shape allow it."""
    turns, axis, each = int(random.integers(4)), int(random.integers(2)), random.random(2) < 0.5
    if sides[0] != sides[1] or abs(aspect - 1) > _ALIKE:
        turns -= turns % 2  # a quarter turn would swap the sides, and stretch what is in them
    flips = {"one": (axis,), "each": tuple(np.flatnonzero(each).tolist()), "none": ()}
    quarters = turns if training.rotate else 0
    largest = training.rotation_angle
    degrees = random.uniform(-largest, largest) if largest and random.random() < 0.5 else 0.0
    return Turn(quarters, flips[training.flip], degrees, aspect)


def random_share(random: np.random.Generator, share: float) -> bool:
    """True with this probability; draws nothing where it is 0, so that other draws stay what they were."""
    return share > 0 and random.random() < share


def random_box(random: np.random.Generator, sides: Sequence[int]) -> tuple[slice, ...]:
    """A box in a patch of `sides` voxels (choice): along each axis, with probability 1/2, a uniform share of the side
    at a uniform place, else the whole side; slices stay whole."""
    box = []
    for side in sides:
        length = int(random.integers(side + 1)) if side > 1 and random.random() < 0.5 else side
        first = int(random.integers(side - length + 1))
        box.append(slice(first, first + length))
    return tuple(box)


def turned(patch: torch.Tensor, turn: Turn, padding: float, smooth: bool = False) -> torch.Tensor:
    """A patch (x, y, z) turned; `smooth`: by interpolation. Corners that come into view are `padding`."""
    if turn.quarters:
        patch = patch.rot90(turn.quarters, (0, 1))
    if turn.flips:
        patch = patch.flip(turn.flips)
    if turn.degrees:
        patch = _rotated(patch, turn, padding, smooth)
    return patch


def turn_matrix(sides: Sequence[int], turn: Turn) -> np.ndarray:
    """(4, 4): from places in a turned patch to places before, both 0 to 1 along axes."""
    mirror, quarter, scale = np.eye(4), np.eye(4), np.diag([*sides, 1.0])
    for axis in turn.flips:
        mirror[axis, axis], mirror[axis, 3] = -1, 1
    quarter[:2] = [[0, 1, 0, 0], [-1, 0, 0, 1]]
    angle = np.linalg.inv(scale) @ _rotation(sides, turn) @ scale
    return np.linalg.matrix_power(quarter, turn.quarters) @ mirror @ angle


def _rotation(sides: Sequence[float], turn: Turn) -> np.ndarray:
    """(4, 4): from places in a rotated patch to places before, in voxels, about the patch's centre in x and y."""
    angle = np.radians(turn.degrees)
    centre, cosine, sine = np.array(sides[:2]) / 2, np.cos(angle), np.sin(angle)
    matrix = np.eye(4)
    matrix[:2, :2] = [[cosine, -sine * turn.aspect], [sine / turn.aspect, cosine]]
    matrix[:2, 3] = centre - matrix[:2, :2] @ centre
    return matrix


def _rotated(patch: torch.Tensor, turn: Turn, padding: float, smooth: bool) -> torch.Tensor:
    """A patch (x, y, z) rotated in the x-y plane; the corners that come into view are padding."""
    from scipy import ndimage

    values = patch.float().numpy() if smooth else patch.contiguous().numpy()
    values = values.astype(np.float32) if values.dtype == np.float16 else values
    matrix = _rotation(values.shape, turn)
    half = np.full(3, 0.5)  # a voxel's centre
    offset = matrix[:3, :3] @ half + matrix[:3, 3] - half
    result = ndimage.affine_transform(values, matrix[:3, :3], offset, order=1 if smooth else 0, cval=padding)
    return torch.from_numpy(result)
