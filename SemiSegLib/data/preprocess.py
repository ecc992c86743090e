"""Preprocessed cases on disk: done once, memory-mapped afterwards, so that 1,000 cases need no more memory than 10."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.config import DataSettings
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.cases import Case, read_case
from SemiSegLib.data.distance import label_distances
from SemiSegLib.data.geometry import Geometry, canonical, from_array, to_array
from SemiSegLib.data.grid import resample_mask, sparse_on_grid, to_network_grid
from SemiSegLib.data.stored import stored_in
from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import naming, put_on_disk, remove_abandoned, replace, unfinished_folder, writer_mark

if TYPE_CHECKING:
    import SimpleITK as sitk

logger = logging.getLogger(__name__)

_VERSION = 2  # of the files below; part of their key
_MAKING = ".making-"  # HOST-PROCESS-…: folders at work
_MOST_VOXELS = 20_000  # remembered for each class, to centre patches on


@dataclass(frozen=True)
class Prepared:
    """A case on the networks' grid. Arrays are opened when asked for, memory-mapped, axes x, y, z.

    `shape` in voxels, `spacing` in mm; `values` are the task's label values, in the order of the class indices.
    """

    name: str
    folder: Path
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    annotated: bool
    origin: str = "drawn"

    def image(self) -> np.ndarray:
        """float16 (x, y, z), normalised intensities."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    def mask(self) -> np.ndarray:
        """uint8 (x, y, z) class indices, 255 where nobody annotated."""
        return np.load(self.folder / "mask.npy", mmap_mode="r")

    def sdm(self) -> np.ndarray:
        """float16 (classes, x, y, z) signed distances in mm, NaN where unknown."""
        return np.load(self.folder / "sdm.npy", mmap_mode="r")

    def foreground(self) -> list[np.ndarray]:
        """For each foreground class, uint16 (n, 3) positions of some of its voxels."""
        with np.load(self.folder / "foreground.npz") as stored:
            return [stored[name] for name in sorted(stored.files, key=int)]


def prepare(case: Case, settings: DataSettings, cache: Path, sdm: bool) -> Prepared:
    """The case's preprocessed files, made now or found in `cache` (by content, so a folder serves many runs).

    `sdm`: distance maps of the whole scan, too, if the settings' targets come from them and not from the patch alone.
    An unlabelled case has no `label`, so its mask cannot be read here. Raises SemiSegError.
    """
    sdm = sdm and settings.sdm_normalisation == "case"
    folder = cache / f"{case.name}-{_key(case, settings, sdm)}"
    if not (folder / "meta.json").exists():
        temporary = unfinished_folder(cache, f"{_MAKING}{writer_mark()}")
        try:
            with naming(folder):
                _make(case, settings, temporary, sdm)
                for file in temporary.iterdir():
                    put_on_disk(file)
            if folder.exists() and not (folder / "meta.json").exists():  # left unfinished
                shutil.rmtree(folder, ignore_errors=True)
            # Fails where another run made it meanwhile and may be reading it: also good.
            replace(temporary, folder, in_vain=(folder / "meta.json").exists)
        except OSError:
            if not (folder / "meta.json").exists():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    shape, spacing = tuple(meta["shape"]), tuple(meta["spacing"])
    return Prepared(case.name, folder, shape, spacing, case.label is not None, case.origin)


def remove_unfinished(cache: Path) -> None:
    """Remove what killed processes left half made in `cache`, where others may be making cases now."""
    remove_abandoned(cache, re.compile(rf"{re.escape(_MAKING)}(.+)-[^-]+"))


