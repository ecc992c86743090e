"""The section Annotate: drawing, done, slices, boxes; on the real scene, without child processes."""

import pytest
from steps import limit_to


def test_annotating_makes_the_segments_and_opens_the_editor(with_cases):
    case = with_cases.select(2)
    assert case.annotation is None
    assert not with_cases.ui.segmentEditorContainer.isVisibleTo(with_cases.ui.annotateCollapsibleButton)
    with_cases.unfold("annotate")
    with_cases.ui.annotateButton.click()
    editor = with_cases.panel.annotate.editor
    assert editor.segmentationNode() is case.annotation
    assert editor.sourceVolumeNode() is case.volume
    assert case.annotation.GetSegmentation().GetNthSegment(0).GetName() == "left atrium"
    assert with_cases.ui.segmentEditorContainer.isVisibleTo(with_cases.ui.annotateCollapsibleButton)


def test_nothing_drawn_is_not_done(with_cases):
    with_cases.select(2)
    with_cases.ui.annotateButton.click()
    with pytest.raises(ValueError, match="Nothing is drawn"):
        with_cases.panel.annotate._done_toggled(True)
    assert not with_cases.ui.doneCheckBox.checked


def test_done_is_taken_back_and_given_again(with_cases):
    with_cases.select(0)
    assert with_cases.ui.doneCheckBox.checked
    with_cases.ui.doneCheckBox.click()
    assert with_cases.states()[0] == "not done"
    assert "1 annotated and 3 unlabeled" in with_cases.ui.readyLabel.text
    with_cases.ui.doneCheckBox.click()
    assert with_cases.states()[0] == "annotated"


def test_only_some_slices_are_annotated(with_cases):
    case = with_cases.select(0)
    with_cases.ui.partialComboBox.setCurrentIndex(1)
    assert case.partial == "axial"
    with_cases.select(1)
    assert with_cases.ui.partialComboBox.currentIndex == 0
    with_cases.select(0)
    assert with_cases.ui.partialComboBox.currentIndex == 1


def test_slices_can_be_chosen_before_anything_is_drawn(with_cases):
    """Else the choice is lost without a word, and what nobody looked at counts as background."""
    case = with_cases.select(3)
    assert case.annotation is None
    with_cases.choose(with_cases.ui.partialComboBox, "only the axial slices with something drawn")
    assert (case.partial, with_cases.ui.partialComboBox.currentIndex) == ("axial", 1)
    assert with_cases.panel.annotate.editor.segmentationNode() is case.annotation
    assert case.state.value == "unlabelled"


def test_a_region_is_made_fitted_again_and_removed(with_cases):
    ui, case = with_cases.ui, with_cases.select(2)
    whole = "32 × 32 × 32"
    assert (ui.addRegionButton.text, ui.removeRegionButton.enabled) == ("Limit to a box", False)
    ui.addRegionButton.click()
    assert ui.regionLabel.text == f"Training and prediction use {whole} of {whole} voxels."
    assert ui.addRegionButton.text == "Fit the box again"
    spacing = case.volume.GetSpacing()[0]
    case.region.SetSize(*[20 * part for part in case.volume.GetSpacing()])
    assert ui.regionLabel.text == f"Training and prediction use 20 × 20 × 20 of {whole} voxels."
    case.region.SetSize(spacing, spacing, spacing)
    assert "is too thin" in ui.regionLabel.text
    assert "'atrium_003'" in ui.regionLabel.text
    ui.addRegionButton.click()
    assert ui.regionLabel.text == f"Training and prediction use {whole} of {whole} voxels."
    ui.removeRegionButton.click()
    assert case.region is None
    assert (ui.regionLabel.text, ui.addRegionButton.text) == ("", "Limit to a box")


def test_a_region_belongs_to_one_scan(with_cases):
    with_cases.select(2)
    with_cases.ui.addRegionButton.click()
    other = with_cases.select(3)
    assert other.region is None
    assert not with_cases.ui.removeRegionButton.enabled
    with_cases.select(2)
    assert with_cases.ui.removeRegionButton.enabled


def test_what_is_drawn_outside_the_region_is_told(with_cases):
    from SemiSegModuleLib.scene import segments

    case, labels = with_cases.select(0), with_cases.work.cases.labels
    drawn = segments.voxels_on_grid(case.annotation, case.volume, labels)
    limit_to(with_cases, case, 30.0)
    outside = drawn.sum() - drawn[case.box().slices].sum()
    assert outside > 0
    assert f"{outside} annotated voxels lie outside" in with_cases.ui.regionLabel.text
    assert (segments.voxels_on_grid(case.annotation, case.volume, labels) == drawn).all()


