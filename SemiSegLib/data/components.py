"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np

from SemiSegLib.config import InferenceSettings

SURE = 0.9  # probability of being any structure at all; 0.9 to 0.98 choose alike (a choice: Testing/Benchmarks)


def cleaned(indices: np.ndarray, foreground: np.ndarray, classes: int, settings: InferenceSettings) -> np.ndarray:
    """A predicted mask (x, y, z) of classes 1 to `classes`, with the parts that the settings keep.

    :param foreground: probability (x, y, z) of all classes together
    """
    if not settings.largest_component:
        return indices
    if settings.touching:
        whole = part_with_most(indices > 0, foreground >= SURE)
        indices = np.where(whole, indices, 0).astype(indices.dtype)
    return largest_components(indices, classes)


def largest_components(mask: np.ndarray, classes: int) -> np.ndarray:
    """Keep the largest face-connected part of each class 1 to `classes`; the rest becomes background."""
    result = np.zeros_like(mask)
    for index in range(1, classes + 1):
        result[part_with_most(mask == index, mask == index)] = index
    return result


def part_with_most(mask: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """The face-connected part of a bool mask that holds most of the `voxels` (bool), the larger one of equals.

    Of sure voxels rather than of all: a stomach or a liver taken for a heart is large, but nowhere sure.
    """
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())[1:]
    held = np.bincount(parts[voxels], minlength=count + 1)[1:]
    return np.asarray(parts == 1 + np.lexsort((sizes, held))[-1])
