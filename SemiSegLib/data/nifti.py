"""NIfTI files through nibabel: reading any valid header, writing onto the untouched header of another file."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SemiSegLib.data.formats import SEVERAL_VOLUMES, ImageError
from SemiSegLib.data.geometry import Geometry, right_angled

if TYPE_CHECKING:
    import SimpleITK as sitk

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # by the header's code: metre, mm, micron; others mean nothing


def read(path: Path, frame: int | None = None) -> sitk.Image:
    """The volume of a NIfTI file as stored (scaled where the header says so), with any number type.

    frame: of a file with several volumes this one alone, from 0.

    The sform places the voxels if its code is set, else the qform. Without either, ITK's and Slicer's reading
    holds: axes to the left, posterior, superior, first voxel at 0. Raises ImageError or GeometryError.
    """
    import SimpleITK as sitk

    stored = _load(path)
    geometry = _geometry(stored, path, frame is not None)
    if frame is not None and not 0 <= frame < _volumes(stored.shape):
        raise ImageError(f"{path}: has no frame {frame + 1}, only {_volumes(stored.shape)}")
    try:
        array = _checked(stored, path, frame).reshape(geometry.size, order="F")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ImageError(f"{path}: the voxels cannot be read, the file is cut off or damaged: {error}") from error
    image = sitk.GetImageFromArray(np.ascontiguousarray(_plain(array, path).T))
    return geometry.stamp(image)


def _checked(stored: Any, path: Path, frame: int | None) -> np.ndarray:
    """All voxels, or a frame's; a compressed file is read to its very end, where the sum that checks them stands."""
    if path.suffix.lower() != ".gz":
        return _voxels(stored, frame)
    kind = type(stored)
    with gzip.open(path) as stream:
        array = _voxels(kind.from_file_map(kind.make_file_map({"image": stream})), frame)
        while stream.read(1 << 20):
            pass
    return array


def _voxels(stored: Any, frame: int | None) -> np.ndarray:
    return np.asanyarray(stored.dataobj if _volumes(stored.shape) == 1 else stored.dataobj[:, :, :, frame])


def read_geometry(path: Path) -> Geometry:
    """The grid of the volume or volumes of a NIfTI file from its header alone. Raises ImageError or GeometryError."""
    return _geometry(_load(path), path, several=True)


def available() -> bool:
    """nibabel is installed; Slicer's own Python lacks it."""
    return importlib.util.find_spec("nibabel") is not None


def _nibabel(path: Path) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ImageError(f"{path}: NIfTI files need the package nibabel: pip install nibabel") from error
    return nibabel


def _load(path: Path) -> Any:
    nibabel = _nibabel(path)
    from nibabel.filebasedimages import ImageFileError

    try:
        return nibabel.load(path)
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise ImageError(f"{path}: not a readable NIfTI file: {error}") from error


def _geometry(stored: Any, path: Path, several: bool) -> Geometry:
    size = _volume_size(stored.shape, path, several)
    header = stored.header
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        sides = (*header.get_zooms(), 1.0, 1.0)[:3]
        return Geometry(
            size, tuple(abs(float(side)) or 1.0 for side in sides), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel())
        )
    scale = MILLIMETRES.get(int(header["xyzt_units"]) % 8, 1.0)
    affine = np.asarray(stored.affine, dtype=float)
    axes = RAS_TO_LPS @ affine[:3, :3] * scale
    lengths = np.linalg.norm(axes, axis=0)
    direction = axes / np.where(lengths > 0, lengths, 1.0)
    stated = np.asarray((*header.get_zooms(), 0.0, 0.0)[:3], dtype=float) * scale
    # the same but for rounding: then the stated voxel size, as ITK and Slicer show it
    spacing = stated if np.allclose(lengths, stated, rtol=1e-5, atol=0) else lengths
    origin = RAS_TO_LPS @ affine[:3, 3] * scale
    # -0.0 + 0.0 is 0.0: keeps printed directions and origins free of minus zeros
    return right_angled(Geometry(size, _floats(spacing), _floats(origin + 0.0), _floats(direction.ravel() + 0.0)), path)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _volumes(shape: tuple[int, ...]) -> int:
    return (*shape, 1, 1)[3]


def _volume_size(shape: tuple[int, ...], path: Path, several: bool) -> tuple[int, int, int]:
    if len(shape) < 2 or any(n > 1 for n in shape[4 if several else 3 :]) or 0 in shape:
        raise ImageError(
            f"{path}: holds an array of shape {' x '.join(map(str, shape))}; one 3D volume with one value a voxel "
            f"is needed: {SEVERAL_VOLUMES}"
        )
    x, y, z = (*shape, 1)[:3]
    return int(x), int(y), int(z)


def _plain(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.fields or array.dtype.kind == "c":
        raise ImageError(f"{path}: voxels are colours or complex numbers; one number a voxel is needed")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def write(array: np.ndarray, geometry: Geometry, path: Path, template: Path | None = None) -> None:
    """Writes a volume of shape (x, y, z), or several of shape (x, y, z, t).

    With a NIfTI `template`, affine, sform, qform, their codes, units and the array's dimensions (those of one volume
    where it has several) are the template's, bit for bit; texts and extensions in its header, which may name the
    patient, are dropped. Without one, sform and qform (code 1, mm) are made from `geometry`, as exactly as float32 can
    say it.
    """
    nibabel = _nibabel(path)
    if template is None:
        affine = np.eye(4)
        affine[:3, :3] = RAS_TO_LPS @ geometry.axes
        affine[:3, 3] = RAS_TO_LPS @ np.asarray(geometry.origin)
        made = nibabel.Nifti1Image(array, affine)
        made.set_sform(affine, code=1)
        made.set_qform(affine, code=1)
        made.header.set_xyzt_units("mm")
    else:
        like = _load(template)
        header = _reused_header(like, array.dtype)
        shape = like.shape if array.size == np.prod(like.shape) else like.shape[:3]
        made = type(like)(array.reshape(shape, order="F"), like.affine, header)
    nibabel.save(made, path)


def _reused_header(like: Any, dtype: np.dtype) -> Any:
    header = like.header.copy()
    header.extensions[:] = []
    header.set_data_dtype(dtype)
    for field in ("descrip", "aux_file", "db_name", "data_type", "intent_name"):
        if field in header:  # NIfTI-2 has fewer
            header[field] = b""
    for field in ("cal_min", "cal_max", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
        header[field] = 0
    return header
