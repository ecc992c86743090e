"""One DICOM series from a folder, refused when its slices do not make up a gapless volume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.data.formats import ImageError, is_hidden, itk_name

if TYPE_CHECKING:
    import SimpleITK as sitk

logger = logging.getLogger(__name__)

SUFFIXES = (".dcm", ".ima")
LOCALISER_SLICES = 10
"""A series of at most this many slices counts as a localiser beside one at least four times as long (our choice)."""

MODALITY, DESCRIPTION = "0008|0060", "0008|103e"
SERIES, POSITION, ORIENTATION = "0020|000e", "0020|0032", "0020|0037"


def is_dicom_series(folder: Path) -> bool:
    """Whether DICOM files lie directly in `folder`; looks at names first, then into the first few files."""
    if not folder.is_dir():
        return False
    files = sorted(path for path in folder.iterdir() if path.is_file() and not is_hidden(path))
    if any(path.suffix.lower() in SUFFIXES for path in files):
        return True
    return any(_has_magic(path) for path in files[:5] if path.name.upper() != "DICOMDIR")


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read(folder: Path) -> sitk.Image:
    """The volume of the only series in `folder`, as stored or as float32, slices ordered by their positions.

    Of several series the longest is taken if all others are localisers (LOCALISER_SLICES), with a warning;
    otherwise ImageError lists them. ImageError too for missing or doubled slices and for a tilted gantry.
    """
    import SimpleITK as sitk

    files = _chosen_series(folder)
    try:
        if len(files) == 1:
            return sitk.ReadImage(files[0])
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        reader.MetaDataDictionaryArrayUpdateOn()
        if _values_a_voxel(files[0]) == 1:  # else the first slice's type is that of all, and other factors do not fit
            reader.SetOutputPixelType(sitk.sitkFloat32)
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageError(f"{folder}: the DICOM series cannot be read: {str(error).strip()}") from error
    if all(reader.HasMetaDataKey(n, POSITION) for n in range(len(files))):
        _check_positions(reader, files, image, folder)
    return image


def _chosen_series(folder: Path) -> list[str]:
    import SimpleITK as sitk

    where = itk_name(folder)
    names = sitk.ImageSeriesReader.GetGDCMSeriesIDs(where)
    series = [list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(where, name)) for name in names]
    series = sorted((files for files in series or _series_one_by_one(folder) if files), key=len, reverse=True)
    if not series:
        raise ImageError(f"{folder}: no DICOM series in this folder")
    longest, others = series[0], series[1:]
    if not others:
        return longest
    listed = "; ".join(f"{_describe(files[0])}, {len(files)} slices" for files in series)
    if len(others[0]) <= LOCALISER_SLICES and len(longest) >= 4 * len(others[0]):
        logger.warning("%s: took the longest of several series: %s", folder, listed)
        return longest
    raise ImageError(f"{folder}: holds {len(series)} series, keep one in a folder of its own: {listed}")


def _series_one_by_one(folder: Path) -> list[list[str]]:
    """As GDCM finds them, which on Windows finds no folder whose name has other letters than the system's code page."""
    import SimpleITK as sitk

    found: dict[str, list[tuple[float, str]]] = {}
    reader = sitk.ImageFileReader()
    for file in sorted(path for path in folder.iterdir() if path.is_file() and _has_magic(path)):
        reader.SetFileName(itk_name(file))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            continue
        if all(reader.HasMetaDataKey(key) for key in (SERIES, POSITION, ORIENTATION)):
            axes = np.reshape(_numbers(reader.GetMetaData(ORIENTATION)), (2, 3))
            height = float(np.cross(*axes) @ _numbers(reader.GetMetaData(POSITION)))
            found.setdefault(reader.GetMetaData(SERIES), []).append((height, str(file)))
    return [[file for _, file in sorted(files)] for files in found.values()]


def _values_a_voxel(file: str) -> int:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader.GetNumberOfComponents()


def _describe(file: str) -> str:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return "unreadable"
    texts = (reader.GetMetaData(key).strip() for key in (MODALITY, DESCRIPTION) if reader.HasMetaDataKey(key))
    return " ".join(text for text in texts if text) or "without description"


def _check_positions(reader: sitk.ImageSeriesReader, files: list[str], image: sitk.Image, folder: Path) -> None:
    positions = np.array([_numbers(reader.GetMetaData(n, POSITION)) for n in range(len(files))])
    normal = np.reshape(image.GetDirection(), (3, 3))[:, 2]
    heights = positions @ normal
    order = np.argsort(heights)
    steps = np.diff(heights[order])
    usual = float(np.median(steps))
    if steps.min() <= 0.01 * usual:
        raise ImageError(
            f"{folder}: several slices lie at the same place, as in a time series or a series that was copied "
            "twice; keep one volume in the folder"
        )
    if steps.max() > 1.5 * usual:
        gap = int(np.argmax(steps))
        before, after = (Path(files[order[n]]).name for n in (gap, gap + 1))
        raise ImageError(
            f"{folder}: slices are missing between {before} and {after}: "
            f"{steps[gap]:.2f} mm apart where {usual:.2f} mm is usual"
        )
    if (order != np.arange(len(files))).any():
        raise ImageError(f"{folder}: slices cannot be brought into order (do their orientations differ?)")
    if steps.max() - steps.min() > 0.1 * usual:
        logger.warning("%s: slices are %.2f to %.2f mm apart", folder, steps.min(), steps.max())
    aside = positions - positions[0] - np.outer(heights - heights[0], normal)
    drift = float(np.linalg.norm(aside, axis=1).max())
    if drift > 0.5 * min(image.GetSpacing()[:2]):
        raise ImageError(
            f"{folder}: slices are shifted sideways by up to {drift:.1f} mm (tilted gantry); make a grid with "
            "right angles first (Slicer does on DICOM import with acquisition geometry regularization)"
        )


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]
