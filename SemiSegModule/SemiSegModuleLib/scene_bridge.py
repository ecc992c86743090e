"""Between the scene and files: annotations made, cases exported for training, predictions loaded and accepted.

>>> make_annotation(table, case)                                                       # doctest: +SKIP
>>> export = export_cases(table, run_folder / "data")                                  # doctest: +SKIP
>>> load_predictions(table, run_folder / "predictions")                                # doctest: +SKIP
>>> accept_prediction(table, case)                                                     # doctest: +SKIP

Files are always in world space; predictions come back below the transform of their volume. A human annotation is
changed by nothing here but `accept_prediction(..., overwrite=True)`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
import slicer

from SemiSegLib.config import DataSettings, Label
from SemiSegLib.runs import write_json

from . import segments, volumes
from .case_table import ORIENTATIONS, Case, CaseError, CaseTable, Quality, State
from .region import fit_region, voxel_box

if TYPE_CHECKING:
    from SemiSegLib.data.cases import Case as DataCase
    from SemiSegLib.data.images import Mask

IGNORE_VALUE = DataSettings().ignore_value
MANIFEST = "exported_from_scene.json"
FILE_FORMATS = (".nrrd", ".nii.gz")
Progress = Callable[[int, int, str], None]  # cases done, cases in all, name of the one at hand


@dataclasses.dataclass
class Export:
    """What `export_cases` wrote: file stems by what they are for, and remarks for the user."""

    folder: Path
    labelled: list[str] = dataclasses.field(default_factory=list)
    unlabelled: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)

    @property
    def images(self) -> Path:
        """Folder of the scans."""
        return self.folder / "images"


# ---- annotate ------------------------------------------------------------------------------------------------


def make_annotation(table: CaseTable, case: Case):
    """The case's human segmentation node, with a segment for every label of the task; made when there is none.

    It lies below the volume's transform, on the volume's voxels, beside it in the subject hierarchy.
    """
    with table.paused():
        if case.annotation is None:
            case.annotation = _new_segmentation(table.scene, f"{case.name} annotation", case.volume)
        segments.add_segments(case.annotation, table.labels)
    return case.annotation


def add_region(table: CaseTable, case: Case):
    """Limit training and prediction of a case to a box: around what is drawn, else around the whole scan.

    A region that is there already is fitted again. It lies beside the volume in the subject hierarchy.

    :return: the vtkMRMLMarkupsROINode
    """
    with table.paused():
        case.region = fit_region(case.region, case.volume, case.annotation, table.labels)
        _put_beside(case.region, case.volume)
    return case.region


def accept_prediction(table: CaseTable, case: Case, overwrite: bool = False, done: bool = True):
    """Copy the prediction into the human annotation, to be edited there or to count as it is.

    What was drawn outside the part of the scan that was predicted (`Case.predicted_box`) stays.

    :param done: the case counts as corrected at once; False when the clinician is yet to edit the copy
    :return: the annotation node
    :raises CaseError: no prediction, or an annotation with something drawn in it and not `overwrite`
    """
    if case.prediction is None:
        raise CaseError(f"'{case.name}' has no prediction to accept.")
    if case.has_drawing and not overwrite:
        raise CaseError(f"'{case.name}' has an annotation already; it would be replaced by the prediction.")
    with table.paused():
        outside = _drawn_outside(case, table.labels)
        annotation = make_annotation(table, case)
        if outside is None:
            segments.copy_segments(case.prediction, annotation)
            _follow(annotation, case.prediction.GetParentTransformNode())
        else:
            predicted = segments.voxels_on_grid(case.prediction, case.volume, table.labels)
            joined = np.where(outside > 0, outside, predicted)
            segments.set_voxels(annotation, joined, volumes.ijk_to_ras(case.volume), table.labels)
            _follow(annotation, case.volume.GetParentTransformNode())
        segments.add_segments(annotation, table.labels)
        annotation.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
        case.partial = ""
        case.mark_done(done and case.has_drawing, corrected=True)  # an empty prediction is no finished annotation
    return annotation


def _drawn_outside(case: Case, labels: Sequence[Label]) -> np.ndarray | None:
    """The human mask where nothing was predicted, (k, j, i); None when nothing is drawn there."""
    if case.predicted_box is None or not case.has_drawing:
        return None
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    mask[case.predicted_box.slices] = 0
    return mask if mask.any() else None


# ---- scene to files ------------------------------------------------------------------------------------------


def export_cases(
    table: CaseTable,
    folder: Path,
    cases: Iterable[Case] | None = None,
    file_format: str = ".nrrd",
    progress: Progress | None = None,
) -> Export:
    """Write `folder/images/<stem>` for every case and `folder/labels/<stem>` for those with a finished annotation.

    Values in the masks are those of the task's labels; 255 marks what nobody annotated (`Case.partial`). The volumes
    are written where their transforms put them, cropped to the region of interest where there is one. Called again
    for the same folder, it writes what has changed and removes files of cases that are no longer wanted.

    :param cases: all that are not excluded, when None
    :raises SemiSegError: nothing to export, foreign files in the folder, a transform that cannot be exported, a
        region of interest that misses its scan
    """
    chosen = [case for case in (table.cases if cases is None else cases) if case.state is not State.EXCLUDED]
    if not chosen:
        raise CaseError("There is no case to export: add scans to the table, or include excluded ones again.")
    if file_format not in FILE_FORMATS:
        raise CaseError(f"Scans are exported as {' or '.join(FILE_FORMATS)}, not '{file_format}'.")
    labels = table.labels
    export = Export(Path(folder))
    store = _ExportFolder(Path(folder))
    for number, case in enumerate(chosen):
        if progress:
            progress(number, len(chosen), case.name)
        with table.paused():
            _export_image(case, store, file_format)
        if case.state.trains_with_mask:
            _export_mask(case, labels, store, file_format, export.remarks)
            export.labelled.append(case.file_name)
        else:
            export.unlabelled.append(case.file_name)
    store.finish()
    names = {"background": 0, **{label.name: label.value for label in labels}}
    write_json(export.folder / "dataset.json", {"labels": names})
    if progress:
        progress(len(chosen), len(chosen), "")
    return export


def annotation_mask(case: Case, labels: Sequence[Label]) -> np.ndarray:
    """The human mask on the volume's voxels, (k, j, i), with 255 in slices that a partial annotation leaves out.

    The region of interest is not considered: what lies outside it is annotated as well.

    :raises CaseError: nothing of the task's labels is drawn
    """
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    if not mask.any():
        names = ", ".join(segments.foreign_segments(case.annotation, labels)) or "none"
        raise CaseError(
            f"The annotation of '{case.name}' has nothing drawn for {_names(labels)} (other segments: {names})."
        )
    return _ignore_slices(mask, volumes.slice_axis(case.volume, case.partial)) if case.partial else mask


def _ignore_slices(mask: np.ndarray, axis: int) -> np.ndarray:
    array_axis = 2 - axis  # arrays are (k, j, i)
    others = tuple(number for number in range(3) if number != array_axis)
    marked = mask.copy()
    empty = ~mask.any(axis=others)
    np.moveaxis(marked, array_axis, 0)[empty] = IGNORE_VALUE
    return marked


def _export_image(case: Case, store: _ExportFolder, file_format: str) -> None:
    image = volumes.world_image(case.volume, box=case.box())
    store.write(f"images/{case.file_name}{file_format}", image, compress=file_format.endswith(".gz"))
    case.exported_world_matrix = segments.world_matrix(case.volume).tolist()


def _export_mask(case: Case, labels: Sequence[Label], store: _ExportFolder, suffix: str, remarks: list[str]) -> None:
    mask, box = annotation_mask(case, labels), case.box()
    unseen = _count_labels(mask) - _count_labels(mask[box.slices])
    if unseen == _count_labels(mask):
        raise CaseError(
            f"Nothing that is drawn in the annotation of '{case.name}' lies in its region of interest: "
            "move the region, fit it again, or remove it."
        )
    if unseen:
        remarks.append(f"{case.name}: {unseen} annotated voxels outside the region of interest are not learnt from.")
    store.write(f"labels/{case.file_name}{suffix}", volumes.world_image(case.volume, mask, box), compress=True)
    foreign = segments.foreign_segments(case.annotation, labels)
    if foreign:
        remarks.append(f"{case.name}: left out segments that are not labels of the task: {', '.join(foreign)}.")


def _count_labels(mask: np.ndarray) -> int:
    return int(np.count_nonzero((mask != 0) & (mask != IGNORE_VALUE)))


class _ExportFolder:
    """The files of an export, with a fingerprint of each, so that only what has changed is written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = self._read_manifest()
        self._now: dict[str, str] = {}
        foreign = sorted(self._files() - set(self._before))
        if foreign:
            raise CaseError(
                f"{folder} holds files that were not exported from this module ({', '.join(foreign[:3])}); "
                "choose a new or empty folder."
            )

    def write(self, name: str, image: sitk.Image, compress: bool) -> None:
        """Write an image unless the file holds exactly this already."""
        fingerprint = _fingerprint(image)
        if self._before.get(name) != fingerprint or not (self.folder / name).is_file():
            volumes.write_image(image, self.folder / name, compress)
        self._now[name] = fingerprint
        write_json(self.folder / MANIFEST, {**self._before, **self._now})  # so that a crash leaves no foreign files

    def finish(self) -> None:
        """Remove files of an earlier export that nobody wants any more: they would take part in the training."""
        for name in set(self._before) - set(self._now):
            (self.folder / name).unlink(missing_ok=True)
        write_json(self.folder / MANIFEST, self._now)

    def _read_manifest(self) -> dict[str, str]:
        path = self.folder / MANIFEST
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, json.JSONDecodeError) as error:
            raise CaseError(f"{path} is damaged ({error}); choose a new folder.") from error

    def _files(self) -> set[str]:
        found = [path for part in ("images", "labels") for path in (self.folder / part).glob("*")]
        return {f"{path.parent.name}/{path.name}" for path in found if not path.name.startswith(".")}


