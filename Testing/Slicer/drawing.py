"""Drawing for tests: boxes in annotations, predictions as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

BOX = np.s_[2:5, 3:8, 4:9]  # k, j, i: no symmetry


def draw(table, case, value=1, where=BOX) -> np.ndarray:
    """Annotate a box of the case's volume; returns the whole mask, (k, j, i)."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    node = make_annotation(table, case)
    mask = segments.voxels_on_grid(node, case.volume, table.labels)
    mask[where] = value
    segments.set_voxels(node, mask, volumes.ijk_to_ras(case.volume), table.labels)
    return mask


def put_under_transform(node, shift=(15.0, -8.0, 4.0)) -> None:
    """Below a transform that turns it by a right angle about z and moves it, mm."""
    import slicer

    matrix = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    matrix[:3, 3] = shift
    transform = node.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def corner_points(volume_node, indices_kji: np.ndarray) -> np.ndarray:
    """World points (LPS, mm) of voxels of a volume node, by the node's own matrix and Slicer's own transforms."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    points = []
    for k, j, i in indices_kji:
        ras = matrix.MultiplyPoint((i, j, k, 1))[:3]
        world = [0.0, 0.0, 0.0]
        volume_node.TransformPointToWorld(ras, world)
        points.append([-world[0], -world[1], world[2]])
    return np.array(points)


def world_points(path: Path, value: int) -> np.ndarray:
    """World points (LPS, mm) of the voxels of a file that have a value, read without Slicer."""
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        import nibabel

        image = nibabel.load(path)
        indices = np.argwhere(np.asarray(image.dataobj) == value)
        ras = nibabel.affines.apply_affine(image.affine, indices)
        return ras * [-1, -1, 1]
    image = sitk.ReadImage(str(path))
    found = np.argwhere(sitk.GetArrayFromImage(image) == value)
    return np.array([image.TransformIndexToPhysicalPoint([int(i), int(j), int(k)]) for k, j, i in found])


def same_points(first: np.ndarray, second: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Both are the same points, in any order; at least one."""

    def ordered(points):
        return points[np.lexsort(np.round(points, 3).T)]

    if not len(first) or first.shape != second.shape:
        return False
    return bool(np.abs(ordered(first) - ordered(second)).max() < tolerance)


def write_prediction(folder: Path, image_file: Path, mask: np.ndarray, labels, suffix=".seg.nrrd", maps=()) -> Path:
    """Files as `SemiSegLib.predict` writes them: mask on the grid of `image_file`, labels.json, maps of `kinds`."""
    import json
    import shutil

    from SemiSegLib.data.writing import write_mask

    template = sitk.ReadImage(str(image_file))
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(template)
    stem = image_file.name.split(".")[0]
    folder.mkdir(exist_ok=True)
    shutil.copy(image_file.parent.parent / "identity.json", folder)
    write_mask(image, folder / (stem + suffix), labels)
    entries = [{"value": label.value, "name": label.name, "color": list(label.color)} for label in labels]
    (folder / "labels.json").write_text(json.dumps({"labels": entries}))
    for kind in maps:
        for label in labels:
            binary = sitk.GetImageFromArray((mask == label.value).astype(np.uint8))
            binary.CopyInformation(template)
            values = sitk.SignedMaurerDistanceMap(binary, squaredDistance=False, useImageSpacing=True)
            if kind == "probabilities":
                values = sitk.Cast(binary, sitk.sitkFloat32) * 0.75
            (folder / kind).mkdir(exist_ok=True)
            sitk.WriteImage(values, str(folder / kind / f"{stem}_{label.name.replace(' ', '_')}.nrrd"))
    return folder / (stem + suffix)
