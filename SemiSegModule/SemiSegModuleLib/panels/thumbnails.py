"""A small picture of a case for the table: an axial slice, seen as in the slice view, with the outlines of its mask."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qt
import SimpleITK as sitk
import slicer

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from ..scene import volumes
from ..scene.case import Case
from ..scene.region import drawn_indices

PIXELS = 40
_WINDOW = (1, 99)  # percentiles of the slice that become black and white


def thumbnail(case: Case, labels: Sequence[Label], pixels: int = PIXELS) -> np.ndarray:
    """The slice with most of the mask, or the middle one: RGB, uint8, at most `pixels` high and wide.

    Right of the patient is left, anterior is up. Slices are those of the scan's axis nearest to axial.
    """
    volume = case.volume
    through, down, across = _view_axes(volume)
    array = slicer.util.arrayFromVolume(volume).transpose(2 - through, 2 - down, 2 - across)
    where, values = _drawn(case, labels)
    counts = np.bincount(where[:, through], minlength=1)
    number = int(counts.argmax()) if counts.any() else len(array) // 2
    plane = np.nan_to_num(array[number].astype(np.float32))
    mask = np.zeros(plane.shape, np.uint8)
    here = where[:, through] == number
    mask[where[here, down], where[here, across]] = values[here]
    rows, columns = _samples(volume, (down, across), plane.shape, pixels)
    return _painted(plane[rows][:, columns], mask[rows][:, columns], labels)


def icon(case: Case, labels: Sequence[Label]) -> Any:
    """The picture as an icon of a table's cell, empty for a scan whose voxels are gone.

    It goes through a file: PythonQt fills no QImage from memory.
    """
    if case.volume.GetImageData() is None:
        return qt.QIcon()
    with tempfile.TemporaryDirectory(dir=slicer.app.temporaryPath, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "thumbnail.png"
        sitk.WriteImage(sitk.GetImageFromArray(thumbnail(case, labels), isVector=True), str(path))
        return qt.QIcon(qt.QPixmap(str(path)))


def _view_axes(volume) -> tuple[int, int, int]:
    """The index axes (0 for i) through the axial slices, down and across them."""
    weights = np.abs(_directions(volume))
    through = int(weights[2].argmax())
    down, across = (axis for axis in range(3) if axis != through)
    return (through, down, across) if weights[0, across] >= weights[0, down] else (through, across, down)


def _directions(volume) -> np.ndarray:
    """Unit vectors of the index axes in the volume's own frame (RAS), in columns."""
    axes = volumes.ijk_to_ras(volume)[:3, :3]
    return axes / np.linalg.norm(axes, axis=0)


def _drawn(case: Case, labels: Sequence[Label]) -> tuple[np.ndarray, np.ndarray]:
    """Voxel indices (i, j, k) in the mask, and the places of their labels in the list, from 1."""
    node, shape = case.shown_segmentation(), case.volume.GetImageData().GetDimensions()
    found, values = [np.empty((0, 3), int)], [np.empty(0, np.uint8)]
    try:
        for place, label in enumerate(labels if node is not None else (), start=1):
            indices = drawn_indices(node, case.volume, [label])
            indices = indices[((indices >= 0) & (indices < shape)).all(axis=1)]
            found.append(indices)
            values.append(np.full(len(indices), place, np.uint8))
    except SemiSegError:  # below a non-linear transform: a picture without outlines
        pass
    return np.concatenate(found), np.concatenate(values)


def _samples(volume, axes: tuple[int, int], shape: tuple[int, int], pixels: int) -> list[np.ndarray]:
    """For each pixel the voxel to show, down and across: to the posterior and to the left of the patient."""
    directions, spacing = _directions(volume), volume.GetSpacing()
    lengths = [count * spacing[axis] for axis, count in zip(axes, shape, strict=True)]
    samples = []
    for axis, count, length, towards in zip(axes, shape, lengths, (1, 0), strict=True):
        size = max(1, round(pixels * length / max(lengths)))
        indices = ((np.arange(size) + 0.5) * count / size).astype(int)
        samples.append(indices[::-1] if directions[towards, axis] > 0 else indices)
    return samples


def _painted(plane: np.ndarray, mask: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    low, high = np.percentile(plane, _WINDOW)
    grey = np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255
    picture = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    beyond = np.pad(mask, 1)
    neighbours = (beyond[:-2, 1:-1], beyond[2:, 1:-1], beyond[1:-1, :-2], beyond[1:-1, 2:])
    edge = (mask > 0) & np.any([mask != neighbour for neighbour in neighbours], axis=0)
    for place, label in enumerate(labels, start=1):
        picture[edge & (mask == place)] = label.color
    return picture
