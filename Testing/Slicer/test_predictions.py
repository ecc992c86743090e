"""Files to scene: predicted masks and maps as nodes of their own; accepted and corrected; never over a human's work."""

import numpy as np
import pytest
import SimpleITK as sitk
from drawing import corner_points, draw, same_points, write_prediction

from SemiSegLib.config import Label

PREDICTED = np.s_[1:4, 2:6, 5:11]


@pytest.fixture
def predicted(table, an_oblique_volume, tmp_path):
    """Predict a case: predicted(value, suffix, maps) -> (case, mask as exported voxels)."""
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(an_oblique_volume)

    def predict(value=3, suffix=".seg.nrrd", maps=(), where=PREDICTED, labels=None):
        export = export_cases(table, tmp_path / "data")
        mask = np.zeros((9, 12, 15), np.uint8)
        mask[where] = value
        image = export.images / f"{case.file_name}.nrrd"
        write_prediction(tmp_path / "predictions", image, mask, labels or table.labels, suffix, maps)
        return case, mask

    return predict


def shown_points(case, node, value, table):
    """World points (LPS) of what Slicer holds as a segment, on its own grid."""
    import slicer
    import vtk
    from SemiSegModuleLib.scene import segments

    identifier = {v: k for k, v in segments.segments_by_label(node, table.labels).items()}[value]
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(identifier, image)
    array = as_array(image)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    extent = image.GetExtent()
    points = []
    for k, j, i in np.argwhere(array):
        ras = matrix.MultiplyPoint((i + extent[0], j + extent[2], k + extent[4], 1))[:3]
        world = [0.0, 0.0, 0.0]
        node.TransformPointToWorld(ras, world)
        points.append([-world[0], -world[1], world[2]])
    return np.array(points)


def as_array(image):
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(tuple(reversed(image.GetDimensions())))


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nrrd", ".nii.gz"])
def test_a_predicted_mask_lies_where_the_network_put_it(table, predicted, tmp_path, suffix):
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, mask = predicted(3, suffix)
    assert load_predictions(table, tmp_path / "predictions") == [case]
    assert case.state.value == "predicted"
    found = shown_points(case, case.prediction, 3, table)
    assert same_points(found, corner_points(case.volume, np.argwhere(mask)))


def test_names_colours_and_stable_ids_come_with_the_prediction(table, predicted, tmp_path):
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted()
    load_predictions(table, tmp_path / "predictions")
    segmentation = case.prediction.GetSegmentation()
    assert list(segmentation.GetSegmentIDs()) == ["SemiSeg_1", "SemiSeg_3"]
    assert segmentation.GetSegment("SemiSeg_3").GetName() == "aorta"
    assert np.allclose(segmentation.GetSegment("SemiSeg_3").GetColor(), np.array([224, 97, 76]) / 255)
    assert case.labels_present(table.labels) == [table.labels[1]]


def test_a_model_with_other_numbers_is_understood_by_label_names(table, predicted, tmp_path):
    from SemiSegModuleLib.scene.predictions import load_predictions

    other = [Label(1, "Aorta", (1, 1, 1)), Label(2, "spine", (2, 2, 2))]
    case, mask = predicted(1, ".nrrd", maps=("sdm",), labels=other)
    load_predictions(table, tmp_path / "predictions")
    assert case.labels_present(table.labels) == [table.labels[1]]
    assert set(case.sdms) == {2, 3}
    found = shown_points(case, case.prediction, 3, table)
    assert same_points(found, corner_points(case.volume, np.argwhere(mask)))


def test_values_that_nothing_explains_are_refused_and_the_earlier_prediction_stays(table, predicted, tmp_path):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_prediction, load_predictions

    case, _ = predicted()
    load_predictions(table, tmp_path / "predictions")
    before = case.volumes_ml(table.labels)
    image = sitk.GetImageFromArray(np.full((3, 3, 3), 9, np.uint8))
    sitk.WriteImage(image, str(tmp_path / "odd.nrrd"))
    with pytest.raises(CaseError, match=r"odd\.nrrd.*\[9\]"):
        load_prediction(table, case, tmp_path / "odd.nrrd")
    assert case.volumes_ml(table.labels) == before


