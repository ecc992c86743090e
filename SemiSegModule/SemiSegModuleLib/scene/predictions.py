"""Predicted masks and maps from files into the scene, below the transform of their scan.

>>> load_predictions(table, folder)                                                    # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer

from SemiSegLib.config import Label
from SemiSegLib.data.formats import map_stem
from SemiSegLib.errors import SemiSegError

from . import segments, volumes
from .case import PREDICTION_MARK, Case, CaseError
from .case_table import CaseTable
from .identity import check_identity
from .mask_files import read_labels, relabelled, scene_labels
from .nodes import follow, new_segmentation, put_beside
from .training_files import Progress
from .volumes import Place, VoxelBox

MAP_FORMATS = (".nrrd", ".nii.gz", ".mha")
MAP_TITLES = {"sdm": "signed distance", "probability": "probability", "uncertainty": "uncertainty"}
MASK_FORMATS = (".seg.nrrd", ".nii.gz", ".nrrd", ".nii", ".mha")


def load_prediction(
    table: CaseTable,
    case: Case,
    mask: Path,
    sdms: dict[int, Path] | None = None,
    probabilities: dict[int, Path] | None = None,
    labels: Sequence[Label] | None = None,
    model: str = "",
    place: Place | None = None,
):
    """Show a predicted mask, and maps by label value, as the prediction of a case; an earlier prediction goes.

    :param labels: what the values in the mask mean; the file's own, else labels.json beside it, else the task's
    :param model: that predicted it, see `Case.predicted_by`
    :param place: where the scan was when it was written for the prediction; None: where it is now
    :return: the prediction's segmentation node
    :raises SemiSegError: a file cannot be read; the earlier prediction is then kept
    """
    image = volumes.read_image(mask)
    meaning = scene_labels(mask, image, labels or read_labels(mask) or table.labels, table.labels)
    images = {kind: _read_maps(paths, meaning) for kind, paths in (("sdm", sdms), ("probability", probabilities))}
    into = _into_frame(case, place)
    names = {label.value: label.name for label in meaning.values()}
    with table.paused():
        node = case.prediction or _new_prediction(table, case)
        follow(node, case.volume.GetParentTransformNode())
        array, to_ras = relabelled(sitk.GetArrayFromImage(image), meaning), into @ volumes.image_to_ras(image)
        segments.set_voxels(node, array, to_ras, list(meaning.values()))
        box = volumes.covered_box(case.volume, to_ras, image.GetSize())
        case.predicted_parts = [box] if box is not None else []
        node.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
        for kind in images:
            show_maps(table, case, kind, images[kind], names, into)
        show_maps(table, case, "uncertainty", {}, {}, into)  # that of the earlier prediction
        case.quality = None
        case.predicted_at_once, case.predicted_by = True, model
        case.remember_prediction()
        measure(case, table.labels)
    return node


def load_part(
    table: CaseTable,
    case: Case,
    mask: Path,
    probabilities: dict[int, Path] | None = None,
    labels: Sequence[Label] | None = None,
    place: Place | None = None,
):
    """Take over the predicted mask of a part of a scan; what an earlier prediction says of the rest stays.

    Distance maps and what is expected of the mask go: they are of masks as a whole.

    :param labels: what the values in the mask mean; the file's own, else labels.json beside it, else the task's
    :param place: where the scan was when it was written for the prediction; None: where it is now
    :return: the prediction's segmentation node
    :raises SemiSegError: a file cannot be read, or the part does not fit to the scan or the earlier prediction; all
        stays as it is then
    """
    image = volumes.read_image(mask)
    meaning = scene_labels(mask, image, labels or read_labels(mask) or table.labels, table.labels)
    maps = _read_maps(probabilities, meaning)
    into = _into_frame(case, place)
    box = volumes.covered_box(case.volume, into @ volumes.image_to_ras(image), image.GetSize())
    if box is None:
        raise CaseError(f"{mask} is not on the voxels of '{case.name}' any more: predict the part again.")
    present = list({label.value: label for label in [*table.labels, *meaning.values()]}.values())
    before, edited = case.prediction, case.prediction_edited
    parts = case.predicted_parts if before is not None else []
    if before is not None and segments.foreign_segments(before, present):
        raise CaseError(f"The prediction of '{case.name}' has labels of another model: predict the whole scan first.")
    whole = segments.voxels_on_grid(before, case.volume, present) if before is not None else _empty(case, np.uint16)
    whole[box.slices] = relabelled(sitk.GetArrayFromImage(image), meaning)
    with table.paused():
        node = before or _new_prediction(table, case)
        follow(node, case.volume.GetParentTransformNode())
        segments.set_voxels(node, whole, volumes.ijk_to_ras(case.volume), present)
        node.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
        _join_probabilities(table, case, maps, box, present)
        for kind in ("sdm", "uncertainty"):
            show_maps(table, case, kind, {}, {}, into)
        case.quality = None
        case.predicted_at_once = False
        if before is None or parts:  # else all of the scan was predicted already
            known = any(part.contains(box) for part in parts)
            case.predicted_parts = parts if known else [*(part for part in parts if not box.contains(part)), box]
        case.remember_prediction(edited)
        measure(case, table.labels)
    return node


def _empty(case: Case, kind: type) -> np.ndarray:
    return np.zeros(segments.grid_shape(case.volume), kind)


def _join_probabilities(
    table: CaseTable, case: Case, images: dict[int, sitk.Image], box: VoxelBox, labels: Sequence[Label]
) -> None:
    """Put the maps of a part into those of the scan, which are 0 where nothing was predicted."""
    joined, parts = {}, case.predicted_parts
    for value, image in images.items():
        whole, node = _empty(case, np.float32), case.probabilities.get(value)
        if node is not None:
            former = slicer.util.arrayFromVolume(node)
            place = next((part.slices for part in parts if whole[part.slices].shape == former.shape), None)
            place = np.s_[:, :, :] if former.shape == whole.shape else place
            if place is not None:
                whole[place] = former
        whole[box.slices] = sitk.GetArrayFromImage(image)
        joined[value] = volumes.world_image(case.volume, whole)
    names = {label.value: label.name for label in labels}
    show_maps(table, case, "probability", joined, names, np.linalg.inv(segments.world_matrix(case.volume)))


def load_predictions(table: CaseTable, folder: Path, progress: Progress | None = None) -> list[Case]:
    """Load every prediction in a folder that belongs to a case; returns these cases.

    The files are named as `python -m SemiSegLib.predict` does (see `find_prediction`).

    :raises CaseError: the folder does not say, or says otherwise, that they are of this study's cases
    """
    found = [(case, files) for case in table if (files := find_prediction(folder, case.file_name))]
    for number, (case, files) in enumerate(found):
        if progress:
            progress(number, len(found), case.name)
        place = check_identity(folder, table.identifier, case)
        load_prediction(table, case, files.mask, files.sdms, files.probabilities, place=place)
    return [case for case, _ in found]


@dataclasses.dataclass(frozen=True)
class PredictionFiles:
    """The files that belong to the prediction of one case; maps by label value."""

    mask: Path
    sdms: dict[int, Path]
    probabilities: dict[int, Path]


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


def _find_maps(folder: Path, file_name: str, labels: Sequence[Label]) -> dict[int, Path]:
    found = {}
    for label in labels:
        stem = map_stem(file_name, label.name)
        path = next((path for suffix in MAP_FORMATS if (path := folder / (stem + suffix)).is_file()), None)
        if path is not None:
            found[label.value] = path
    return found


def _read_maps(paths: dict[int, Path] | None, meaning: dict[int, Label]) -> dict[int, sitk.Image]:
    """Images by the value that their label has in the scene."""
    return {meaning[value].value: volumes.read_image(path) for value, path in (paths or {}).items()}


def _new_prediction(table: CaseTable, case: Case):
    node = new_segmentation(table.scene, f"{case.name} prediction", case.volume)
    node.SetAttribute(PREDICTION_MARK, "true")
    case.prediction = node
    return node


def show_maps(
    table: CaseTable,
    case: Case,
    kind: str,
    images: dict[int, sitk.Image],
    names: dict[int, str],
    into: np.ndarray,
) -> None:
    """Volumes for the maps of one kind, those of an earlier prediction used again or removed.

    :param images: in the world as it was when they were made, by label value
    :param names: of what each is a map, by label value
    :param into: 4 x 4 from that world to the frame below the volume's transform
    """
    former, nodes = case.maps(kind), {}
    for value, image in images.items():
        node = former.pop(value, None) or table.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        node.SetName(f"{case.name} {MAP_TITLES[kind]} {names[value]}".strip())
        node.SetAttribute("SemiSeg.LabelValue", str(value))
        volumes.fill_volume(node, sitk.GetArrayFromImage(image), into @ volumes.image_to_ras(image))
        node.CreateDefaultDisplayNodes()
        follow(node, case.volume.GetParentTransformNode())
        put_beside(node, case.volume)
        nodes[value] = node
    for node in former.values():
        table.scene.RemoveNode(node)
    case.set_maps(kind, nodes)


def _into_frame(case: Case, place: Place | None) -> np.ndarray:
    """4 x 4 from the world as it was when the scan was written to the frame below the scan's transform."""
    return (place or Place.of(case.volume)).into_frame_of(case.volume)


