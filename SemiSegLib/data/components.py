"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np


def largest_components(mask: np.ndarray, classes: int) -> np.ndarray:
    """Keep the largest face-connected part of each class 1 to `classes`; the rest becomes background."""
    from scipy import ndimage

    result = np.zeros_like(mask)
    for index in range(1, classes + 1):
        parts, count = ndimage.label(mask == index)
        if count:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            result[parts == sizes.argmax()] = index
    return result
