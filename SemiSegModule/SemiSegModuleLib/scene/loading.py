"""Scans and masks from files into the scene, as cases.

>>> add_files(table, [folder])                                                         # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from .mask_files import read_labels, relabelled, scene_labels
from .records import ORIENTATIONS
from .sources import remember_source, source_of, volumes_by_source
from .training_files import Progress

if TYPE_CHECKING:
    from SemiSegLib.data.cases import Case as DataCase
    from SemiSegLib.data.cases import CaseList
    from SemiSegLib.data.images import Mask

Tell = Callable[[str], None]
_MOST_NAMES = 5


def add_files(
    table: CaseTable,
    paths: Iterable[Path],
    progress: Progress | None = None,
    tell: Tell = logging.info,
    take_labels: bool = False,
) -> list[Case]:
    """Load scans (and the masks that `SemiSegLib.data.cases` finds beside them) and add them as cases.

    Each path is a scan, or a folder in any layout that training understands, or the `.seg.nrrd` of a scan that is there
    as well. Masks become finished annotations. A scan whose file was read before is not read again; it takes the mask
    if it has no annotation.

    :param tell: called with what became of paths and scans that are not simply added
    :param take_labels: those that the data names become the table's, as they do in a table that has none
    :raises SemiSegError: nothing found, or a file cannot be read; cases loaded until then stay
    """
    from SemiSegLib.data.layouts import joint_labels

    lists = _find(list(map(Path, paths)), tell)
    named = joint_labels([found.labels or [] for found in lists])
    if named and (take_labels or not table.labels):
        table.labels = named
    known = volumes_by_source(table.scene)
    owners = {case.volume.GetID(): case for case in table}
    present = {source: owners[volume.GetID()] for source, volume in known.items() if volume.GetID() in owners}
    cases = [(entry, found.labels, group) for found in lists for entry, group in _with_groups(found, present)]
    added, here_already = [], []
    with table.paused():  # whoever shows hundreds of scans is told once
        for number, (entry, labels, group) in enumerate(cases):
            if progress:
                progress(number, len(cases), "" if table.names_hidden else entry.name)
            source = source_of(entry.image, entry.frame)
            here = present.get(source)
            case = here or table.add_volume(known.get(source) or _load_volume(table.scene, entry, source))
            if source:
                present[source] = case
            case.group = case.group or group
            if entry.label is not None and case.annotation is None:
                _load_annotation(table, case, entry, labels)
            elif here is not None:
                here_already.append(case)
            added.append(case)
    if here_already:
        names = [case.name for case in dict.fromkeys(here_already)]
        tell(f"In the study already, and not added again: {_listed(names)}.")
    return list(dict.fromkeys(added))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _find(paths: Sequence[Path], tell: Tell) -> list[CaseList]:
    """The cases of each path; masks among the paths go to the scans that they are called as."""
    from SemiSegLib.data.formats import extension, stem
    from SemiSegLib.data.layouts import find_cases

    masks = {(path.parent, stem(path)): path for path in paths if extension(path) == ".seg.nrrd" and path.is_file()}
    scans = [path for path in paths if path not in masks.values()]
    lists = [_with_mask(find_cases(path), masks.get((path.parent, stem(path)))) for path in scans or paths]
    used = {entry.label for found in lists for entry in found}
    unused = [path.name for path in masks.values() if path not in used]
    if unused:
        tell(f"Masks whose scans (of the same name) were not chosen with them were left out: {_listed(unused)}.")
    return lists


def _with_mask(found: CaseList, mask: Path | None) -> CaseList:
    """One scan with the mask that was chosen with it."""
    if mask is None or len(found) != 1:
        return found
    (entry,) = found
    labelled = (dataclasses.replace(entry, label=mask, label_values=None),)
    return dataclasses.replace(found, labelled=labelled, unlabelled=(), labels=read_labels(mask))


def _with_groups(cases: CaseList, present: Mapping[str, Case]) -> list[tuple[DataCase, str]]:
    """The cases, each with an identifier that scans of one patient share; scans on their own have none.

    :param present: cases of the table by their sources
    """
    from SemiSegLib.data.patients import patient

    patients = Counter(patient(entry) for entry in cases)
    here = [(patient(entry), present.get(source_of(entry.image, entry.frame))) for entry in cases]
    groups = {name: case.group for name, case in here if case is not None and case.group}
    identifiers = {name: groups.get(name) or new_identifier() for name, count in patients.items() if count > 1}
    return [(entry, identifiers.get(patient(entry), "")) for entry in cases]


def _load_volume(scene, entry: DataCase, source: str):
    node = _read_volume(scene, entry)
    remember_source(node, source)
    return node


def _read_volume(scene, entry: DataCase):
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
