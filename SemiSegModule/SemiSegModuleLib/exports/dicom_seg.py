"""Masks as DICOM SEG, through Slicer's plugin for it or the package highdicom, where one is there.

The plugin comes with Slicer 5.12, and before with the extension QuantitativeReporting.

>>> if not why_not():                                                   # doctest: +SKIP
...     export_dicom_seg(table, cases, folder)
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from SemiSegLib import __version__
from SemiSegLib.config import Label
from SemiSegLib.files import replace

from ..scene import segments, volumes
from ..scene.case import Case
from ..scene.case_table import CaseTable
from ..scene.nodes import follow, new_segmentation
from .choice import ExportError, empty_ones, refuse_existing, segmentation_of, with_mask
from .names import give, stems

_SERIES = "SemiSeg segmentation"
_OFF_GRID = 0.1  # voxels that a DICOM pixel may lie beside the volume's voxel; more means the volume was resampled


def why_not() -> str:
    """What to install before DICOM SEG can be written; '' when nothing is missing."""
    if _has_plugin() or importlib.util.find_spec("highdicom") is not None:
        return ""
    return (
        "DICOM SEG needs the extension QuantitativeReporting (Extensions Manager) or the Python package highdicom "
        "(in the Python console: slicer.util.pip_install('highdicom'))."
    )


def export_dicom_seg(
    table: CaseTable,
    cases: Iterable[Case],
    folder: Path,
    source: str = "best",
    overwrite: bool = False,
    by_patient: bool = False,
) -> list[Path]:
    """Write `folder/<stem>.seg.dcm` for each case; its scan must have been loaded from DICOM.

    Empty masks are left out, and a warning names them: a DICOM SEG has to hold something.

    :param by_patient: a folder for each patient
    :return: the files (with Slicer's plugin: a folder `<stem>` for each, since the plugin names its files itself)
    :raises ExportError: nothing to write with, no mask or only empty ones, a file of a mask that is empty now, or a
        scan that did not come from DICOM
    :raises FilesExist: and nothing is written
    """
    missing = why_not()
    if missing:
        raise ExportError(missing)
    chosen = with_mask(cases, source, table.labels)
    names = stems(table, chosen, by_patient)
    by_plugin = _has_plugin()
    paths = [Path(folder) / (name if by_plugin else f"{name}.seg.dcm") for name in names]
    drawn = _drawn(chosen, paths, source, table.labels)
    chosen, names, paths = (list(compress(every, drawn)) for every in (chosen, names, paths))
    refuse_existing(paths, overwrite)
    series = [dicom_files(case) for case in chosen]  # all are looked for before anything is written
    give(table, chosen, names)
    if by_plugin:
        for case, path in zip(chosen, paths, strict=True):
            _export_by_plugin(table, case, source, path)
        return paths
    for case, files, path in zip(chosen, series, paths, strict=True):
        mask = segments.voxels_on_grid(segmentation_of(case, source), case.volume, table.labels)
        write_dicom_seg(mask, volumes.ijk_to_ras(case.volume), files, table.labels, path, _maker(case, source))
    return paths


def _drawn(cases: Sequence[Case], paths: Sequence[Path], source: str, labels: Sequence[Label]) -> list[bool]:
    """Whether each case's mask has something that a DICOM SEG can hold.

    Raises ExportError where none has, or where a file would stay behind with what a mask was before it became empty.
    """
    empty = empty_ones(cases, labels, source)
    names = ", ".join(case.file_name for case in empty)
    if len(empty) == len(cases):
        raise ExportError(
            f"There is nothing but empty masks, which DICOM SEG cannot hold ({names}): take another format."
        )
    former = [path for case, path in zip(cases, paths, strict=True) if case in empty and path.exists()]
    if former:
        raise ExportError(
            f"{', '.join(map(str, former))}: an earlier mask of a scan whose mask is empty now. DICOM SEG cannot hold "
            "an empty one to replace it: remove the file, then export again."
        )
    if empty:
        logging.warning("SemiSeg: not exported, since DICOM SEG cannot hold an empty mask: %s", names)
    return [case not in empty for case in cases]


def dicom_files(case: Case) -> list[Path]:
    """The files of the case's scan in Slicer's DICOM database; raises ExportError when it did not come from there."""
    uids = (case.volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    files = [database.fileForInstance(uid) for uid in uids] if database is not None else []
    if not files or not all(files):
        raise ExportError(
            f"'{case.name}' was not loaded from Slicer's DICOM database, so a DICOM SEG has nothing to refer to: "
            "load the scan through the DICOM module, or export another format."
        )
    return [Path(file) for file in files]


def write_dicom_seg(
    mask: np.ndarray, ijk_to_ras: np.ndarray, files: Sequence[Path], labels: Sequence[Label], path: Path, maker: str
) -> None:
    """Write a label map as DICOM SEG on the pixels of the DICOM files its scan was made of.

    :param mask: label values, shape (k, j, i) of the volume
    :param ijk_to_ras: 4 x 4 of the volume without transforms, mm: where the scanner put it
    :param maker: 'MANUAL', 'SEMIAUTOMATIC' or 'AUTOMATIC'
    :raises ExportError: no label has voxels, or the volume is not on the grid of the files
    """
    import highdicom
    import pydicom

    sources = [pydicom.dcmread(file) for file in files]
    frames = np.stack([_on_pixels(mask, ijk_to_ras, source) for source in sources])
    present = [label for label in labels if (frames == label.value).any()]
    if not present:
        raise ExportError(f"{path}: nothing is drawn for the task's labels.")
    planes = np.stack([frames == label.value for label in present], axis=-1).astype(np.uint8)
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(n, label, maker) for n, label in enumerate(present, start=1)],
        series_instance_uid=highdicom.UID(),
        series_number=300,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="SemiSeg",
        manufacturer_model_name="SemiSeg",
        software_versions=__version__,
        device_serial_number="0",
        series_description=_SERIES,
    )
    unfinished = path.with_name(f".unfinished-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(unfinished)
    replace(unfinished, path, attempts=7)


def _on_pixels(mask: np.ndarray, ijk_to_ras: np.ndarray, source: Any) -> np.ndarray:
    """The mask on the pixels of one DICOM slice, shape (rows, columns)."""
    along_row, along_column = np.reshape(np.asarray(source.ImageOrientationPatient, float), (2, 3))
    row_step, column_step = (float(value) for value in source.PixelSpacing)
    rows, columns = np.mgrid[: source.Rows, : source.Columns].reshape(2, -1).astype(float)
    points = (
        np.asarray(source.ImagePositionPatient, float)
        + columns[:, None] * column_step * along_row
        + rows[:, None] * row_step * along_column
    )
    to_index = np.linalg.inv(volumes.RAS_LPS @ ijk_to_ras)
    exact = points @ to_index[:3, :3].T + to_index[:3, 3]
    index = np.rint(exact).astype(int)
    k, j, i = index.T[::-1]
    inside = (index >= 0).all(axis=1) & (index < mask.shape[::-1]).all(axis=1)
    if np.abs(exact - index).max() > _OFF_GRID or not inside.all():
        raise ExportError("The scan in the scene is not on the pixels of its DICOM files; was it resampled or cropped?")
    return mask[k, j, i].reshape(source.Rows, source.Columns)


def _description(number: int, label: Label, maker: str) -> Any:
    import highdicom

    category, kind = (highdicom.sr.CodedConcept(code[1], code[0], code[2]) for code in segments.codes(label))
    algorithm = None
    if maker != "MANUAL":
        family = highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")
        algorithm = highdicom.AlgorithmIdentificationSequence("SemiSeg", family, __version__)
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=maker,
        algorithm_identification=algorithm,
        display_color=highdicom.color.CIELabColor.from_rgb(*label.color),
    )
    if (side := segments.side(label)) is not None:  # highdicom has no argument for it
        modifier = highdicom.sr.CodedConcept(side[1], side[0], side[2])
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return description


def _maker(case: Case, source: str) -> str:
    if segmentation_of(case, source) is case.prediction:
        return "AUTOMATIC"
    return "SEMIAUTOMATIC" if case.began_as_prediction else "MANUAL"


def _has_plugin() -> bool:
    return importlib.util.find_spec("DICOMSegmentationPlugin") is not None


def _export_by_plugin(table: CaseTable, case: Case, source: str, target: Path) -> None:
    """As Slicer's script repository does it, into a folder of which earlier files are removed then."""
    import DICOMSegmentationPlugin

    earlier = {file: file.stat().st_mtime_ns for file in target.glob("*.dcm")}
    node = _to_export(table, case, source)
    try:
        exporter = DICOMSegmentationPlugin.DICOMSegmentationPluginClass()
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(table.scene)
        exportables = exporter.examineForExport(hierarchy.GetItemByDataNode(node))
        if not exportables:
            raise ExportError(f"Slicer's DICOM export cannot write the mask of '{case.name}'.")
        target.mkdir(parents=True, exist_ok=True)
        for exportable in exportables:
            exportable.directory = str(target)  # for good: Slicer's DICOM database remembers where the file is
        message = exporter.export(exportables)
        if message:
            raise ExportError(f"'{case.name}': {message}")
    finally:
        table.scene.RemoveNode(node)
    for file, changed in earlier.items():
        if file.stat().st_mtime_ns == changed:  # not written anew under the same name
            file.unlink()


def _to_export(table: CaseTable, case: Case, source: str):
    """A segmentation with the task's labels alone: the plugin writes every segment there is, *not sure*, too, asks
    about each that is empty, and calls all of them drawn by hand unless they say otherwise."""
    mask = segments.voxels_on_grid(segmentation_of(case, source), case.volume, table.labels)
    present = [label for label in table.labels if (mask == label.value).any()]
    if not present:
        raise ExportError(f"Nothing is drawn in '{case.name}' for the task's labels.")
    node = new_segmentation(table.scene, _SERIES, case.volume)
    follow(node, None)  # where the scanner put it
    segments.set_voxels(node, mask, volumes.ijk_to_ras(case.volume), present)
    maker = _maker(case, source)
    for label in present:
        segment = node.GetSegmentation().GetSegment(segments.segment_id(label))
        segment.SetTag("DICOM.SegmentAlgorithmType", maker)
        if maker != "MANUAL":
            segment.SetTag("DICOM.SegmentAlgorithmName", "SemiSeg")
    return node