def _fingerprint(image: sitk.Image) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((image.GetPixelIDTypeAsString(), image.GetSize(), image.GetSpacing())).encode())
    digest.update(repr((image.GetOrigin(), image.GetDirection())).encode())
    digest.update(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)
    return digest.hexdigest()


# ---- files to scene ------------------------------------------------------------------------------------------


def add_files(table: CaseTable, paths: Iterable[Path], progress: Progress | None = None) -> list[Case]:
    """Load scans (and the masks that `SemiSegLib.data.cases` finds beside them) and add them as cases.

    Each path is a scan, or a folder in any layout that training understands. Masks become finished annotations;
    when the table has no labels yet, those of the data set are taken over.

    :raises SemiSegError: nothing found, or a file cannot be read; cases loaded until then stay
    """
    from SemiSegLib.data.cases import find_cases

    lists = [find_cases(Path(path)) for path in paths]
    if not table.labels:
        table.labels = next((found.labels for found in lists if found.labels), [])
    cases = [(entry, found.labels) for found in lists for entry in found]
    added = []
    for number, (entry, labels) in enumerate(cases):
        if progress:
            progress(number, len(cases), entry.name)
        with table.paused():
            added.append(_add_case(table, entry, labels))
    return added


def _add_case(table: CaseTable, entry: DataCase, labels: Sequence[Label] | None) -> Case:
    volume = _load_volume(table.scene, entry)
    case = table.add_volume(volume)
    if entry.label is not None:
        _load_annotation(table, case, entry, labels)
    return case