def test_maps_are_volumes_with_values_in_place_and_beside_the_scan(scene, table, predicted, tmp_path):
    import slicer
    from SemiSegModuleLib.scene.predictions import load_predictions

    hierarchy = scene.GetSubjectHierarchyNode()
    case, mask = predicted(3, maps=("sdm", "probabilities"))
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(case.volume), study)
    load_predictions(table, tmp_path / "predictions")
    assert set(case.sdms) == set(case.probabilities) == {1, 3}
    sdm = case.sdms[3]
    assert sdm.GetName() == "oblique scan signed distance aorta"
    values = slicer.util.arrayFromVolume(sdm)
    assert (values[mask == 3] <= 0).all()
    assert (values[mask == 0] > 0).all()
    index = np.array([[2, 3, 7]])
    assert np.allclose(corner_points(sdm, index), corner_points(case.volume, index))
    for node in (case.prediction, sdm, case.probabilities[1]):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert (case.confidence, case.dsc) == (pytest.approx(0.75), None)


def test_dsc_of_an_annotated_case_is_its_agreement_with_the_human(table, predicted, tmp_path):
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)
    human = draw(table, case, 3, np.s_[1:4, 2:6, 5:8])
    case.mark_done()
    load_predictions(table, tmp_path / "predictions")
    both, predicted_voxels = np.count_nonzero(human), 3 * 4 * 6
    assert case.dsc == pytest.approx(2 * both / (both + predicted_voxels))


def test_the_dsc_of_a_mask_that_was_changed_since_is_not_known(table, predicted, tmp_path):
    """As little as while nobody says that the annotation is finished; what is as it was has it again."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, mask = predicted(3)
    draw(table, case, 3, np.s_[1:4, 2:6, 5:8])
    case.mark_done()
    load_predictions(table, tmp_path / "predictions")
    dsc = case.dsc
    assert dsc is not None
    case.mark_done(False)
    assert case.dsc is None
    draw(table, case, 3, np.s_[7, 7, 7])
    case.mark_done()
    assert case.dsc is None
    draw(table, case, 0, np.s_[7, 7, 7])
    assert case.dsc == dsc
    case.partial = "axial"
    assert case.dsc is None
    case.partial = ""
    mask[0, 0, 0] = 3
    segments.set_voxels(case.prediction, mask, volumes.ijk_to_ras(case.volume), table.labels)
    assert case.dsc is None
    load_predictions(table, tmp_path / "predictions")
    assert case.dsc == dsc


def moved_by_a_voxel(segmentation_node, case, table):
    """All that is drawn lies beside where it was, in as many voxels."""
    from SemiSegModuleLib.scene import segments, volumes

    mask = segments.voxels_on_grid(segmentation_node, case.volume, table.labels)
    segments.set_voxels(segmentation_node, np.roll(mask, 1, axis=2), volumes.ijk_to_ras(case.volume), table.labels)


def test_figures_of_masks_are_of_these_voxels_and_not_of_their_number(table, predicted, tmp_path):
    """A mask with as many voxels in other places is another mask."""
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.quality import load_quality

    case, _ = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    figures = {"expected_dsc": 0.876, "low": 0.8, "high": 0.9, "empty": False, "classes": {}}
    load_quality(table, case, figures, tmp_path / "model")
    accept_prediction(table, case)
    load_predictions(table, tmp_path / "predictions")
    load_quality(table, case, figures, tmp_path / "model")
    assert (case.accepted, case.dsc, case.expected_dsc, case.plainly_edited) == (True, 1.0, 0.876, False)
    moved_by_a_voxel(case.annotation, case, table)
    assert (case.accepted, case.dsc, case.expected_dsc) == (False, None, 0.876)
    moved_by_a_voxel(case.prediction, case, table)
    assert (case.dsc, case.expected_dsc, case.plainly_edited) == (None, None, True)
    load_predictions(table, tmp_path / "predictions")
    assert (case.expected_dsc, case.plainly_edited) == (None, False)


def test_a_grid_that_an_editor_made_larger_changes_no_mask(table, predicted, tmp_path):
    """Slicer's Segment Editor enlarges the grid of a segment where somebody draws beside it, and shrinks it again."""
    import vtk
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    accept_prediction(table, case)
    segmentation = case.annotation.GetSegmentation()
    padding = vtk.vtkImageConstantPad()
    padding.SetOutputWholeExtent(-3, 17, -3, 14, -3, 11)
    for value in (1, 3):
        segment = segmentation.GetSegment(f"SemiSeg_{value}")
        image, to_world = segment.GetRepresentation("Binary labelmap"), vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(to_world)
        if value == 1:  # both share one
            padding.SetInputData(image)
            padding.Update()
            image.DeepCopy(padding.GetOutput())
            image.SetImageToWorldMatrix(to_world)
        assert image.GetExtent() == (-3, 17, -3, 14, -3, 11)
    assert case.accepted