def test_a_scan_whose_voxels_are_gone_disturbs_nothing(with_cases):
    case = with_cases.select(3)
    with_cases.ui.addRegionButton.click()
    case.volume.SetAndObserveImageData(None)
    with_cases.select(0)
    with_cases.select(3)
    assert with_cases.ui.regionLabel.text.startswith("'atrium_004' has no voxels any more")
    assert with_cases.ui.casesTable.item(3, 0).icon().isNull()


def test_removing_the_region_of_a_done_scan_is_asked_for(with_cases, answers):
    case = with_cases.select(0)
    with_cases.ui.addRegionButton.click()
    answers.yes = False
    with_cases.ui.removeRegionButton.click()
    assert case.region is not None
    assert "counts as annotated" in answers.asked[0]
    answers.yes = True
    with_cases.ui.removeRegionButton.click()
    assert case.region is None


def test_so_is_removing_that_of_a_scan_that_is_being_corrected(with_prediction, answers):
    """It was predicted in the box alone."""
    case = with_prediction.work.case
    with_prediction.ui.addRegionButton.click()
    with_prediction.ui.correctButton.click()
    answers.yes = False
    with_prediction.ui.removeRegionButton.click()
    assert case.region is not None
    assert "as soon as it is done" in answers.asked[-1]


def test_a_box_that_is_larger_than_what_was_predicted_is_asked_about_before_it_is_done(with_prediction, answers):
    """It was predicted in the box alone, corrected, and the box pulled larger since; one that is smaller is not asked
    about."""
    case, ui = with_prediction.work.case, with_prediction.ui
    ui.addRegionButton.click()
    case.region.SetSize(*(0.6 * side for side in case.region.GetSize()))
    case.predicted_parts = [case.box()]
    ui.correctButton.click()
    size = case.region.GetSize()
    case.region.SetSize(*(0.8 * side for side in size))
    answers.yes = False
    ui.doneCheckBox.click()
    assert case.done
    assert answers.asked == []
    ui.doneCheckBox.click()
    case.region.SetSize(size[0], size[1], 1.5 * size[2])
    assert not case.predicted_parts[0].contains(case.box())
    ui.doneCheckBox.click()
    assert not case.done
    assert not ui.doneCheckBox.checked
    assert "was predicted" in answers.asked[-1]
    answers.yes = True
    ui.doneCheckBox.click()
    assert case.done


def test_a_region_that_misses_its_scan_starts_no_training(with_cases):
    case = with_cases.select(3)
    with_cases.ui.addRegionButton.click()
    case.region.SetCenterWorld(1e4, 0, 0)
    with pytest.raises(ValueError, match="'atrium_004' lies outside the scan"):
        with_cases.panel.train.train()
    assert with_cases.logic.training.process is None


def test_a_finished_scan_that_is_left_out_is_still_called_finished(with_cases):
    case = with_cases.select(0)
    with_cases.ui.excludeCaseButton.click()
    assert case.excluded
    assert with_cases.ui.annotateLabel.text.startswith("atrium_001 is done.")


def test_a_suggested_scan_below_a_transform_that_is_not_linear_disturbs_nothing(with_cases, mrml):
    from SemiSegModuleLib.scene.records import Suggestion

    case = with_cases.select(2)
    case.volume.SetAndObserveTransformNodeID(mrml.scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode").GetID())
    case.suggestion = Suggestion(1, 0.4, axis=2, slices=(6, 4))
    with_cases.panel.data.update()
    with_cases.panel.annotate.update()
    assert "Begin with slices 6, 4." in with_cases.ui.annotateLabel.text


def test_what_is_drawn_in_a_segment_of_no_label_is_not_done(with_cases):
    """As after *Add* in the Segment Editor: an export would give an empty mask away."""
    import numpy as np
    import slicer

    case = with_cases.select(2)
    with_cases.ui.annotateButton.click()
    identifier = case.annotation.GetSegmentation().AddEmptySegment("", "Segment_3")
    array = np.ones((32, 32, 32), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, case.annotation, identifier, case.volume)
    with pytest.raises(ValueError, match="in 'Segment_3', which is no label of the task"):
        with_cases.panel.annotate._done_toggled(True)
    assert not with_cases.ui.doneCheckBox.checked
    assert not case.done
