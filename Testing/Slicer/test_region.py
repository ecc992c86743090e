"""Regions of interest: the box in world space, what is exported, predictions on cropped grids, what is refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from drawing import BOX, corner_points, draw, same_points, world_points, write_prediction
from test_export_for_training import GEOMETRIES, ROTATED, move
from test_predictions import shown_points

INSIDE = np.s_[1:8, 2:9, 3:12]  # k, j, i: holds BOX (2:5, 3:8, 4:9), no symmetry
SIZE = (9, 7, 7)  # of INSIDE: i, j, k


def limit(table, case, where=INSIDE):
    """Give the case a region whose faces lie half a voxel around a block of its voxels."""
    from SemiSegModuleLib.scene.annotations import add_region

    node = add_region(table, case)  # has the axes of the scan
    first = np.array([part.start for part in where][::-1])
    last = np.array([part.stop for part in where][::-1]) - 1
    ends = corner_points(case.volume, np.array([first[::-1], last[::-1]])) * [-1, -1, 1]
    node.SetCenterWorld(*ends.mean(axis=0))
    steps = corner_points(case.volume, np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]))
    spacing = np.linalg.norm(steps[1:] - steps[0], axis=1)
    node.SetSize(*((last - first + 1) * spacing))
    return node


def box_points_inside(node, volume):
    """Indices (k, j, i) of the voxels whose centre lies in the box, by the box's own matrix, in world space."""
    import slicer

    indices = np.argwhere(np.ones(slicer.util.arrayFromVolume(volume).shape))
    world = corner_points(volume, indices) * [-1, -1, 1]
    to_object = np.linalg.inv(slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix()))
    local = world @ to_object[:3, :3].T + to_object[:3, 3]
    return indices[(np.abs(local) <= np.array(node.GetSize()) / 2 + 1e-6).all(axis=1)]


# ---- making one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_without_a_drawing_the_box_is_the_whole_scan(request, scene, table, geometry, moved):
    from SemiSegModuleLib.scene.annotations import add_region

    volume = request.getfixturevalue(geometry)
    if moved:
        move(scene, volume, ROTATED)
    case = table.add_volume(volume)
    node = add_region(table, case)
    assert node.IsA("vtkMRMLMarkupsROINode")
    assert len(box_points_inside(node, volume)) == 9 * 12 * 15
    assert case.box() == case.box().of((0, 0, 0), (15, 12, 9))
    extent = np.array(node.GetSize())
    assert np.allclose(extent, np.array([15, 12, 9]) * volume.GetSpacing())


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_box_is_put_around_what_is_drawn(request, table, geometry, monkeypatch):
    from SemiSegModuleLib.scene import region
    from SemiSegModuleLib.scene.annotations import add_region

    monkeypatch.setattr(region, "MARGIN_MM", 1.0)
    case = table.add_volume(request.getfixturevalue(geometry))
    mask = draw(table, case)
    node = add_region(table, case)
    inside = box_points_inside(node, case.volume)
    margin = np.ceil(1.0 / np.array(case.volume.GetSpacing()))[::-1]  # k, j, i
    drawn = np.argwhere(mask)
    assert np.array_equal(inside.min(axis=0), drawn.min(axis=0) - margin)
    assert np.array_equal(inside.max(axis=0), drawn.max(axis=0) + margin)


def test_fitting_again_uses_the_same_node(scene, table, a_volume):
    from SemiSegModuleLib.scene.annotations import add_region

    case = table.add_volume(a_volume)
    node = limit(table, case)
    assert case.box().size == SIZE
    assert add_region(table, case) is node
    assert case.box().size == (15, 12, 9)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1


def test_the_box_lies_beside_the_scan_in_the_subject_hierarchy(scene, table, a_volume):
    from SemiSegModuleLib.scene.annotations import add_region

    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(a_volume), study)
    node = add_region(table, table.add_volume(a_volume))
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


# ---- the voxels it stands for --------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_turned_box_is_covered_by_the_smallest_block_of_voxels(request, table, geometry):
    import slicer

    case = table.add_volume(request.getfixturevalue(geometry))
    node = limit(table, case)
    turned = slicer.util.arrayFromVTKMatrix(node.GetObjectToNodeMatrix())
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned[:3, :3] = turn * np.sign(np.linalg.det(turn))
    node.GetObjectToNodeMatrix().DeepCopy(turned.ravel().tolist())
    inside = box_points_inside(node, case.volume)
    box = case.box()
    first, last = np.array(box.start)[::-1], (np.array(box.start) + box.size)[::-1] - 1
    assert len(inside) > 20
    assert (inside >= first).all()
    assert (inside <= last).all()
    # The corners of the box reach into the outermost layer of the block, or end half a voxel before the scan does.
    corners = np.array([[x, y, z, 1] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    world = (corners * [*node.GetSize(), 1]) @ slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix()).T
    origin, *axes = corner_points(case.volume, np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])) * [-1, -1, 1]
    index = (world[:, :3] - origin) @ np.linalg.inv(np.array(axes) - origin)
    limits = np.array([8, 11, 14])
    assert np.array_equal(first, np.clip(np.ceil(index.min(axis=0)), 0, limits))
    assert np.array_equal(last, np.clip(np.floor(index.max(axis=0)), 0, limits))