def _load_volume(scene, entry: DataCase):
    """A scan as Slicer loads it; folders of DICOM and HDF5 through SemiSegLib."""
    if entry.image.is_file() and entry.image.suffix != ".h5":
        node = slicer.modules.volumes.logic().AddArchetypeVolume(str(entry.image), entry.name)
        if node is None:
            raise CaseError(f"{entry.image} cannot be loaded as a volume.")
        return node
    from SemiSegLib.data.images import read_image

    image = read_image(entry.image)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", entry.name)
    volumes.fill_volume(node, sitk.GetArrayFromImage(image), volumes.image_to_ras(image))
    node.CreateDefaultDisplayNodes()
    return node


def _load_annotation(table: CaseTable, case: Case, entry: DataCase, labels: Sequence[Label] | None) -> None:
    """The mask of a data set as a finished annotation; 255 in whole slices becomes `Case.partial`."""
    from SemiSegLib.data.images import bring_to, relabel

    stored = _read_mask(entry.label)
    stored = relabel(stored, entry.label_values) if entry.label_values else stored
    scan = volumes.world_image(case.volume)
    image = bring_to(stored, scan, entry.image, IGNORE_VALUE, entry.label_by_orientation).image
    array = sitk.GetArrayFromImage(image)
    drawn = np.where(array == IGNORE_VALUE, 0, array)
    meaning = _scene_labels(entry.label, volumes.like(image, drawn), labels or table.labels, table.labels)
    annotation = make_annotation(table, case)
    segments.set_voxels(
        annotation, _relabelled(drawn, meaning), volumes.ijk_to_ras(case.volume), list(meaning.values())
    )
    case.partial = _partial_orientation(case, array, drawn)
    case.mark_done() if case.has_drawing else None