def _make(case: Case, settings: DataSettings, folder: Path, sdm: bool) -> None:
    scan, given = read_case(case)
    try:
        image = to_network_grid(scan, settings)
    except SemiSegError as error:
        raise SemiSegError(f"{case.image}: {error}.") from error
    array = to_array(image)
    np.save(folder / "image.npy", np.clip(array, -60000, 60000).astype(np.float16))  # which ends at 65504
    if given is not None:
        indices = class_indices(to_array(given.image), case, settings)
        mask = mask_on_grid(indices, scan, image, settings)
        _warn_of_lost(indices, mask, case, image.GetSpacing(), settings)
        np.save(folder / "mask.npy", np.ascontiguousarray(mask))
        _save_foreground(mask, len(settings.labels), folder)
        if sdm:
            classes = range(1, len(settings.labels) + 1)
            slice_axis = 2 if settings.dimensions == 2 else None
            maps = label_distances(mask, classes, image.GetSpacing(), IGNORE, slice_axis)
            np.save(folder / "sdm.npy", maps.astype(np.float16))
    meta = {"shape": array.shape, "spacing": image.GetSpacing(), "case": case.name}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _warn_of_lost(
    indices: np.ndarray, mask: np.ndarray, case: Case, spacing: Sequence[float], settings: DataSettings
) -> None:
    lost = set(np.unique(indices)) - set(np.unique(mask)) - {0, IGNORE}
    if lost:
        names = ", ".join(settings.labels[index - 1].name for index in sorted(lost))
        voxel = " x ".join(f"{side:.4g}" for side in spacing)
        logger.warning("%s: of %s nothing is left at voxels of %s mm", case.label, names, voxel)


def mask_on_grid(indices: np.ndarray, scan: sitk.Image, grid: sitk.Image, settings: DataSettings) -> np.ndarray:
    """Class indices (x, y, z) of a scan, canonical and resampled to the networks' grid.

    Where voxels that nobody annotated outnumber the others, resampling would take their side: what was annotated there
    (single slices, strokes) is put back.
    """
    mask = to_array(resample_mask(canonical(from_array(indices, scan)), settings.spacing))
    if not (mask == IGNORE).any() or Geometry.of(grid).same_as(Geometry.of(canonical(scan))):
        return mask
    return np.where(mask == IGNORE, sparse_on_grid(indices, scan, grid), mask)


def class_indices(mask: np.ndarray, case: Case, settings: DataSettings) -> np.ndarray:
    """File values to class indices 1, 2, ... in the order of `settings.labels`; the ignore value becomes 255.

    Raises SemiSegError naming the file and the values that belong to no label.
    """
    known = {label.value: index for index, label in enumerate(settings.labels, start=1)}
    known |= {0: 0, settings.ignore_value: IGNORE}
    result = np.zeros(mask.shape, np.uint8)
    unknown = []
    for value in np.unique(mask):
        index = known.get(int(value))
        if index is None:
            unknown.append(int(value))
        elif index:
            result[mask == value] = index
    if unknown:
        names = ", ".join(f"{label.value} {label.name}" for label in settings.labels)
        raise SemiSegError(
            f"{case.label}: the values {unknown[:8]} belong to no label (labels are {names}; "
            f"{settings.ignore_value} marks voxels nobody annotated). Correct the mask or name the labels."
        )
    return result


def _save_foreground(mask: np.ndarray, classes: int, folder: Path) -> None:
    generator = np.random.default_rng(0)
    found = {}
    for index in range(1, classes + 1):
        voxels = np.argwhere(mask == index).astype(np.uint16)
        if len(voxels) > _MOST_VOXELS:
            voxels = voxels[generator.choice(len(voxels), _MOST_VOXELS, replace=False)]
        found[str(index)] = voxels
    np.savez(folder / "foreground.npz", **found)  # type: ignore[arg-type]


def _key(case: Case, settings: DataSettings, sdm: bool) -> str:
    parts: list[object] = [_VERSION, _stamp(case.image), asdict(settings) | {"cache": None, "sdm_normalisation": None}]
    if case.label is not None:
        parts += [_stamp(case.label), sorted((case.label_values or {}).items()), case.label_by_orientation, sdm]
    if case.frame is not None:
        parts += [case.frame, case.label_frame]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _stamp(path: Path) -> Sequence[object]:
    """What changes when a file, a voxel file that it names or a slice of a DICOM folder does."""
    return [_file_stamp(file) for file in stored_in(path)]


def _file_stamp(file: Path) -> Sequence[object]:
    try:
        found = file.stat()
    except OSError:
        return [str(file), "missing"]
    # The same file under another name (a study's trainings link to one copy) or moved on its disk is the same scan.
    return [found.st_ino or str(file.resolve()), found.st_size, found.st_mtime_ns]