def test_a_mask_that_was_moved_beside_its_scan_is_another_one(scene, table, predicted, tmp_path):
    """What moves scan and masks together changes nothing."""
    import slicer
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)
    draw(table, case, 3)
    case.mark_done()
    load_predictions(table, tmp_path / "predictions")
    dsc = case.dsc
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, -1.0, -1.0, 1.0])))
    for node in (case.annotation, case.volume, case.prediction):
        assert case.dsc == (dsc if node is case.annotation else None)
        node.SetAndObserveTransformNodeID(transform.GetID())
    assert case.dsc == dsc
    for node in (case.annotation, case.volume, case.prediction):
        node.HardenTransform()
    assert case.dsc == dsc


def test_masks_of_scenes_that_kept_the_number_of_voxels_alone_are_told_by_it(table, predicted, tmp_path):
    import json

    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    accept_prediction(table, case)
    load_predictions(table, tmp_path / "predictions")
    drawn, found = (segments.counts_by_segment(node) for node in (case.annotation, case.prediction))
    kept = {"measured": [drawn, found], "accepted": {**drawn, "SemiSeg_1": 0}, "prediction_counts": found}
    for name, value in kept.items():
        case.node.SetParameter(name, json.dumps(value))
    assert (case.accepted, case.dsc, case.plainly_edited, case.prediction_edited) == (True, 1.0, False, False)
    draw(table, case, 3, np.s_[8, 8, 8])
    assert (case.accepted, case.dsc, case.plainly_edited) == (False, None, False)


def test_whether_a_prediction_was_edited_is_known_at_once(table, predicted, tmp_path, monkeypatch):
    """It is asked of all scans, twice, before the window tells that they are predicted again."""
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    monkeypatch.setattr(segments, "fingerprint", lambda node: pytest.fail("this takes seconds for a large mask"))
    assert not case.prediction_edited
    moved_by_a_voxel(case.prediction, case, table)
    assert case.prediction_edited


def test_a_prediction_is_shown_beside_an_annotation_that_cannot_be_read(table, predicted, tmp_path):
    """Two segments for one structure are the annotator's business; what is said of the prediction is of this one."""
    import slicer
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3, maps=("probabilities",))
    draw(table, case, 3)
    case.mark_done()
    load_predictions(table, tmp_path / "predictions")
    case.confidence = 0.1  # of an earlier model
    second = slicer.vtkSegment()
    second.DeepCopy(case.annotation.GetSegmentation().GetSegment("SemiSeg_3"))
    case.annotation.GetSegmentation().AddSegment(second, "another")
    assert load_predictions(table, tmp_path / "predictions") == [case]
    assert (case.confidence, case.dsc) == (pytest.approx(0.75), None)


def test_the_dsc_survives_saving_and_taking_back_and_is_still_that_of_these_masks(
    application, table, predicted, tmp_path
):
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.undo import keep_removed

    case, _ = predicted(3)
    draw(table, case, 3, np.s_[1:4, 2:6, 5:8])
    case.mark_done()
    load_predictions(table, tmp_path / "predictions")
    dsc = case.dsc
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")
    (case,) = table.cases
    assert case.dsc == dsc
    back = keep_removed(table, case)
    table.remove(case)
    case = back()
    assert case.dsc == dsc
    draw(table, case, 3, np.s_[7, 7, 7])
    assert case.dsc is None


