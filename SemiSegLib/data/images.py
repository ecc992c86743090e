"""Reading and writing scans and masks of every supported format, each on exactly its own grid.

>>> image = read_image(Path("case.nii.gz"))                     # doctest: +SKIP
>>> mask = bring_to(read_mask(Path("case.seg.nrrd")), image)    # doctest: +SKIP
>>> write_mask(mask, Path("out.nii.gz"), template=Path("case.nii.gz"))  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.config import Label
from SemiSegLib.constants import SPARE_COLORS
from SemiSegLib.data import dicom, hdf5, metaimage, nifti, nrrd, segnrrd
from SemiSegLib.data.formats import (
    READABLE,
    SEVERAL_VOLUMES,
    WRITABLE,
    ImageError,
    extension,
    is_image,
    is_mask,
    itk_name,
    known_extension,
    stem,
)
from SemiSegLib.data.geometry import (
    Geometry,
    GeometryError,
    canonical,
    from_array,
    restore_orientation,
    right_angled,
    to_array,
    turned_like,
)
from SemiSegLib.files import remove_abandoned, writer_mark
from SemiSegLib.files import replace as move

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = [
    "READABLE",
    "WRITABLE",
    "Geometry",
    "GeometryError",
    "ImageError",
    "Mask",
    "bring_to",
    "canonical",
    "drawn_frames",
    "extension",
    "from_array",
    "is_image",
    "is_mask",
    "mask_labels",
    "read_geometry",
    "read_image",
    "read_mask",
    "relabel",
    "restore_orientation",
    "scan_from_image",
    "stem",
    "to_array",
    "write_mask",
    "write_scalar",
    "write_series",
]

logger = logging.getLogger(__name__)

ROUNDING = 1e-6
"""Share by which a label may miss its whole number: a NIfTI header's factor, such as 1/255, has 32 bits."""

IN_MEMORY = Path("(in memory)")  # stands in messages where files have their path


@dataclass(frozen=True)
class Mask:
    """A label map: image of unsigned integers (0 is background), its labels if the file names them, its file."""

    image: sitk.Image
    labels: list[Label] | None = None
    path: Path | None = None


# ---- reading ----------------------------------------------------------------------------------------------


def read_image(path: Path, frame: int | None = None) -> sitk.Image:
    """A scan as a 3D image of float32 on its own grid.

    path: a file (`READABLE`) or a folder with one DICOM series. A 2D image becomes one slice, a 4D file with a
    single volume is taken as 3D. NaN and infinite voxels become the finite minimum, with a warning.
    frame: of a file with several volumes this one, from 0; the others are not kept in memory.
    Raises ImageError (unreadable, several volumes, colours) and GeometryError (sheared axes).
    """
    return _finite_floats(_read_stored(Path(path), "image", frame), path)


def scan_from_image(image: sitk.Image) -> sitk.Image:
    """An image that is in memory as `read_image` gives it; the same errors. The given one is not changed."""
    import SimpleITK as sitk

    return _finite_floats(_as_volume(sitk.Image(image), IN_MEMORY), IN_MEMORY)


