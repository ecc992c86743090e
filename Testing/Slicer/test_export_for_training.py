"""Scene to files: geometry in world space, values by label, transforms, partial annotation, repeated exports."""

import numpy as np
import pytest
from drawing import BOX, corner_points, draw, same_points, world_points

GEOMETRIES = ["a_volume", "an_oblique_volume", "a_left_handed_volume"]


def move(scene, node, matrix):
    import slicer

    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "alignment")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


ROTATED = [[0.6, -0.8, 0, 11.0], [0.8, 0.6, 0, -23.0], [0, 0, 1, 5.5], [0, 0, 0, 1]]


@pytest.mark.parametrize("file_format", [".nrrd", ".nii.gz"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_masks_and_scans_are_where_slicer_shows_them(request, table, tmp_path, geometry, file_format):
    import SimpleITK as sitk
    import slicer
    from SemiSegModuleLib.scene.training_files import export_cases

    volume = request.getfixturevalue(geometry)
    case = table.add_volume(volume)
    mask = draw(table, case, value=3)
    case.mark_done()
    export_cases(table, tmp_path, file_format=file_format)
    written = tmp_path / "labels" / (case.file_name + file_format)
    assert same_points(world_points(written, 3), corner_points(volume, np.argwhere(mask == 3)))

    scan = sitk.ReadImage(str(tmp_path / "images" / written.name))
    values = slicer.util.arrayFromVolume(volume)
    for index in ([0, 0, 0], [8, 11, 14], [3, 7, 2]):
        (point,) = corner_points(volume, np.array([index]))
        assert scan[scan.TransformPhysicalPointToIndex(point.tolist())] == values[tuple(index)]


def test_nifti_header_agrees_with_nibabel(table, an_oblique_volume, tmp_path):
    import nibabel
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(an_oblique_volume)
    export_cases(table, tmp_path, file_format=".nii.gz")
    affine = nibabel.load(tmp_path / "images" / f"{case.file_name}.nii.gz").affine
    assert np.allclose(affine, volumes.ijk_to_ras(an_oblique_volume), atol=1e-4)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_scan_under_a_transform_is_exported_in_the_world(request, scene, table, tmp_path, geometry):
    import SimpleITK as sitk
    import slicer
    from SemiSegModuleLib.scene.training_files import export_cases

    volume = request.getfixturevalue(geometry)
    case = table.add_volume(volume)
    move(scene, volume, ROTATED)
    mask = draw(table, case)
    case.mark_done()
    assert case.annotation.GetParentTransformNode() is volume.GetParentTransformNode()
    export_cases(table, tmp_path)
    file = tmp_path / "labels" / f"{case.file_name}.nrrd"
    assert same_points(world_points(file, 1), corner_points(volume, np.argwhere(mask == 1)))
    scan = sitk.ReadImage(str(tmp_path / "images" / file.name))
    (point,) = corner_points(volume, np.array([[1, 2, 3]]))
    assert scan[scan.TransformPhysicalPointToIndex(point.tolist())] == slicer.util.arrayFromVolume(volume)[1, 2, 3]


def test_an_annotation_outside_its_scans_transform_keeps_its_place_in_the_world(scene, table, add_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    volume = add_volume("cube", spacing=(1.0, 1.0, 1.0), origin=(0, 0, 0), shape=(10, 12, 14))
    case = table.add_volume(volume)
    draw(table, case)
    case.annotation.SetAndObserveTransformNodeID(None)
    shift = np.eye(4)
    shift[:3, 3] = [2.0, -1.0, 1.0]  # whole voxels, so that nothing is lost in resampling
    move(scene, volume, shift)
    case.mark_done()
    export_cases(table, tmp_path)
    expected = np.argwhere(np.ones((3, 5, 5)))[:, ::-1] + [4, 3, 2]  # i, j, k of the box = its RAS
    found = world_points(tmp_path / "labels" / "scan_001.nrrd", 1)
    assert same_points(found, expected * [-1.0, -1.0, 1.0])


def test_a_non_linear_transform_is_refused_with_advice(scene, table, a_volume, tmp_path):
    import slicer
    import vtk
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.errors import SemiSegError

    table.add_volume(a_volume)
    warp = vtk.vtkThinPlateSplineTransform()
    transform = scene.AddNode(slicer.vtkMRMLTransformNode())
    transform.SetName("warp")
    transform.SetAndObserveTransformToParent(warp)
    a_volume.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(SemiSegError, match=r"'scan' is under the non-linear transform 'warp'.*Harden"):
        export_cases(table, tmp_path)


def test_a_shearing_transform_is_refused(scene, table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.errors import SemiSegError

    table.add_volume(a_volume)
    move(scene, a_volume, [[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(SemiSegError, match="right angles"):
        export_cases(table, tmp_path)


def test_values_follow_the_label_and_not_the_order_or_the_name_of_segments(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    draw(table, case, 1)
    mask = draw(table, case, 3, np.s_[6:8, 1:3, 1:3])
    segmentation = case.annotation.GetSegmentation()
    segmentation.ReorderSegments(["SemiSeg_3", "SemiSeg_1"])
    segmentation.GetSegment("SemiSeg_1").SetName("my atrium")
    case.mark_done()
    export_cases(table, tmp_path)
    for value in (1, 3):
        found = world_points(tmp_path / "labels" / "scan_001.nrrd", value)
        assert same_points(found, corner_points(a_volume, np.argwhere(mask == value)))


def test_a_segmentation_of_the_user_is_matched_by_segment_name(scene, table, a_volume, tmp_path):
    import slicer
    from SemiSegModuleLib.scene.training_files import export_cases

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(a_volume)
    for name in ("helper", "Aorta"):
        identifier = node.GetSegmentation().AddEmptySegment("", name)
        array = np.zeros((9, 12, 15), np.uint8)
        array[BOX] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, identifier, a_volume)
    case = table.add_volume(a_volume, annotation=node)
    case.mark_done()
    export = export_cases(table, tmp_path)
    expected = np.argwhere(array)
    assert same_points(world_points(tmp_path / "labels" / "scan_001.nrrd", 3), corner_points(a_volume, expected))
    assert len(export.remarks) == 1
    assert "helper" in export.remarks[0]


def test_what_is_drawn_beside_the_scan_is_told(scene, table, a_volume, tmp_path):
    """Somebody has moved the scan alone: some of the mask, then all of it, lies beside it."""
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.errors import SemiSegError

    case = table.add_volume(a_volume)
    draw(table, case)  # 5 voxels along i, from the fifth on
    case.mark_done()
    assert export_cases(table, tmp_path).remarks == []
    shift = np.eye(4)
    shift[0, 3] = 7 * a_volume.GetSpacing()[0]
    move(scene, a_volume, shift)
    (remark,) = export_cases(table, tmp_path).remarks
    assert remark.startswith("scan: 45 annotated voxels lie beside the scan")
    shift[0, 3] = 500
    move(scene, a_volume, shift)
    with pytest.raises(SemiSegError, match="The mask of 'scan' lies beside the scan"):
        export_cases(table, tmp_path)


def test_an_annotation_without_any_label_of_the_task_is_refused(scene, table, a_volume, tmp_path):
    import slicer
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.errors import SemiSegError

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    identifier = node.GetSegmentation().AddEmptySegment("", "aorta")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((9, 12, 15), np.uint8), node, identifier, a_volume)
    table.add_volume(a_volume, annotation=node).mark_done()
    node.GetSegmentation().GetSegment(identifier).SetName("liver")
    with pytest.raises(SemiSegError, match=r"1 left atrium, 3 aorta.*liver"):
        export_cases(table, tmp_path)


@pytest.mark.parametrize(("orientation", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_partial_annotation_marks_slices_that_nobody_looked_at(table, a_volume, tmp_path, orientation, axis):
    import SimpleITK as sitk
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    mask = draw(table, case)
    case.partial = orientation
    case.mark_done()
    export_cases(table, tmp_path)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels" / "scan_001.nrrd")))
    drawn_slices = {int(index[axis]) for index in np.argwhere(mask)}
    for number in range(mask.shape[axis]):
        expected = np.take(mask, number, axis) if number in drawn_slices else 255
        assert (np.take(written, number, axis) == expected).all()


def test_partial_slices_follow_the_patient_not_the_voxel_order(table, add_volume, tmp_path):
    import SimpleITK as sitk
    from SemiSegModuleLib.scene.training_files import export_cases

    sagittal = add_volume("sagittal", np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]))  # i: A, j: S, k: R
    case = table.add_volume(sagittal)
    mask = draw(table, case)
    case.partial = "axial"
    case.mark_done()
    export_cases(table, tmp_path)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels" / "scan_001.nrrd")))
    ignored = (written == 255).all(axis=(0, 2))
    assert np.array_equal(~ignored, mask.any(axis=(0, 2)))


def test_the_exported_folder_is_what_training_reads(table, add_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.data.cases import read_case
    from SemiSegLib.data.layouts import find_cases

    annotated, plain, excluded = (table.add_volume(add_volume(name)) for name in ("one", "two", "three"))
    mask = draw(table, annotated, 3)
    annotated.mark_done()
    excluded.excluded = True
    export = export_cases(table, tmp_path / "data", file_format=".nrrd")
    assert (export.labelled, export.unlabelled) == ([annotated.file_name], [plain.file_name])
    found = find_cases(tmp_path / "data")
    assert [case.name for case in found.labelled] == ["scan_001"]
    assert [case.name for case in found.unlabelled] == ["scan_002"]
    assert [(label.value, label.name) for label in found.labels] == [(1, "left atrium"), (3, "aorta")]
    _, read = read_case(found.labelled[0])
    import SimpleITK as sitk

    assert np.array_equal(sitk.GetArrayFromImage(read.image), mask)


def test_a_second_export_writes_only_what_changed_and_removes_what_is_no_longer_wanted(table, add_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    cases = [table.add_volume(add_volume(name)) for name in ("one", "two", "three")]
    for case in cases[:2]:
        draw(table, case)
        case.mark_done()
    export_cases(table, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nrrd")}
    cases[0].excluded = True
    draw(table, cases[1], 3, np.s_[7, 7, 7])
    export_cases(table, tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nrrd")}
    assert {path.name for path in after} == {"scan_002.nrrd", "scan_003.nrrd"}
    changed = {str(path.relative_to(tmp_path)) for path in after if after[path] != files[path]}
    assert {name.replace("\\", "/") for name in changed} == {"labels/scan_002.nrrd"}


def test_a_case_not_done_any_more_loses_its_exported_mask(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    draw(table, case)
    case.mark_done()
    export_cases(table, tmp_path)
    case.mark_done(False)
    export_cases(table, tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("scan_001.nrrd")] == ["images"]


def test_files_of_others_in_the_folder_are_never_touched(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.training_files import export_cases

    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "precious.nrrd").write_text("x")
    table.add_volume(a_volume)
    with pytest.raises(CaseError, match=r"precious\.nrrd"):
        export_cases(table, tmp_path)
    assert [path.name for path in tmp_path.rglob("*.nrrd")] == ["precious.nrrd"]


def test_nothing_to_export_is_said(table, tmp_path):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.training_files import export_cases

    with pytest.raises(CaseError, match="no case to export"):
        export_cases(table, tmp_path)


def test_export_reports_each_case_and_the_end(table, add_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    for name in ("one", "two"):
        table.add_volume(add_volume(name))
    calls = []
    export_cases(table, tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(0, 2, "one"), (1, 2, "two"), (2, 2, "")]


def test_export_leaves_no_node_behind(scene, table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    draw(table, case)
    case.mark_done()
    before = scene_nodes(scene)
    export_cases(table, tmp_path)
    assert scene_nodes(scene) == before


def scene_nodes(scene):
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}