def test_loading_again_replaces_the_prediction_and_not_the_human_mask(scene, table, predicted, tmp_path):
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3, maps=("sdm", "probabilities"))
    draw(table, case, 1)
    case.mark_done()
    human = case.annotation.GetSegmentation().GetSegment("SemiSeg_1").GetMTime()
    load_predictions(table, tmp_path / "predictions")
    nodes = {node.GetID() for node in case.nodes()}
    count = scene.GetNumberOfNodes()

    predicted(1, maps=("sdm", "probabilities"))
    load_predictions(table, tmp_path / "predictions")
    assert {node.GetID() for node in case.nodes()} == nodes
    assert scene.GetNumberOfNodes() == count
    assert case.annotation.GetSegmentation().GetSegment("SemiSeg_1").GetMTime() == human
    assert case.prediction is not case.annotation
    from SemiSegModuleLib.scene import segments

    assert segments.voxel_counts(case.prediction, table.labels) == {1: 3 * 4 * 6, 3: 0}


def test_maps_that_are_no_longer_predicted_are_removed(scene, table, predicted, tmp_path):
    from SemiSegModuleLib.scene.predictions import load_prediction, load_predictions

    case, _ = predicted(3, maps=("sdm",))
    load_predictions(table, tmp_path / "predictions")
    former = [node.GetID() for node in case.sdms.values()]
    load_prediction(table, case, tmp_path / "predictions" / f"{case.file_name}.seg.nrrd")
    assert case.sdms == {}
    assert not any(scene.GetNodeByID(identifier) for identifier in former)


def test_a_prediction_follows_the_transform_of_its_scan_even_if_that_has_moved(scene, table, predicted, tmp_path):
    import slicer
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)  # makes the case's files once without a transform
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.array([[0, -1, 0, 5.0], [1, 0, 0, -3], [0, 0, 1, 20], [0, 0, 0, 1]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    case.volume.SetAndObserveTransformNodeID(transform.GetID())
    case, mask = predicted(3, maps=("sdm",))
    matrix[:3, 3] = [100.0, 0, 0]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    load_predictions(table, tmp_path / "predictions")
    assert case.prediction.GetParentTransformNode() is transform
    assert same_points(shown_points(case, case.prediction, 3, table), corner_points(case.volume, np.argwhere(mask)))
    index = np.array([[2, 3, 7]])
    assert np.allclose(corner_points(case.sdms[3], index), corner_points(case.volume, index))


def put_below_a_transform(scene, node, millimetres):
    import slicer

    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.array([[0, -1, 0, millimetres], [1, 0, 0, -3], [0, 0, 1, 20], [0, 0, 0, 1]], float)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def test_another_export_meanwhile_moves_no_prediction(scene, table, predicted, tmp_path):
    """A training that is started while a prediction runs writes the scan where it is by then."""
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.training_files import export_cases

    case, mask = predicted(3)
    put_below_a_transform(scene, case.volume, 50)
    export_cases(table, tmp_path / "training")
    load_predictions(table, tmp_path / "predictions")
    assert same_points(shown_points(case, case.prediction, 3, table), corner_points(case.volume, np.argwhere(mask)))


def test_a_prediction_lies_on_its_scan_whose_transform_was_hardened_meanwhile(scene, table, predicted, tmp_path):
    import slicer
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)
    put_below_a_transform(scene, case.volume, 50)
    case, mask = predicted(3, maps=("sdm",))
    slicer.vtkSlicerTransformLogic().hardenTransform(case.volume)
    load_predictions(table, tmp_path / "predictions")
    assert same_points(shown_points(case, case.prediction, 3, table), corner_points(case.volume, np.argwhere(mask)))
    index = np.array([[2, 3, 7]])
    assert np.allclose(corner_points(case.sdms[3], index), corner_points(case.volume, index))


def test_accepting_makes_a_corrected_annotation_that_is_a_copy(table, predicted, tmp_path):
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.training_files import export_cases

    case, mask = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    accept_prediction(table, case)
    assert case.state.value == "corrected"
    assert export_cases(table, tmp_path / "data").labelled == [case.file_name]
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "data" / "labels" / f"{case.file_name}.nrrd")))
    assert np.array_equal(written, mask)

    import slicer

    internal = slicer.util.arrayFromSegmentInternalBinaryLabelmap(case.annotation, "SemiSeg_3")
    internal[:] = 0  # the clinician erases, in place as the editor does; the prediction must not follow
    image = case.annotation.GetSegmentation().GetSegment("SemiSeg_3").GetRepresentation(segments.BINARY)
    image.GetPointData().GetScalars().Modified()
    assert segments.voxel_counts(case.annotation, table.labels)[3] == 0
    assert segments.voxel_counts(case.prediction, table.labels) == {1: 0, 3: np.count_nonzero(mask)}
    assert np.array_equal(segments.voxels_on_grid(case.prediction, case.volume, table.labels), mask)


