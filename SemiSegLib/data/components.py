"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np

from SemiSegLib.config import InferenceSettings


def cleaned(indices: np.ndarray, classes: int, settings: InferenceSettings) -> np.ndarray:
    """A predicted mask (x, y, z) of classes 1 to `classes`, with the parts that the settings keep."""
    if not settings.largest_component:
        return indices
    return largest_components(indices, classes, settings.touching)


def largest_components(mask: np.ndarray, classes: int, touching: bool = False) -> np.ndarray:
    """Keep the largest face-connected part of each class 1 to `classes`; the rest becomes background.

    Where structures are `touching`, only parts within the largest part of all classes together count.
    """
    if touching:
        mask = np.where(_largest(mask > 0), mask, 0).astype(mask.dtype)
    result = np.zeros_like(mask)
    for index in range(1, classes + 1):
        result[_largest(mask == index)] = index
    return result


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest face-connected part of a bool mask; nothing where there is none."""
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())
