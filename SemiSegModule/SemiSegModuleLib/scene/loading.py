"""Scans and masks from files into the scene, as cases.

>>> add_files(table, [folder])                                                         # doctest: +SKIP
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
import slicer

from SemiSegLib.config import Label

from . import segments, volumes
from .annotations import IGNORE_VALUE, ignore_slices, make_annotation
from .case import Case, CaseError
from .case_table import CaseTable
from .identity import new_identifier
from .mask_files import relabelled, scene_labels
from .records import ORIENTATIONS
from .training_files import Progress

if TYPE_CHECKING:
    from SemiSegLib.data.cases import Case as DataCase
    from SemiSegLib.data.cases import CaseList
    from SemiSegLib.data.images import Mask


def add_files(table: CaseTable, paths: Iterable[Path], progress: Progress | None = None) -> list[Case]:
    """Load scans (and the masks that `SemiSegLib.data.cases` finds beside them) and add them as cases.

    Each path is a scan, or a folder in any layout that training understands. Masks become finished annotations;
    when the table has no labels yet, those of the data set are taken over.

    :raises SemiSegError: nothing found, or a file cannot be read; cases loaded until then stay
    """
    from SemiSegLib.data.layouts import find_cases

    lists = [find_cases(Path(path)) for path in paths]
    if not table.labels:
        table.labels = next((found.labels for found in lists if found.labels), [])
    cases = [(entry, found.labels, group) for found in lists for entry, group in _with_groups(found)]
    added = []
    for number, (entry, labels, group) in enumerate(cases):
        if progress:
            progress(number, len(cases), entry.name)
        with table.paused():
            case = _add_case(table, entry, labels)
            case.group = group
            added.append(case)
    return added


def _with_groups(cases: CaseList) -> list[tuple[DataCase, str]]:
    """The cases, each with an identifier that scans of one patient share; scans on their own have none."""
    from SemiSegLib.data.patients import patient

    patients = Counter(patient(entry) for entry in cases)
    identifiers = {name: new_identifier() for name, count in patients.items() if count > 1}
    return [(entry, identifiers.get(patient(entry), "")) for entry in cases]


def _add_case(table: CaseTable, entry: DataCase, labels: Sequence[Label] | None) -> Case:
    volume = _load_volume(table.scene, entry)
    case = table.add_volume(volume)
    if entry.label is not None:
        _load_annotation(table, case, entry, labels)
    return case


def _load_volume(scene, entry: DataCase):
    """A scan as Slicer loads it; folders of DICOM, HDF5 and frames of 4D files through SemiSegLib."""
    if entry.image.is_file() and entry.image.suffix != ".h5" and entry.frame is None:
        node = slicer.modules.volumes.logic().AddArchetypeVolume(str(entry.image), entry.name)
        if node is None:
            raise CaseError(f"{entry.image} cannot be loaded as a volume.")
        return node
    from SemiSegLib.data.cases import read_scan

    image = read_scan(entry)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", entry.name)
    volumes.fill_volume(node, sitk.GetArrayFromImage(image), volumes.image_to_ras(image))
    node.CreateDefaultDisplayNodes()
    return node


def _load_annotation(table: CaseTable, case: Case, entry: DataCase, labels: Sequence[Label] | None) -> None:
    """The mask of a data set as a finished annotation; 255 in whole slices becomes `Case.partial`, elsewhere *not
    sure*."""
    from SemiSegLib.data.images import bring_to, relabel

    stored = _read_mask(entry.label, entry.label_frame)
    stored = relabel(stored, entry.label_values) if entry.label_values else stored
    scan = volumes.world_image(case.volume)
    image = bring_to(stored, scan, entry.image, IGNORE_VALUE, entry.label_by_orientation).image
    array = sitk.GetArrayFromImage(image)
    drawn = np.where(array == IGNORE_VALUE, 0, array)
    meaning = scene_labels(entry.label, volumes.like(image, drawn), labels or table.labels, table.labels)
    annotation = make_annotation(table, case)
    segments.set_voxels(annotation, relabelled(drawn, meaning), volumes.ijk_to_ras(case.volume), list(meaning.values()))
    unknown = array == IGNORE_VALUE
    case.partial = _partial_orientation(case, unknown, drawn)
    if unknown.any() and not case.partial:
        segments.set_not_sure(annotation, unknown, volumes.ijk_to_ras(case.volume))
    case.mark_done() if case.has_drawing else None


def _partial_orientation(case: Case, unknown: np.ndarray, drawn: np.ndarray) -> str:
    """The orientation of slices that nobody annotated, '' when it is not just all empty slices of one orientation."""
    for orientation in ORIENTATIONS if unknown.any() else ():
        without = ignore_slices(drawn, volumes.slice_axis(case.volume, orientation)) == IGNORE_VALUE
        if np.array_equal(without, unknown):
            return orientation
    return ""


def _read_mask(path: Path, frame: int | None) -> Mask:
    """A mask of any format; NIfTI through SimpleITK where nibabel is not installed (Slicer itself lacks it)."""
    from SemiSegLib.data.images import Mask, read_mask

    if frame is not None or not path.name.lower().endswith((".nii", ".nii.gz")) or _has_nibabel():
        return read_mask(path, frame)
    image = volumes.read_image(path)
    array = sitk.GetArrayFromImage(image)
    if array.min() < 0 or (array != np.rint(array)).any():
        raise CaseError(f"{path} is not a mask: labels are the whole numbers 0, 1, 2, …")
    return Mask(volumes.like(image, array.astype(np.uint16)), None, path)


def _has_nibabel() -> bool:
    try:
        import nibabel  # noqa: F401
    except ImportError:
        return False
    return True