def measure(case: Case, labels: Sequence[Label]) -> None:
    """Find out anew how sure the network is inside its mask, and how well that agrees with a finished annotation.

    Both only where the network predicted.
    """
    if case.prediction is None:
        case.confidence = case.dsc = None
        return
    predicted, inside = segments.voxels_on_grid(case.prediction, case.volume, labels), case.predicted_voxels()
    case.dsc = _agreement(case, predicted, inside, labels) if case.done and not case.partial else None
    found = [
        _in_mask(slicer.util.arrayFromVolume(node), predicted == value, case.predicted_parts)
        for value, node in case.probabilities.items()
    ]
    values = np.concatenate(found) if found else np.empty(0)
    case.confidence = float(values.mean()) if values.size else None


def _in_mask(probabilities: np.ndarray, mask: np.ndarray, parts: Sequence[VoxelBox]) -> np.ndarray:
    """The probabilities inside a mask (k, j, i): of a map of the whole scan, or of the one part that was predicted."""
    if probabilities.shape == mask.shape:
        return probabilities[mask]
    one = mask[parts[0].slices] if len(parts) == 1 else mask
    return probabilities[one] if probabilities.shape == one.shape else np.empty(0)


def _agreement(case: Case, predicted: np.ndarray, inside: np.ndarray, labels: Sequence[Label]) -> float | None:
    try:
        human = segments.voxels_on_grid(case.annotation, case.volume, labels)
    except SemiSegError:  # two segments for one structure: whoever trains or exports is told
        return None
    inside = inside & ~segments.not_sure_on_grid(case.annotation, case.volume)
    human, predicted = human[inside], predicted[inside]
    scores = [_dice(human == label.value, predicted == label.value) for label in labels]
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else None


def _dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Dice coefficient; None when both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * np.count_nonzero(first & second) / total if total else None