def _partial_orientation(case: Case, array: np.ndarray, drawn: np.ndarray) -> str:
    """The orientation of slices that nobody annotated, '' when all voxels count."""
    if not (array == IGNORE_VALUE).any():
        return ""
    for orientation in ORIENTATIONS:
        if np.array_equal(_ignore_slices(drawn, volumes.slice_axis(case.volume, orientation)), array):
            return orientation
    logging.warning("SemiSeg: %s: voxels of value %d are not whole slices; axial is assumed", case.name, IGNORE_VALUE)
    return "axial"


def _read_mask(path: Path) -> Mask:
    """A mask of any format; NIfTI through SimpleITK where nibabel is not installed (Slicer itself lacks it)."""
    from SemiSegLib.data.images import Mask, read_mask

    if not path.name.lower().endswith((".nii", ".nii.gz")) or _has_nibabel():
        return read_mask(path)
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


def load_prediction(
    table: CaseTable,
    case: Case,
    mask: Path,
    sdms: dict[int, Path] | None = None,
    probabilities: dict[int, Path] | None = None,
    labels: Sequence[Label] | None = None,
):
    """Show a predicted mask, and maps by label value, as the prediction of a case; an earlier prediction goes.

    :param labels: what the values in the mask mean; the file's own, else labels.json beside it, else the task's
    :return: the prediction's segmentation node
    :raises SemiSegError: a file cannot be read; the earlier prediction is then kept
    """
    image = volumes.read_image(mask)
    meaning = _scene_labels(mask, image, labels or read_labels(mask) or table.labels, table.labels)
    images = {kind: _read_maps(paths, meaning) for kind, paths in (("sdm", sdms), ("probability", probabilities))}
    into = _into_volume_frame(case)
    with table.paused():
        node = case.prediction or _new_prediction(table, case)
        _follow(node, case.volume.GetParentTransformNode())
        array, to_ras = _relabelled(sitk.GetArrayFromImage(image), meaning), into @ volumes.image_to_ras(image)
        segments.set_voxels(node, array, to_ras, list(meaning.values()))
        case.predicted_box = volumes.covered_box(case.volume, to_ras, image.GetSize())
        node.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
        for kind in images:
            _show_maps(table, case, kind, images[kind], list(meaning.values()), into)
        case.quality = _quality(case, table.labels)
    return node