def _finite_floats(image: sitk.Image, path: Path) -> sitk.Image:
    import SimpleITK as sitk

    image = sitk.Cast(image, sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(image)
    finite = np.isfinite(values)
    if finite.all():
        return image
    if not finite.any():
        raise ImageError(f"{path}: no voxel holds a finite number")
    logger.warning("%s: %d voxels are NaN or infinite; set to the minimum", path, values.size - finite.sum())
    cleaned = sitk.GetImageFromArray(np.where(finite, values, values[finite].min()).astype(np.float32))
    return Geometry.of(image).stamp(cleaned)


def read_mask(path: Path, frame: int | None = None) -> Mask:
    """A label map on its own grid, smallest sufficient unsigned type, with labels from Slicer segmentations.

    Layers of overlapping segments are merged, later segments win, with a warning. Floats are accepted when
    they are whole numbers. Raises ImageError otherwise, and for negative values. frame: as in `read_image`.
    """
    path = Path(path)
    labels = mask_labels(path)
    stored = _read_stored(path, "label", frame)
    array = _whole_numbers(to_array(stored), path)
    return Mask(from_array(array, stored), labels, path)


def mask_labels(path: Path) -> list[Label] | None:
    """Names and colours that a mask file itself carries (Slicer segmentations), from its header alone."""
    if extension(path) not in (".seg.nrrd", ".nrrd", ".nhdr"):
        return None
    return [segment.label for segment in segnrrd.read_segments(path)] or None


def drawn_frames(path: Path, count: int) -> set[int]:
    """Numbers, from 0, of those of so many volumes of a mask file in which something is drawn."""
    return {frame for frame in range(count) if to_array(_read_stored(Path(path), "label", frame)).any()}


def read_geometry(path: Path) -> Geometry:
    """The grid that `read_image` or `read_mask` would give, read from the header alone where the format allows; that
    of every frame for a file with several volumes."""
    path = Path(path)
    if extension(path) in (".nii", ".nii.gz"):
        return nifti.read_geometry(path)
    if path.is_dir() or extension(path) in ("", ".h5"):
        return Geometry.of(_read_stored(path, "image"))
    reader = _itk_header(path)
    if reader.GetDimension() == 4:
        return Geometry.of(_read_frame(path, 0))
    if reader.GetDimension() != 3:
        return Geometry.of(_read_stored(path, "image"))
    geometry = Geometry(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    return right_angled(geometry, path)


def _read_stored(path: Path, h5_key: str, frame: int | None = None) -> sitk.Image:
    """Any readable source as a 3D scalar image of its stored type, layers of segmentations merged."""
    if frame is not None:
        by_nibabel = extension(path) in (".nii", ".nii.gz") and nifti.available()
        return nifti.read(path, frame) if by_nibabel else _read_frame(path, frame)
    if path.is_dir():
        return _as_volume(dicom.read(path), path)
    if not path.exists():
        raise ImageError(f"{path}: no such file")
    kind = known_extension(path)
    if kind in (".nii", ".nii.gz"):
        return nifti.read(path)
    if kind == ".h5":
        return hdf5.read(path, h5_key)
    return _as_volume(_read_itk(path), path)


def _read_itk(path: Path) -> sitk.Image:
    """An NRRD or MetaImage file; a segmentation of several layers comes back merged."""
    import SimpleITK as sitk

    reader = _itk_header(path)
    _check_metaimage(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageError(f"{path}: the voxels cannot be read: {_last_line(error)}") from error
    segments = segnrrd.read_segments(path) if extension(path) in (".seg.nrrd", ".nrrd", ".nhdr") else []
    if segments and image.GetDimension() == 3:
        layers = np.atleast_1d(sitk.GetArrayViewFromImage(image))
        merged = segnrrd.merge_layers(layers.reshape(*layers.shape[:3], -1), segments, path)
        return Geometry.of(image).stamp(sitk.GetImageFromArray(merged))
    return image


def _read_frame(path: Path, frame: int) -> sitk.Image:
    """One volume of a MetaImage file or of NRRD, where frames are a fourth axis or, in Slicer's files, components."""
    import SimpleITK as sitk

    reader = _itk_header(path)
    _check_metaimage(path)
    components = reader.GetNumberOfComponents()
    try:
        if reader.GetDimension() == 4 and components == 1 and frame < reader.GetSize()[3]:
            reader.SetExtractIndex((0, 0, 0, frame))
            reader.SetExtractSize((*reader.GetSize()[:3], 0))
            return _as_volume(reader.Execute(), path)
        if reader.GetDimension() == 3 and frame < components:
            return _as_volume(sitk.VectorIndexSelectionCast(reader.Execute(), frame), path)
    except RuntimeError as error:
        raise ImageError(f"{path}: the voxels cannot be read: {_last_line(error)}") from error
    raise ImageError(f"{path}: has no frame {frame + 1}")


def _check_metaimage(path: Path) -> None:
    if extension(path) in (".mha", ".mhd"):
        metaimage.check_voxels(path)


def _itk_header(path: Path) -> sitk.ImageFileReader:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(f"{path}: cannot be read as an image: {_last_line(error)}") from error
    return reader


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _as_volume(image: sitk.Image, path: Path) -> sitk.Image:
    """A 3D image of one number a voxel, with right-angled axes, from what ITK read."""
    import SimpleITK as sitk

    if image.GetNumberOfComponentsPerPixel() > 1 or "complex" in image.GetPixelIDTypeAsString():
        raise ImageError(
            f"{path}: has {image.GetNumberOfComponentsPerPixel()} values a voxel (colours, several channels or "
            "complex numbers); only single-channel scans are supported: save one channel as its own file"
        )
    if "vector" in image.GetPixelIDTypeAsString():
        image = sitk.VectorIndexSelectionCast(image, 0)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image, 0.0, 1.0)
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise ImageError(
            f"{path}: holds {' x '.join(map(str, image.GetSize()))} voxels in {image.GetDimension()} dimensions; "
            f"one 3D volume is needed: {SEVERAL_VOLUMES}"
        )
    return right_angled(Geometry.of(image), path).stamp(image)


def _whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    """The array as the smallest unsigned type that holds it. Raises ImageError for what is no label map."""
    lowest, highest = array.min(), array.max()
    # NaN fails every comparison, so it ends here too
    if not (lowest >= 0 and highest <= np.iinfo(np.uint32).max):
        raise ImageError(f"{path}: not a mask: values run from {lowest} to {highest}, labels are 0, 1, 2, …")
    if array.dtype.kind == "f":
        whole = np.rint(array)
        odd = array[np.abs(array - whole) > ROUNDING * np.maximum(whole, 1)]
        if odd.size:
            raise ImageError(f"{path}: not a mask: holds {odd[0]}, labels are whole numbers (is it a probability map?)")
        array, highest = whole, whole.max()
    return array.astype(np.min_scalar_type(int(highest)))


# ---- bringing masks to images -----------------------------------------------------------------------------


def relabel(mask: Mask, values: Mapping[int, int]) -> Mask:
    """The mask with each stored value replaced by the wanted one; values that are not named stay."""
    array = to_array(mask.image)
    wanted = array.astype(np.uint32)
    for old, new in values.items():
        wanted[array == old] = new
    labels = mask.labels and [replace(label, value=values.get(label.value, label.value)) for label in mask.labels]
    fitting = wanted.astype(np.min_scalar_type(int(wanted.max())))
    return Mask(from_array(fitting, mask.image), labels, mask.path)


def bring_to(
    mask: Mask, image: sitk.Image, image_path: Path | None = None, fill: int = 0, by_orientation: bool = False
) -> Mask:
    """The mask on the grid of `image`.

    Equal grids are kept as they are. Others are resampled in world space, nearest neighbour, when they
    overlap; voxels outside the mask's grid become `fill`. A warning tells which share of the annotation lies
    outside the image. Raises GeometryError naming both files and grids when nothing of it lies inside.

    by_orientation: for data whose masks have a right orientation but an unreliable origin (NIH Pancreas-CT):
    the world decides only when both have the same voxel positions; otherwise the mask's axes are turned to
    those of the image and its voxels laid one to one onto the image's, with a warning.
    """
    import SimpleITK as sitk

    own, wanted = Geometry.of(mask.image), Geometry.of(image)
    if own.same_as(wanted):
        return replace(mask, image=wanted.stamp(sitk.Image(mask.image)))
    if by_orientation and not own.same_box(wanted):
        return replace(mask, image=_laid_onto(mask, image, image_path))
    _require_overlap(mask, wanted, image_path)
    kind = mask.image.GetPixelID() if fill <= 255 else sitk.sitkUInt32
    moved = sitk.Resample(mask.image, image, sitk.Transform(), sitk.sitkNearestNeighbor, fill, kind)
    return replace(mask, image=moved)


def _laid_onto(mask: Mask, image: sitk.Image, image_path: Path | None) -> sitk.Image:
    wanted = Geometry.of(image)
    turned = turned_like(mask.image, image)
    if tuple(turned.GetSize()) != tuple(wanted.size):
        raise GeometryError(_mismatch("differ in size", mask, wanted, image_path))
    logger.warning("%s: its place differs from the scan's; laid onto it by orientation alone", mask.path)
    return wanted.stamp(turned)


def _require_overlap(mask: Mask, wanted: Geometry, image_path: Path | None) -> None:
    own = Geometry.of(mask.image)
    if not own.overlaps(wanted):
        raise GeometryError(_mismatch("do not overlap", mask, wanted, image_path))
    annotated = np.argwhere(to_array(mask.image))
    inside = wanted.contains(own.world(annotated))
    if len(annotated) and not inside.any():
        raise GeometryError(_mismatch("do not meet: all annotated voxels lie outside", mask, wanted, image_path))
    if not inside.all():
        share = 100 * (1 - inside.mean())
        logger.warning("%s: %.1f %% of the annotated voxels lie outside the scan %s", mask.path, share, image_path)


def _mismatch(problem: str, mask: Mask, wanted: Geometry, image_path: Path | None) -> str:
    own = Geometry.of(mask.image)
    hint = "check that they belong together"
    if own.size == wanted.size:
        hint += "; they have equal sizes, so the mask may have been saved without its place in the world"
    return (
        f"mask and scan {problem}. Mask {mask.path or IN_MEMORY}: {own.describe()}. "
        f"Scan {image_path or IN_MEMORY}: {wanted.describe()}. Please {hint}."
    )


# ---- writing ----------------------------------------------------------------------------------------------


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
    array = _whole_numbers(to_array(image), Path(path))
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
    reader = _itk_header(path)
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
    reader = _itk_header(path)
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
        move(unfinished, path)
    except (OSError, RuntimeError) as error:
        raise ImageError(f"{path}: cannot be written: {_last_line(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # not there, or in no folder
            unfinished.unlink()
