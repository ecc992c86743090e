"""A block of a scan's voxels: what of a scan is predicted, where not all of it is wanted.

>>> Box.parse("10,0,4,20,30,1")
Box(start=(10, 0, 4), size=(20, 30, 1))
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.data.geometry import Geometry
from SemiSegLib.errors import SemiSegError

if TYPE_CHECKING:
    import SimpleITK as sitk


class BoxError(SemiSegError):
    """No such block; the message says why."""


@dataclass(frozen=True)
class Box:
    """First voxel and number of voxels along each axis, in the order of the file's own indices (i, j, k)."""

    start: tuple[int, int, int]
    size: tuple[int, int, int]

    @classmethod
    def parse(cls, text: str) -> Box:
        """From `i,j,k,ni,nj,nk`; raises BoxError."""
        try:
            i, j, k, ni, nj, nk = (int(part) for part in text.split(","))
        except ValueError:
            raise BoxError(f"A box is six whole numbers, I,J,K,NI,NJ,NK (first voxel, size), not '{text}'.") from None
        if min(i, j, k) < 0 or min(ni, nj, nk) < 1:
            raise BoxError(f"A box begins at voxel 0 or later and has a voxel at least along each axis, not '{text}'.")
        return cls((i, j, k), (ni, nj, nk))

    def of(self, image: sitk.Image) -> sitk.Image:
        """This part of an image, in its place in the world; raises BoxError where it reaches beyond."""
        import SimpleITK as sitk

        whole = image.GetSize()
        if any(first + count > side for first, count, side in zip(self.start, self.size, whole, strict=True)):
            raise BoxError(f"the box from {self.start} of {self.size} voxels reaches beyond the scan's {whole}")
        return sitk.RegionOfInterest(image, self.size, self.start)

    def on(self, grid: sitk.Image, scan: sitk.Image, context: Sequence[int]) -> Box:
        """The block of another grid that a network needs to see for this block of a scan.

        It holds the voxels around, half of `context` (voxels of the grid) to each side, and along no axis fewer than
        `context` where the grid has as many.
        """
        corners = np.array(
            list(itertools.product(*((s, s + n - 1) for s, n in zip(self.start, self.size, strict=True))))
        )
        places = Geometry.of(grid).index(Geometry.of(scan).world(corners.astype(float)))
        wanted = np.array(context)
        around = np.maximum((wanted + 1) // 2, 1)  # one voxel at least, to interpolate with
        sides = np.array(grid.GetSize())
        low = np.clip(np.floor(places.min(0)).astype(int) - around, 0, sides - 1)
        high = np.clip(np.ceil(places.max(0)).astype(int) + around + 1, 1, sides)
        low = np.maximum(np.minimum(low, high - wanted), 0)
        high = np.minimum(np.maximum(high, low + wanted), sides)
        start, size = ((int(a), int(b), int(c)) for a, b, c in (low, high - low))
        return Box(start, size)
