"""The literature's ready-made left-atrium files, `mri_norm2.h5` (UA-MT's data preparation and all that follow)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SemiSegLib.data.formats import ImageError

if TYPE_CHECKING:
    import SimpleITK as sitk

SPACING = (0.625, 0.625, 0.625)
"""mm; the files do not store it, the 2018 Atrial Segmentation Challenge's scans all have it."""


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImageError(f"{path}: reading .h5 files needs the package h5py: pip install h5py") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ImageError(f"{path}: not a readable HDF5 file: {error}") from error


def has_label(path: Path) -> bool:
    """Whether the file holds a mask beside the image."""
    with _open(path) as file:
        return "label" in file


def read(path: Path, key: str) -> sitk.Image:
    """The array `image` or `label`, stored as (x, y, z), on a grid of 0.625 mm with axes LPS and origin 0.

    Raises ImageError.
    """
    import SimpleITK as sitk

    with _open(path) as file:
        if key not in file:
            raise ImageError(f"{path}: has no array '{key}'; found: {', '.join(file) or 'nothing'}")
        try:
            array = np.asarray(file[key])
        except OSError as error:
            raise ImageError(f"{path}: '{key}' cannot be read, the file is damaged: {error}; copy it again") from error
    if array.ndim != 3:
        raise ImageError(f"{path}: '{key}' has shape {array.shape}; a 3D volume is needed")
    if array.dtype.kind == "b" or array.dtype == np.float16:
        array = array.astype(np.uint8 if array.dtype.kind == "b" else np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING)
    return image