def load_predictions(table: CaseTable, folder: Path, progress: Progress | None = None) -> list[Case]:
    """Load every prediction in a folder that belongs to a case; returns these cases.

    The files are named as `python -m SemiSegLib.predict` does (see `find_prediction`).
    """
    found = [(case, files) for case in table if (files := find_prediction(folder, case.file_name))]
    for number, (case, files) in enumerate(found):
        if progress:
            progress(number, len(found), case.name)
        load_prediction(table, case, files.mask, files.sdms, files.probabilities)
    return [case for case, _ in found]


@dataclasses.dataclass(frozen=True)
class PredictionFiles:
    """The files that belong to the prediction of one case; maps by label value."""

    mask: Path
    sdms: dict[int, Path]
    probabilities: dict[int, Path]


MAP_FORMATS = (".nrrd", ".nii.gz", ".mha")
MAP_TITLES = {"sdm": "signed distance", "probability": "probability"}
MASK_FORMATS = (".seg.nrrd", ".nii.gz", ".nrrd", ".nii", ".mha")


def find_prediction(folder: Path, file_name: str) -> PredictionFiles | None:
    """The files of one case: `STEM.EXT`, `sdm/STEM_LABEL.EXT`, `probabilities/STEM_LABEL.EXT`; None without a mask."""
    folder = Path(folder)
    paths = [folder / (file_name + suffix) for suffix in MASK_FORMATS]
    mask = next((path for path in paths if path.is_file()), None)
    if mask is None:
        return None
    labels = read_labels(mask) or []
    sdms = _find_maps(folder / "sdm", file_name, labels)
    return PredictionFiles(mask, sdms, _find_maps(folder / "probabilities", file_name, labels))


def read_labels(mask: Path) -> list[Label] | None:
    """Labels of a mask file: in its own header (.seg.nrrd), else in labels.json beside it, else None."""
    from SemiSegLib.data.segnrrd import read_segments

    if mask.name.lower().endswith(".seg.nrrd"):
        return [segment.label for segment in read_segments(mask)] or None
    beside = mask.with_name("labels.json")
    if not beside.is_file():
        return None
    entries = json.loads(beside.read_text(encoding="utf-8"))
    entries = entries["labels"] if isinstance(entries, dict) and "labels" in entries else entries
    return [Label(entry["value"], entry["name"], tuple(entry["color"])) for entry in entries]


def _find_maps(folder: Path, file_name: str, labels: Sequence[Label]) -> dict[int, Path]:
    found = {}
    for label in labels:
        stem = f"{file_name}_{label.name.replace(' ', '_')}"
        path = next((path for suffix in MAP_FORMATS if (path := folder / (stem + suffix)).is_file()), None)
        if path is not None:
            found[label.value] = path
    return found


def _read_maps(paths: dict[int, Path] | None, meaning: dict[int, Label]) -> dict[int, sitk.Image]:
    """Images by the value that their label has in the scene."""
    return {meaning[value].value: volumes.read_image(path) for value, path in (paths or {}).items()}


def _scene_labels(path: Path, image: sitk.Image, labels: Sequence[Label], task: Sequence[Label]) -> dict[int, Label]:
    """What each value of a mask file means in the scene: the task's label of that name, else the file's own.

    :raises CaseError: the mask has a value that no label explains
    """
    present = {int(value) for value in np.unique(sitk.GetArrayViewFromImage(image))} - {0}
    unknown = sorted(present - {label.value for label in labels})
    if unknown:
        raise CaseError(f"{path} holds the values {unknown}, which are none of its labels ({_names(labels)}).")
    of_task = {label.name.casefold(): label for label in task}
    taken = {label.value for label in task}
    meaning = {}
    for label in labels:
        known = of_task.get(label.name.casefold())
        if known is None and label.value in taken:
            known = dataclasses.replace(label, value=max(taken) + 1)
        meaning[label.value] = known or label
        taken.add(meaning[label.value].value)
    return meaning


