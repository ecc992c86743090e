"""Predicted masks and maps from files into the scene, below the transform of their scan.

>>> load_predictions(table, run_folder / "predictions")                                # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer

from SemiSegLib.config import Label

from . import segments, volumes
from .case import Case
from .case_table import CaseTable
from .identity import check_identity
from .mask_files import read_labels, relabelled, scene_labels
from .nodes import follow, new_segmentation, put_beside
from .region import voxel_box
from .training_files import Progress
from .volumes import VoxelBox

MAP_FORMATS = (".nrrd", ".nii.gz", ".mha")
MAP_TITLES = {"sdm": "signed distance", "probability": "probability"}
MASK_FORMATS = (".seg.nrrd", ".nii.gz", ".nrrd", ".nii", ".mha")


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
    meaning = scene_labels(mask, image, labels or read_labels(mask) or table.labels, table.labels)
    images = {kind: _read_maps(paths, meaning) for kind, paths in (("sdm", sdms), ("probability", probabilities))}
    into = _into_volume_frame(case)
    with table.paused():
        node = case.prediction or _new_prediction(table, case)
        follow(node, case.volume.GetParentTransformNode())
        array, to_ras = relabelled(sitk.GetArrayFromImage(image), meaning), into @ volumes.image_to_ras(image)
        segments.set_voxels(node, array, to_ras, list(meaning.values()))
        case.predicted_box = volumes.covered_box(case.volume, to_ras, image.GetSize())
        node.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
        for kind in images:
            _show_maps(table, case, kind, images[kind], list(meaning.values()), into)
        case.remember_prediction()
        measure(case, table.labels)
    return node


def load_predictions(table: CaseTable, folder: Path, progress: Progress | None = None) -> list[Case]:
    """Load every prediction in a folder that belongs to a case; returns these cases.

    The files are named as `python -m SemiSegLib.predict` does (see `find_prediction`).

    :raises CaseError: the folder does not say, or says otherwise, that they are of this study's cases
    """
    found = [(case, files) for case in table if (files := find_prediction(folder, case.file_name))]
    for number, (case, files) in enumerate(found):
        if progress:
            progress(number, len(found), case.name)
        check_identity(folder, table.identifier, case)
        load_prediction(table, case, files.mask, files.sdms, files.probabilities)
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
        stem = f"{file_name}_{label.name.replace(' ', '_')}"
        path = next((path for suffix in MAP_FORMATS if (path := folder / (stem + suffix)).is_file()), None)
        if path is not None:
            found[label.value] = path
    return found


def _read_maps(paths: dict[int, Path] | None, meaning: dict[int, Label]) -> dict[int, sitk.Image]:
    """Images by the value that their label has in the scene."""
    return {meaning[value].value: volumes.read_image(path) for value, path in (paths or {}).items()}


def _new_prediction(table: CaseTable, case: Case):
    node = new_segmentation(table.scene, f"{case.name} prediction", case.volume)
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
        follow(node, case.volume.GetParentTransformNode())
        put_beside(node, case.volume)
        nodes[value] = node
    for node in former.values():
        table.scene.RemoveNode(node)
    case.set_maps(kind, nodes)


def _into_volume_frame(case: Case) -> np.ndarray:
    """4 x 4 from the world of the exported files to the frame below the volume's transform, as it was then."""
    stored = case.exported_world_matrix
    matrix = np.asarray(stored) if stored else segments.world_matrix(case.volume)
    return np.linalg.inv(matrix)


def measure(case: Case, labels: Sequence[Label]) -> None:
    """Find out anew how sure the network is inside its mask, and how well that agrees with a finished annotation.

    Both only where the network predicted.
    """
    if case.prediction is None:
        case.confidence = case.dsc = None
        return
    box = case.predicted_box or voxel_box(None, case.volume)
    predicted = segments.voxels_on_grid(case.prediction, case.volume, labels)[box.slices]
    case.dsc = _agreement(case, predicted, box, labels) if case.done and not case.partial else None
    inside = [
        slicer.util.arrayFromVolume(node)[predicted == value]
        for value, node in case.probabilities.items()
        if slicer.util.arrayFromVolume(node).shape == predicted.shape
    ]
    values = np.concatenate(inside) if inside else np.empty(0)
    case.confidence = float(values.mean()) if values.size else None


def _agreement(case: Case, predicted: np.ndarray, box: VoxelBox, labels: Sequence[Label]) -> float | None:
    human = segments.voxels_on_grid(case.annotation, case.volume, labels)[box.slices]
    scores = [_dice(human == label.value, predicted == label.value) for label in labels]
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else None


def _dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Dice coefficient; None when both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * np.count_nonzero(first & second) / total if total else None