def test_a_box_that_misses_the_scan_is_refused_by_name(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.errors import SemiSegError

    case = table.add_volume(a_volume)
    limit(table, case).SetCenterWorld(1000, 0, 0)
    with pytest.raises(SemiSegError, match="region of interest of 'scan' lies outside the scan"):
        export_cases(table, tmp_path)


def test_a_box_that_is_too_thin_is_refused_with_its_size(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.errors import SemiSegError

    case = table.add_volume(a_volume)
    limit(table, case, np.s_[1:8, 2:9, 3:5])
    with pytest.raises(SemiSegError, match=r"'scan' is too thin, 2 x 7 x 7 voxels"):
        export_cases(table, tmp_path)
    case.region.SetSize(0.01, 0.01, 0.01)  # between the centres of voxels
    case.region.SetCenterWorld(*(corner_points(a_volume, np.array([[4, 4, 4]]))[0] * [-1, -1, 1] + 0.3))
    with pytest.raises(SemiSegError, match=r"'scan' is too thin, 0 x 0 x 0 voxels"):
        case.box()


def test_a_thin_scan_may_be_used_whole(table, add_volume):
    from SemiSegModuleLib.scene.annotations import add_region

    case = table.add_volume(add_volume("slab", shape=(2, 12, 15)))
    add_region(table, case)
    assert case.box().size == (15, 12, 2)


def test_a_box_below_a_non_linear_transform_is_refused(scene, table, a_volume):
    import slicer
    import vtk

    from SemiSegLib.errors import SemiSegError

    case = table.add_volume(a_volume)
    node = limit(table, case)
    transform = scene.AddNode(slicer.vtkMRMLTransformNode())
    transform.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
    node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(SemiSegError, match="'scan region of interest' is under the non-linear transform"):
        case.box()


# ---- files for training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_training_gets_the_part_in_the_box_where_it_is_in_the_world(request, scene, table, tmp_path, geometry, moved):
    import slicer
    from SemiSegModuleLib.scene.training_files import export_cases

    volume = request.getfixturevalue(geometry)
    if moved:
        move(scene, volume, ROTATED)
    case = table.add_volume(volume)
    mask = draw(table, case, value=3)
    case.mark_done()
    node = limit(table, case)
    expected = box_points_inside(node, volume)
    assert np.array_equal(expected, np.argwhere(cube(INSIDE)))
    export = export_cases(table, tmp_path)
    assert export.remarks == []
    scan = sitk.ReadImage(str(tmp_path / "images" / f"{case.file_name}.nrrd"))
    assert scan.GetSize() == SIZE
    values = slicer.util.arrayFromVolume(volume)
    for index, point in zip(expected[::37], corner_points(volume, expected[::37]), strict=True):
        assert scan[scan.TransformPhysicalPointToIndex(point.tolist())] == values[tuple(index)]
    label = tmp_path / "labels" / f"{case.file_name}.nrrd"
    assert sitk.ReadImage(str(label)).GetSize() == SIZE
    assert same_points(world_points(label, 3), corner_points(volume, np.argwhere(mask == 3)))


def cube(where):
    array = np.zeros((9, 12, 15), np.uint8)
    array[where] = 1
    return array


def test_a_moved_region_is_written_anew_and_a_removed_one_gives_the_whole_scan(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    limit(table, case)
    export_cases(table, tmp_path)
    file = tmp_path / "images" / "scan_001.nrrd"
    before = sitk.ReadImage(str(file)).GetOrigin()
    limit(table, case, np.s_[2:9, 2:9, 3:12])
    export_cases(table, tmp_path)
    assert np.allclose(np.subtract(sitk.ReadImage(str(file)).GetOrigin(), before), [0, 0, 2.5])
    table.remove_region(case)
    export_cases(table, tmp_path)
    assert sitk.ReadImage(str(file)).GetSize() == (15, 12, 9)


def test_what_is_drawn_outside_is_kept_and_counted(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.region import voxels_outside
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    mask = draw(table, case)
    limit(table, case, np.s_[1:8, 2:9, 3:7])
    case.mark_done()
    outside = int(mask.sum()) - int(mask[1:8, 2:9, 3:7].sum())
    assert outside == 3 * 5 * 2
    assert voxels_outside(case.annotation, a_volume, case.box(), table.labels) == outside
    export = export_cases(table, tmp_path)
    assert export.remarks == [f"scan: {outside} annotated voxels outside the region of interest are not learnt from."]
    assert len(world_points(tmp_path / "labels" / "scan_001.nrrd", 1)) == mask.sum() - outside
    assert np.array_equal(segments.voxels_on_grid(case.annotation, a_volume, table.labels), mask)


def test_voxels_outside_are_counted_where_transforms_put_them(scene, table, an_oblique_volume):
    from SemiSegModuleLib.scene.region import voxels_outside

    case = table.add_volume(an_oblique_volume)
    draw(table, case)
    limit(table, case)
    assert voxels_outside(case.annotation, an_oblique_volume, case.box(), table.labels) == 0
    shift = np.eye(4)
    shift[:3, 3] = 500.0
    move(scene, case.annotation, shift)
    assert voxels_outside(case.annotation, an_oblique_volume, case.box(), table.labels) == 3 * 5 * 5


def test_a_done_annotation_wholly_outside_is_refused(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    draw(table, case, where=np.s_[0:1, 0:2, 0:3])
    case.mark_done()
    limit(table, case)
    with pytest.raises(CaseError, match="annotation of 'scan' lies in its region of interest"):
        export_cases(table, tmp_path)


def test_slices_of_a_partial_annotation_count_by_the_whole_drawing(table, a_volume, tmp_path):
    """A slice that was drawn in outside the box was looked at: inside the box it is background, not unknown."""
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    draw(table, case)
    draw(table, case, where=np.s_[6:7, 0:1, 0:1])
    case.partial = "axial"
    case.mark_done()
    limit(table, case)
    export_cases(table, tmp_path)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels" / "scan_001.nrrd")))
    unknown = [bool((part == 255).all()) for part in written]
    assert unknown == [number not in (2, 3, 4, 6) for number in range(1, 8)]
    assert not written[6 - 1].any()


# ---- predictions ---------------------------------------------------------------------------------------------


@pytest.fixture
def predicted(table, tmp_path):
    """Predict a block of a case as the network does, on the exported grid: predicted(case) -> whole-grid mask."""
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.training_files import export_cases

    def predict(case, where=BOX, maps=("sdm", "probabilities")):
        export = export_cases(table, tmp_path / "data")
        mask = cube(where) * 3
        image = export.images / f"{case.file_name}.nrrd"
        write_prediction(tmp_path / "predictions", image, mask[case.box().slices], table.labels, maps=maps)
        load_predictions(table, tmp_path / "predictions")
        return mask

    return predict


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_prediction_of_the_box_lies_in_the_world_and_is_exported_on_the_whole_scan(
    request, scene, table, predicted, tmp_path, geometry, moved
):
    from SemiSegModuleLib.exports.masks import export_masks

    volume = request.getfixturevalue(geometry)
    if moved:
        move(scene, volume, ROTATED)
    case = table.add_volume(volume)
    limit(table, case)
    mask = predicted(case)
    expected = corner_points(volume, np.argwhere(mask == 3))
    assert same_points(shown_points(case, case.prediction, 3, table), expected)
    (file,) = export_masks(table, [case], tmp_path / "out", ".nrrd")
    assert sitk.ReadImage(str(file)).GetSize() == (15, 12, 9)
    assert same_points(world_points(file, 3), expected)


def test_maps_of_the_box_lie_in_place(table, an_oblique_volume, predicted):
    import slicer

    case = table.add_volume(an_oblique_volume)
    limit(table, case)
    mask = predicted(case)
    for node in (case.sdms[3], case.probabilities[3]):
        values = slicer.util.arrayFromVolume(node)
        assert values.shape == (7, 7, 9)
        inside = np.argwhere(values < 0.5 if node is case.sdms[3] else values > 0.5)
        assert same_points(corner_points(node, inside), corner_points(case.volume, np.argwhere(mask)))
    assert (case.confidence, case.dsc) == (pytest.approx(0.75), None)


def test_agreement_is_measured_where_the_network_predicted(table, a_volume, predicted):
    case = table.add_volume(a_volume)
    draw(table, case, 3, np.s_[2:5, 3:8, 0:9])  # reaches out of the box, where nothing can be predicted
    case.mark_done()
    limit(table, case, np.s_[1:8, 2:9, 4:12])
    predicted(case)
    assert (case.confidence, case.dsc) == (pytest.approx(0.75), 1.0)


def test_a_prediction_stays_valid_when_the_region_changes(table, a_volume, predicted):
    from SemiSegModuleLib.scene import segments

    case = table.add_volume(a_volume)
    limit(table, case)
    mask = predicted(case)
    assert not case.predicted_elsewhere
    assert case.predicted_parts == [case.box()]
    limit(table, case, np.s_[2:9, 2:9, 3:12])
    assert case.predicted_elsewhere
    table.remove_region(case)
    assert case.predicted_elsewhere
    assert case.state.value == "predicted"
    assert np.array_equal(segments.voxels_on_grid(case.prediction, a_volume, table.labels), mask)
    predicted(case)
    assert not case.predicted_elsewhere


def test_a_region_that_moves_while_the_network_predicts_does_not_shift_the_mask(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    limit(table, case)
    image = export_cases(table, tmp_path / "data").images / "scan_001.nrrd"
    mask = cube(BOX) * 3
    write_prediction(tmp_path / "predictions", image, mask[INSIDE], table.labels)
    limit(table, case, np.s_[2:9, 2:9, 3:12])
    load_predictions(table, tmp_path / "predictions")
    expected = corner_points(a_volume, np.argwhere(mask))
    assert same_points(shown_points(case, case.prediction, 3, table), expected)
    assert [box.start for box in case.predicted_parts] == [(3, 2, 1)]


def test_accepting_keeps_what_was_drawn_where_nothing_was_predicted(table, an_oblique_volume, predicted):
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import accept_prediction

    case = table.add_volume(an_oblique_volume)
    drawn = draw(table, case, 1, np.s_[2:5, 3:8, 0:9])
    limit(table, case)
    mask = predicted(case, np.s_[3:7, 4:6, 5:8])
    accept_prediction(table, case, overwrite=True)
    expected = np.where(cube(INSIDE), mask, drawn)
    assert {1, 3} <= set(np.unique(expected))
    assert np.array_equal(segments.voxels_on_grid(case.annotation, case.volume, table.labels), expected)
    assert np.array_equal(segments.voxels_on_grid(case.prediction, case.volume, table.labels), mask)


# ---- the scene -----------------------------------------------------------------------------------------------


def test_moving_the_box_is_told_to_listeners(scene, table, a_volume):
    case = table.add_volume(a_volume)
    node = limit(table, case)
    calls = []
    table.case_changed.connect(lambda _: calls.append(case.box().start))
    node.SetCenterWorld(*np.add(node.GetCenterWorld(), [0.9, 0, 0]))
    assert calls[-1] == (4, 2, 1)
    shift = np.eye(4)
    shift[0, 3] = 0.9
    move(scene, node, shift)
    assert calls[-1] == (5, 2, 1)
    scene.RemoveNode(node)
    assert calls[-1] == (0, 0, 0)
    assert case.region is None


def test_removing_a_case_removes_its_box(scene, table, a_volume):
    case = table.add_volume(a_volume)
    limit(table, case)
    table.remove(case)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0


def test_the_box_is_saved_with_the_scene(application, table, an_oblique_volume, tmp_path):
    case = table.add_volume(an_oblique_volume)
    node = limit(table, case)
    before = box_points_inside(node, an_oblique_volume)
    application.save(tmp_path / "work.mrb")
    limit(table, case, np.s_[2:9, 2:9, 3:12])
    application.load(tmp_path / "work.mrb")
    (case,) = table.cases
    assert np.array_equal(box_points_inside(case.region, case.volume), before)
    assert case.box().size == SIZE


def test_only_the_box_of_the_case_shown_is_visible(scene, table, add_volume):
    from SemiSegModuleLib.scene.overlays import Overlays

    first, second = (table.add_volume(add_volume(name)) for name in ("one", "two"))
    for case in (first, second):
        limit(table, case)
    overlays = Overlays(table)
    overlays.show(first)
    assert (visible(first), visible(second)) == (True, False)
    first.region.GetDisplayNode().SetVisibility(False)  # as a user does in the Data module
    overlays.update()
    assert not visible(first)
    overlays.show(second)
    overlays.show(first)
    assert (visible(first), visible(second)) == (True, False)


def visible(case):
    return bool(case.region.GetDisplayNode().GetVisibility())


def test_slice_views_show_the_box_where_it_cuts(application, table, an_oblique_volume):
    """Its outline is drawn, by Slicer's own displayable manager, through the slice of its centre and not above it."""
    from offscreen_views import SliceView
    from SemiSegModuleLib.scene.overlays import Overlays

    case = table.add_volume(an_oblique_volume)
    node = limit(table, case)
    view, overlays = SliceView(application, size=(240, 240)), Overlays(table)
    overlays.show(case)
    view.fit(1.5)
    for depth, drawn in ((0.0, True), (100.0, False)):
        view.move_to(np.add(node.GetCenterWorld(), [0, 0, depth]))
        with_box = view.array().astype(int)
        node.GetDisplayNode().SetVisibility(False)
        different = np.abs(with_box - view.array()).max(axis=2) > 30
        node.GetDisplayNode().SetVisibility(True)
        assert (different.sum() > 200) == drawn