def test_a_correction_under_way_does_not_train_yet(table, predicted, tmp_path):
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    accept_prediction(table, case, done=False)
    assert case.state.value == "predicted"
    case.mark_done()
    assert case.state.value == "corrected"


def test_an_annotation_drawn_anew_is_no_correction(scene, table, predicted, tmp_path):
    """After the correction was deleted: otherwise what the prediction had and it lacks would count as erased."""
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.strokes import base_of

    case, _ = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    accept_prediction(table, case, done=False)
    case.refinement = "the first one"
    scene.RemoveNode(case.annotation)
    draw(table, case)
    case.mark_done()
    assert (case.origin, case.refinement) == ("drawn", "")
    assert base_of(case, table.labels) is None


def test_what_nobody_is_sure_of_stays_when_a_prediction_is_accepted(table, predicted, tmp_path):
    """It is no drawing, so nobody is asked whether it may go."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction, make_annotation
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, mask = predicted(3)
    load_predictions(table, tmp_path / "predictions")
    node, where = make_annotation(table, case), np.zeros(mask.shape, bool)
    where[0, 0, :3] = where[2, 3, 6] = True
    segments.set_not_sure(node, where, volumes.ijk_to_ras(case.volume))
    accept_prediction(table, case)
    assert (segments.not_sure_on_grid(node, case.volume) == where).all()
    assert (segments.voxels_on_grid(node, case.volume, table.labels) == mask).all()
    assert case.accepted


def test_accepting_over_a_human_annotation_needs_to_be_asked_for(table, predicted, tmp_path):
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, mask = predicted(3)
    human = draw(table, case, 1)
    load_predictions(table, tmp_path / "predictions")
    with pytest.raises(CaseError, match="annotation already"):
        accept_prediction(table, case)
    counts = segments.voxel_counts(case.annotation, table.labels)
    assert counts == {1: np.count_nonzero(human), 3: 0}
    accept_prediction(table, case, overwrite=True)
    assert segments.voxel_counts(case.annotation, table.labels) == {1: 0, 3: np.count_nonzero(mask)}


def test_accepting_without_a_prediction_is_refused(table, a_volume):
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.case import CaseError

    with pytest.raises(CaseError, match="no prediction"):
        accept_prediction(table, table.add_volume(a_volume))


def test_a_deleted_prediction_takes_the_case_back_to_unlabelled(scene, table, predicted, tmp_path):
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, _ = predicted(3, maps=("sdm",))
    load_predictions(table, tmp_path / "predictions")
    scene.RemoveNode(case.prediction)
    assert case.state.value == "unlabelled"
    scene.RemoveNode(case.sdms[1])
    assert set(case.sdms) == {3}


def test_predictions_and_maps_survive_saving_and_loading_the_scene(application, table, predicted, tmp_path):
    import slicer
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, mask = predicted(3, maps=("sdm", "probabilities"))
    draw(table, case, 1)
    load_predictions(table, tmp_path / "predictions")
    points = shown_points(case, case.prediction, 3, table)
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")
    (again,) = table.cases
    assert set(again.sdms) == set(again.probabilities) == {1, 3}
    assert same_points(shown_points(again, again.prediction, 3, table), points)
    assert (slicer.util.arrayFromVolume(again.sdms[3])[mask == 3] <= 0).all()
    assert again.has_drawing
    load_predictions(table, tmp_path / "predictions")
    assert same_points(shown_points(again, again.prediction, 3, table), points)