def _relabelled(array: np.ndarray, meaning: dict[int, Label]) -> np.ndarray:
    result = np.zeros(array.shape, np.min_scalar_type(max((label.value for label in meaning.values()), default=0)))
    for value, label in meaning.items():
        result[array == value] = label.value
    return result


def _new_prediction(table: CaseTable, case: Case):
    node = _new_segmentation(table.scene, f"{case.name} prediction", case.volume)
    node.SetAttribute("SemiSeg.Prediction", "true")
    case.prediction = node
    return node


def _show_maps(
    table: CaseTable,
    case: Case,
    kind: str,
    images: dict[int, sitk.Image],
    labels: Sequence[Label],
    into: np.ndarray,
) -> None:
    """Volumes for the maps of one kind, those of an earlier prediction used again or removed."""
    former = case.sdms if kind == "sdm" else case.probabilities
    nodes = {}
    for value, image in images.items():
        node = former.pop(value, None) or table.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        name = next(label.name for label in labels if label.value == value)
        node.SetName(f"{case.name} {MAP_TITLES[kind]} {name}")
        node.SetAttribute("SemiSeg.LabelValue", str(value))
        volumes.fill_volume(node, sitk.GetArrayFromImage(image), into @ volumes.image_to_ras(image))
        node.CreateDefaultDisplayNodes()
        _follow(node, case.volume.GetParentTransformNode())
        _put_beside(node, case.volume)
        nodes[value] = node
    for node in former.values():
        table.scene.RemoveNode(node)
    case.set_maps(kind, nodes)


def _into_volume_frame(case: Case) -> np.ndarray:
    """4 x 4 from the world of the exported files to the frame below the volume's transform, as it was then."""
    stored = case.exported_world_matrix
    matrix = np.asarray(stored) if stored else segments.world_matrix(case.volume)
    return np.linalg.inv(matrix)


def _quality(case: Case, labels: Sequence[Label]) -> Quality | None:
    """Agreement with a finished annotation, else how sure the network is inside its mask; where it predicted."""
    box = case.predicted_box or voxel_box(None, case.volume)
    predicted = segments.voxels_on_grid(case.prediction, case.volume, labels)[box.slices]
    if case.done and not case.partial:
        human = segments.voxels_on_grid(case.annotation, case.volume, labels)[box.slices]
        scores = [_dice(human == label.value, predicted == label.value) for label in labels]
        known = [score for score in scores if score is not None]
        return Quality(float(np.mean(known)), "DSC with the annotation") if known else None
    inside = [
        slicer.util.arrayFromVolume(node)[predicted == value]
        for value, node in case.probabilities.items()
        if slicer.util.arrayFromVolume(node).shape == predicted.shape
    ]
    values = np.concatenate(inside) if inside else np.empty(0)
    return Quality(float(values.mean()), "mean probability in the mask") if values.size else None


def _dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Dice coefficient; None when both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * np.count_nonzero(first & second) / total if total else None


# ---- nodes ---------------------------------------------------------------------------------------------------


def _new_segmentation(scene, name: str, volume_node):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    _follow(node, volume_node.GetParentTransformNode())
    _put_beside(node, volume_node)
    return node


def _follow(node, transform_node) -> None:
    node.SetAndObserveTransformNodeID(transform_node.GetID() if transform_node is not None else None)


def _put_beside(node, volume_node) -> None:
    """Same patient, study or folder in the subject hierarchy as the volume."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    volume_item = hierarchy.GetItemByDataNode(volume_node) if hierarchy is not None else 0
    if volume_item:
        hierarchy.CreateItem(hierarchy.GetItemParent(volume_item), node)  # moves the item that is there already


def _names(labels: Sequence[Label]) -> str:
    return ", ".join(f"{label.value} {label.name}" for label in labels) or "none"
