"""Reading scans and masks of every supported format, each on exactly its own grid (`data.writing` writes them).

>>> image = read_image(Path("case.nii.gz"))                     # doctest: +SKIP
>>> mask = bring_to(read_mask(Path("case.seg.nrrd")), image)    # doctest: +SKIP
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.config import Label
from SemiSegLib.data import dicom, hdf5, metaimage, nifti, segnrrd
from SemiSegLib.data.formats import (
    SEVERAL_VOLUMES,
    ImageError,
    extension,
    itk_name,
    known_extension,
)
from SemiSegLib.data.geometry import (
    Geometry,
    GeometryError,
    from_array,
    right_angled,
    to_array,
    turned_like,
)

if TYPE_CHECKING:
    import SimpleITK as sitk

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
    array = whole_numbers(to_array(stored), path)
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
    reader = itk_header(path)
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

    reader = itk_header(path)
    _check_metaimage(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageError(f"{path}: the voxels cannot be read: {_reason(error, path)}") from error
    segments = segnrrd.read_segments(path) if extension(path) in (".seg.nrrd", ".nrrd", ".nhdr") else []
    if segments and image.GetDimension() == 3:
        layers = np.atleast_1d(sitk.GetArrayViewFromImage(image))
        merged = segnrrd.merge_layers(layers.reshape(*layers.shape[:3], -1), segments, path)
        return Geometry.of(image).stamp(sitk.GetImageFromArray(merged))
    return image


def _read_frame(path: Path, frame: int) -> sitk.Image:
    """One volume of a MetaImage file or of NRRD, where frames are a fourth axis or, in Slicer's files, components."""
    import SimpleITK as sitk

    reader = itk_header(path)
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
        raise ImageError(f"{path}: the voxels cannot be read: {_reason(error, path)}") from error
    raise ImageError(f"{path}: has no frame {frame + 1}")


def _check_metaimage(path: Path) -> None:
    if extension(path) in (".mha", ".mhd"):
        metaimage.check_voxels(path)


def itk_header(path: Path) -> sitk.ImageFileReader:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(f"{path}: cannot be read as an image: {_reason(error, path)}") from error
    return reader


def _reason(error: Exception, path: Path) -> str:
    broken = extension(path) in (".mha", ".mhd") and path.is_file()
    return metaimage.why_unreadable(path) if broken else last_line(error)


def last_line(error: Exception) -> str:
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


def whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
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
    mask: Mask,
    image: sitk.Image,
    image_path: Path | None = None,
    fill: int = 0,
    by_orientation: bool = False,
    called: str = "scan",
) -> Mask:
    """The mask on the grid of `image`.

    Equal grids are kept as they are. Others are resampled in world space, nearest neighbour, when they
    overlap; voxels outside the mask's grid become `fill`, and those that have it are no annotation. A warning
    tells which share of the annotation lies outside the image. Raises GeometryError naming both files and grids
    when nothing of it lies inside, and for a mask of as many voxels that was saved without its place in the world.

    by_orientation: for data whose masks have a right orientation but an unreliable origin (NIH Pancreas-CT):
    the world decides only when both have the same voxel positions; otherwise the mask's axes are turned to
    those of the image and its voxels laid one to one onto the image's, with a warning.

    called: what the image is in messages.
    """
    import SimpleITK as sitk

    own, wanted = Geometry.of(mask.image), Geometry.of(image)
    if own.same_as(wanted):
        return replace(mask, image=wanted.stamp(sitk.Image(mask.image)))
    if by_orientation and not own.same_box(wanted):
        return replace(mask, image=_laid_onto(mask, image, image_path))
    if own.size == wanted.size and own.is_none:
        raise GeometryError(
            _mismatch("lie elsewhere, since the mask has no place in the world", mask, wanted, image_path, called)
        )
    _require_overlap(mask, wanted, image_path, fill, called)
    kind = mask.image.GetPixelID() if fill <= 255 else sitk.sitkUInt32
    moved = sitk.Resample(mask.image, image, sitk.Transform(), sitk.sitkNearestNeighbor, fill, kind)
    return replace(mask, image=moved)


def warn_of_resampling(mask: Mask, image: sitk.Image) -> None:
    """Say it of a mask whose voxels lie between those of the scan: borders move by up to half a voxel."""
    if not Geometry.of(mask.image).on_lattice_of(Geometry.of(image)):
        logger.warning("%s: its voxels are not its scan's; it is resampled onto them (nearest neighbour)", mask.path)


def _laid_onto(mask: Mask, image: sitk.Image, image_path: Path | None) -> sitk.Image:
    wanted = Geometry.of(image)
    turned = turned_like(mask.image, image)
    if tuple(turned.GetSize()) != tuple(wanted.size):
        raise GeometryError(_mismatch("differ in size", mask, wanted, image_path))
    logger.warning("%s: its place differs from the scan's; laid onto it by orientation alone", mask.path)
    return wanted.stamp(turned)


def _require_overlap(mask: Mask, wanted: Geometry, image_path: Path | None, unknown: int, called: str) -> None:
    own = Geometry.of(mask.image)
    if not own.overlaps(wanted):
        raise GeometryError(_mismatch("do not overlap", mask, wanted, image_path, called))
    array = to_array(mask.image)
    annotated = np.argwhere((array != 0) & (array != unknown))
    inside = wanted.contains(own.world(annotated))
    if len(annotated) and not inside.any():
        raise GeometryError(
            _mismatch("do not meet: all annotated voxels lie outside", mask, wanted, image_path, called)
        )
    if not inside.all():
        share = 100 * (1 - inside.mean())
        logger.warning(
            "%s: %.1f %% of the annotated voxels lie outside the %s %s", mask.path, share, called, image_path
        )


def _mismatch(problem: str, mask: Mask, wanted: Geometry, image_path: Path | None, called: str = "scan") -> str:
    own = Geometry.of(mask.image)
    hint = "check that they belong together"
    if own.size == wanted.size:
        hint += (
            "; they have equal sizes, so the mask may have been saved without its place in the world: save it again "
            f"with that of the {called} (CopyInformation in SimpleITK, the affine in nibabel)"
        )
    return (
        f"mask and {called} {problem}. Mask {mask.path or IN_MEMORY}: {own.describe()}. "
        f"{called.capitalize()} {image_path or IN_MEMORY}: {wanted.describe()}. Please {hint}."
    )
