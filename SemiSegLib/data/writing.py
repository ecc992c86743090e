"""Writing masks and maps of every supported format, each on exactly its scan's grid, whole or not at all.

>>> write_mask(mask, Path("out.nii.gz"), template=Path("case.nii.gz"))  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.config import Label
from SemiSegLib.constants import SPARE_COLORS
from SemiSegLib.data import nifti, nrrd, segnrrd
from SemiSegLib.data.formats import WRITABLE, ImageError, extension, itk_name, known_extension, stem
from SemiSegLib.data.geometry import Geometry, GeometryError, to_array
from SemiSegLib.data.images import Mask, itk_header, last_line, read_geometry, read_mask, whole_numbers
from SemiSegLib.files import put_on_disk, remove_abandoned, replace, writer_mark

if TYPE_CHECKING:
    import SimpleITK as sitk


def write_mask(
    mask: sitk.Image | Mask,
    path: Path,
    labels: Sequence[Label] | None = None,
    template: Path | None = None,
    terminology: Mapping[int, str] | None = None,
) -> None:
    """Writes a label map, compressed, with the smallest sufficient unsigned type, whole or not at all.

    path: one of `WRITABLE`; `.seg.nrrd` opens in Slicer as a segmentation with names, colours and values.
    labels: default those of the mask; values without a label get a name and a colour.
    template: the scan the mask belongs to; the geometry in the file is then bit-equal to that scan's.
    terminology: Slicer's `TerminologyEntry` text by label value, for `.seg.nrrd`.
    Raises ImageError (extension, not whole numbers) and GeometryError (not on the template's grid).
    """
    image = mask.image if isinstance(mask, Mask) else mask
    if labels is None and isinstance(mask, Mask):
        labels = mask.labels
    array = whole_numbers(to_array(image), Path(path))
    keys = None
    if known_extension(Path(path), WRITABLE) == ".seg.nrrd":
        keys = segnrrd.segment_keys(Geometry.of(image), _complete(labels, array), terminology)
    _write(array, Geometry.of(image), Path(path), template, keys)


def write_scalar(image: sitk.Image, path: Path, template: Path | None = None) -> None:
    """Writes a map of numbers (signed distances in mm, probabilities) as float32; otherwise as `write_mask`."""
    if known_extension(Path(path), WRITABLE) == ".seg.nrrd":
        raise ImageError(f"{path}: .seg.nrrd holds segmentations; write a map of numbers as .nrrd or .nii.gz")
    _write(to_array(image).astype(np.float32), Geometry.of(image), Path(path), template, None)


def write_series(masks: Sequence[Path], path: Path, template: Path) -> None:
    """Writes the masks of all frames of a scan, in their order, as one 4D file.

    path: `.nii.gz`, `.nii`, `.mha`, or `.seq.nrrd`, which Slicer opens as a sequence. template: the 4D scan; where it
    is on the masks' grid and of the same format, its header is taken over, that of the time axis, too.
    Raises ImageError and GeometryError.
    """
    frames = [read_mask(mask).image for mask in masks]
    geometry, kind = Geometry.of(frames[0]), known_extension(path, WRITABLE)
    array = np.stack([to_array(frame) for frame in frames], axis=-1)
    array = array.astype(np.min_scalar_type(int(array.max())))
    whole = geometry.same_as(read_geometry(template))  # and not a part of it
    if kind in (".nii", ".nii.gz"):
        like = _if_format(template, (".nii", ".nii.gz")) if whole else None
        _whole(path, lambda unfinished: nifti.write(array, geometry, unfinished, like))
    elif kind == ".nrrd":
        placed = nrrd.geometry_fields(geometry, _if_format(template, (".nrrd", ".nhdr")) if whole else None)
        _whole(path, lambda unfinished: nrrd.write(array, unfinished, placed))
    else:
        step = _time_step(template)
        _whole(path, lambda unfinished: _write_metaimages(array, geometry, step, unfinished))


def _time_step(path: Path) -> float:
    """Between two frames of a 4D file, as far as ITK knows it; else 1."""
    reader = itk_header(path)
    return reader.GetSpacing()[3] if reader.GetDimension() == 4 else 1.0


def _write_metaimages(array: np.ndarray, geometry: Geometry, step: float, path: Path) -> None:
    import SimpleITK as sitk

    frames = [
        geometry.stamp(sitk.GetImageFromArray(np.ascontiguousarray(frame.T))) for frame in np.moveaxis(array, 3, 0)
    ]
    sitk.WriteImage(sitk.JoinSeries(frames, 0.0, step), itk_name(path), useCompression=True)


def _complete(labels: Sequence[Label] | None, array: np.ndarray) -> list[Label]:
    """The given labels, and one for every other value in the array."""
    known = list(labels or [])
    values = [int(value) for value in np.unique(array) if value > 0]
    new = [value for value in values if value not in {label.value for label in known}]
    return known + [Label(value, f"Label {value}", SPARE_COLORS[(value - 1) % len(SPARE_COLORS)]) for value in new]


def _write(
    array: np.ndarray, geometry: Geometry, path: Path, template: Path | None, keys: dict[str, str] | None
) -> None:
    kind = known_extension(path, WRITABLE)
    if template is not None:
        geometry = _template_geometry(geometry, path, Path(template))
    if kind in (".nii", ".nii.gz"):
        like = _if_format(template, (".nii", ".nii.gz"))
        _whole(path, lambda unfinished: nifti.write(array, geometry, unfinished, like))
    elif kind in (".nrrd", ".seg.nrrd"):
        placed = nrrd.geometry_fields(geometry, _if_format(template, (".nrrd", ".seg.nrrd", ".nhdr")))
        _whole(path, lambda unfinished: nrrd.write(array, unfinished, placed, keys))
    else:
        meta = _if_format(template, (".mha", ".mhd"))
        exact = _itk_geometry(meta) if meta else None
        _whole(path, lambda unfinished: _write_metaimage(array, exact or geometry, unfinished))


def _if_format(template: Path | None, extensions: tuple[str, ...]) -> Path | None:
    if template is None or Path(template).is_dir() or extension(Path(template)) not in extensions:
        return None
    return Path(template)


def _template_geometry(geometry: Geometry, path: Path, template: Path) -> Geometry:
    wanted = read_geometry(template)
    if not geometry.same_as(wanted):
        raise GeometryError(
            f"{path}: not written, since it is not on the grid of {template}: it has {geometry.describe()}, "
            f"the scan has {wanted.describe()}"
        )
    return wanted


def _itk_geometry(path: Path) -> Geometry | None:
    """The grid exactly as in the header of a 3D file, even where the reader straightens a negligible shear."""
    reader = itk_header(path)
    if reader.GetDimension() != 3:
        return None
    return Geometry(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def _write_metaimage(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import SimpleITK as sitk

    image = geometry.stamp(sitk.GetImageFromArray(np.ascontiguousarray(array.T)))
    sitk.WriteImage(image, itk_name(path), useCompression=True)


def remove_unfinished(folder: Path) -> None:
    """Remove files in `folder` that killed processes were writing; others may be writing there now."""
    remove_abandoned(folder, re.compile(r"\..+~([^~]+)\.tmp\..+"))


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` make a hidden file beside `path`, then renames it: readers see the whole file or none."""
    unfinished = path.with_name(f".{stem(path)}~{writer_mark()}.tmp{extension(path)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        put_on_disk(unfinished)
        replace(unfinished, path)
    except (OSError, RuntimeError) as error:
        raise ImageError(f"{path}: cannot be written: {last_line(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # not there, or in no folder
            unfinished.unlink()
