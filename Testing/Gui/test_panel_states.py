"""Every button and state of the panel that needs no child process; on the real scene."""

import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from SemiSegLib.config import DEFAULT_METHOD


def states(opened):
    table = opened.ui.casesTable
    return [table.item(row, 1).text() for row in range(table.rowCount)]


def select(opened, row):
    opened.ui.casesTable.selectRow(row)
    return opened.work.case


@pytest.fixture
def answers(monkeypatch):
    """Answers to the questions that are asked: True until changed; remembers them."""
    from SemiSegModuleLib.panels import dialogs

    given = types.SimpleNamespace(yes=True, asked=[])
    monkeypatch.setattr(dialogs, "confirm", lambda text: given.asked.append(text) or given.yes)
    return given


# ---- data ----------------------------------------------------------------------------------------------------


def test_opens_in_an_empty_scene(opened):
    assert opened.ui.casesTable.rowCount == 0
    assert "Annotate at least one scan" in opened.ui.readyLabel.text
    for name in (
        "train",
        "stop",
        "resume",
        "predictAll",
        "predictOne",
        "cancelPrediction",
        "accept",
        "correct",
        "review",
        "undo",
    ):
        assert not getattr(opened.ui, f"{name}Button").enabled, name
    for name in ("export", "exportVolumes", "exportModel", "annotate", "excludeCase", "removeCase", "checkMasks"):
        assert not getattr(opened.ui, f"{name}Button").enabled, name


def test_choices_are_shown_in_words(opened):
    ui = opened.ui
    assert ui.taskComboBox.currentText == "Left atrium, LGE-MRI"
    assert (ui.timeComboBox.currentText, ui.methodComboBox.currentText) == ("about an hour", "Recommended")
    assert ui.methodLabel.text.startswith("Learns from the annotated scans first")
    assert ui.exportFormatComboBox.currentText == "Slicer segmentation (.seg.nrrd)"


def test_another_device_is_looked_for(opened, monkeypatch):
    asked = []
    monkeypatch.setattr(opened.panel.train, "look_for_device", lambda: asked.append(opened.parameters.device.value))
    opened.ui.deviceComboBox.setCurrentIndex(3)
    opened.ui.deviceComboBox.activated.emit(3)
    assert asked == ["cpu"]


def test_method_explains_itself(opened):
    opened.ui.methodComboBox.setCurrentIndex(opened.ui.methodComboBox.findText("Supervised"))
    assert opened.parameters.method.value == "supervised"
    assert opened.ui.methodLabel.text.startswith("Only the annotated scans are used")


def test_task_brings_its_labels(opened):
    opened.choose_task("cardiac-cine")
    labels = [opened.ui.labelsTable.item(row, 0).text() for row in range(opened.ui.labelsTable.rowCount)]
    assert labels == ["right ventricle", "myocardium", "left ventricle"]
    assert not opened.ui.addLabelButton.enabled


def test_custom_labels_are_added_named_and_removed(opened, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    opened.choose_task("custom")
    opened.ui.addLabelButton.click()
    opened.ui.labelsTable.item(1, 0).setText("scar")
    monkeypatch.setattr(dialogs, "choose_color", lambda current: (1, 2, 3))
    opened.ui.labelsTable.cellClicked.emit(1, 1)
    assert [(label.value, label.name) for label in opened.work.cases.labels] == [(1, "left atrium"), (2, "scar")]
    assert opened.work.cases.labels[1].color == (1, 2, 3)
    opened.ui.labelsTable.setCurrentCell(0, 0)
    opened.ui.removeLabelButton.click()
    assert [label.name for label in opened.work.cases.labels] == ["scar"]
    assert not opened.ui.removeLabelButton.enabled


def test_a_new_label_is_not_what_was_drawn_for_one_that_was_removed(opened, scans, answers):
    """Masks of it are still there: under the same number they would count as the new structure."""
    from SemiSegModuleLib.scene import segments, volumes

    opened.choose_task("custom")
    opened.logic.add_cases([scans / "images" / "atrium_001.nii.gz"])
    opened.ui.addLabelButton.click()
    case = opened.work.case
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[4:9, 4:9, 4:9] = 2
    opened.logic.annotate(case)
    to_ras = volumes.ijk_to_ras(case.volume)
    segments.replace_voxels(case.annotation, mask, to_ras, opened.work.cases.labels)
    opened.ui.labelsTable.setCurrentCell(1, 0)
    opened.ui.removeLabelButton.click()
    opened.ui.addLabelButton.click()
    opened.ui.labelsTable.item(1, 0).setText("scar")
    assert case.labels_present(opened.work.cases.labels) == []
    opened.ui.labelsTable.item(1, 0).setText("structure 2")
    assert [label.name for label in case.labels_present(opened.work.cases.labels)] == ["structure 2"]


def test_masks_of_a_folder_that_names_no_labels_count_as_those_of_the_study(opened, scans):
    opened.choose_task("custom")
    opened.ui.labelsTable.item(0, 0).setText("atrium")
    opened.panel.data.add_folder(scans)
    assert [label.name for label in opened.work.cases.labels] == ["atrium"]
    assert states(opened) == ["annotated", "annotated", "unlabeled", "unlabeled"]


def test_a_label_that_is_drawn_is_not_removed_unasked(opened, scans, answers):
    """Nobody would see that its masks count no more."""
    opened.choose_task("custom")
    opened.panel.data.add_folder(scans)
    opened.ui.addLabelButton.click()
    opened.ui.removeLabelButton.click()  # the last one, which is drawn nowhere
    assert answers.asked == []
    opened.ui.addLabelButton.click()
    opened.ui.labelsTable.setCurrentCell(0, 0)
    answers.yes = False
    opened.ui.removeLabelButton.click()
    assert len(opened.work.cases.labels) == 2
    assert answers.asked[0].startswith("2 scans have left atrium")
    answers.yes = True
    opened.ui.removeLabelButton.click()
    assert len(opened.work.cases.labels) == 1


def test_a_folder_that_is_added_again_is_told_of(with_cases, scans, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    told = []
    monkeypatch.setattr(dialogs, "tell", told.append)
    with_cases.panel.data.add_folder(scans)
    assert with_cases.ui.casesTable.rowCount == 4
    assert "atrium_004" in told[0][0]


def test_two_labels_of_one_name_are_refused(opened):
    opened.choose_task("custom")
    opened.ui.addLabelButton.click()
    opened.ui.labelsTable.blockSignals(True)
    opened.ui.labelsTable.item(1, 0).setText("left atrium")
    opened.ui.labelsTable.blockSignals(False)
    with pytest.raises(ValueError, match="differ"):
        opened.panel.data._label_renamed(1, 0)
    assert opened.ui.labelsTable.item(1, 0).text() == "structure 2"


def test_folder_brings_scans_and_annotations(with_cases):
    assert states(with_cases) == ["annotated", "annotated", "unlabeled", "unlabeled"]
    row = [with_cases.ui.casesTable.item(0, column).text() for column in range(5)]
    assert row[0] == "atrium_001"
    assert row[2] == "left atrium"
    assert float(row[3].removesuffix(" ml")) > 10
    assert with_cases.ui.trainButton.enabled
    assert "2 annotated and 2 unlabeled" in with_cases.ui.readyLabel.text


def test_files_are_added(opened, scans, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    files = sorted((scans / "images").iterdir())[2:]
    monkeypatch.setattr(dialogs, "choose_files", lambda title: files)
    opened.ui.addFilesButton.click()
    assert states(opened) == ["unlabeled", "unlabeled"]


def test_cancelling_a_dialog_changes_nothing(opened, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    monkeypatch.setattr(dialogs, "choose_files", lambda title: [])
    monkeypatch.setattr(dialogs, "choose_folder", lambda title, start=None: None)
    monkeypatch.setattr(dialogs, "choose_model", lambda: None)
    for name in ("addFiles", "addFolder", "loadModel", "openRun"):
        getattr(opened.ui, f"{name}Button").click()
    assert len(opened.work.cases) == 0


def test_a_folder_without_scans_is_told(opened, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no scans found"):
        opened.panel.data.add_folder(tmp_path / "empty")
    assert not opened.panel.busy.active


def test_volumes_of_the_scene_are_added(opened, scans):
    import slicer

    logic = slicer.modules.volumes.logic()
    first, second = (
        logic.AddArchetypeVolume(str(scans / "images" / f"atrium_00{n}.nii.gz"), f"scan {n}", 0) for n in (1, 2)
    )
    opened.panel.data.volumes.choose(first)
    opened.ui.addVolumeButton.click()
    assert opened.work.case.volume is first
    opened.ui.addAllVolumesButton.click()
    assert [case.volume.GetName() for case in opened.work.cases] == ["scan 1", "scan 2"]
    assert second.GetID() in [case.volume.GetID() for case in opened.work.cases]


def test_only_what_can_be_a_scan_is_offered(with_prediction, mrml):
    """Not our own maps, not label maps, not what is in the study already."""
    import slicer

    box = with_prediction.ui.volumeComboBox
    mrml.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "label map")
    with_prediction.qt.QApplication.processEvents()
    assert [box.itemText(number) for number in range(box.count)] == ["no other scan is loaded"]
    volume = with_prediction.work.case.volume
    other = slicer.modules.volumes.logic().CloneVolume(mrml.scene, volume, "another scan")
    with_prediction.qt.QApplication.processEvents()
    assert [box.itemText(number) for number in range(box.count)] == ["another scan"]
    with_prediction.ui.addVolumeButton.click()
    assert with_prediction.work.case.volume is other
    assert box.currentText == "no other scan is loaded"


def test_adding_without_a_choice_is_told(opened):
    with pytest.raises(ValueError, match="Choose a scan first"):
        opened.panel.data.add_volume()


def test_synthetic_study_needs_no_internet(opened):
    actions = opened.ui.addSampleButton.menu().actions()
    assert "no internet needed" in actions[0].text
    actions[0].trigger()
    assert states(opened).count("annotated") == 4
    assert states(opened).count("unlabeled") == 6


def test_loading_can_be_cancelled(opened, scans):
    opened.panel.busy.cancel()

    def cancel_soon(done, count, name):
        if done == 1:
            opened.ui.busyCancelButton.click()

    original = opened.panel.busy._progress
    opened.panel.busy._progress = lambda *report: (cancel_soon(*report), original(*report))
    opened.panel.data.add_folder(scans)
    assert 0 < len(opened.work.cases) < 4
    assert opened.ui.dataCollapsibleButton.enabled
    assert not opened.panel.busy.active


def test_nothing_is_offered_for_a_scan_that_is_left_out(with_cases, a_run):
    """A click would only say that there is no scan."""
    ui = with_cases.ui
    give_model(a_run, "left atrium")
    with_cases.parameters.modelFile = str(a_run.last_model)
    select(with_cases, 0)
    offered = ui.predictOneButton, ui.predictPartButton, ui.refineButton
    assert all(button.enabled for button in offered)
    ui.excludeCaseButton.click()
    assert not any(button.enabled for button in offered)
    assert ui.suggestButton.enabled
    for row in (2, 3):
        select(with_cases, row)
        ui.excludeCaseButton.click()
    assert not ui.suggestButton.enabled, "the other one is done"


def test_excluding_and_including_again(with_cases):
    select(with_cases, 3)
    with_cases.ui.excludeCaseButton.click()
    assert states(with_cases)[3] == "excluded"
    assert "1 unlabeled" in with_cases.ui.readyLabel.text
    with_cases.ui.excludeCaseButton.click()
    assert states(with_cases)[3] == "unlabeled"
    with_cases.ui.undoButton.click()
    assert states(with_cases)[3] == "excluded"
    with_cases.ui.undoButton.click()
    assert states(with_cases)[3] == "unlabeled"


def test_removing_keeps_the_scan_and_can_be_taken_back(with_prediction):
    """With the prediction, its maps and the region that went with it."""
    from SemiSegModuleLib.scene import segments

    opened, case = with_prediction, with_prediction.work.case
    volume, identifier, labels = case.volume, case.identifier, with_prediction.work.cases.labels
    opened.ui.addRegionButton.click()
    box = case.box()
    mask = segments.voxels_on_grid(case.prediction, volume, labels)
    opened.ui.removeCaseButton.click()
    assert [case.name for case in opened.work.cases] == ["atrium_001", "atrium_002", "atrium_004"]
    assert opened.work.case.name == "atrium_004"
    assert volume.GetScene() is not None
    assert opened.ui.undoButton.toolTip == "Take back: removing atrium_003"
    opened.ui.undoButton.click()
    again = opened.work.case
    assert (again.identifier, again.state.value, again.box()) == (identifier, "predicted", box)
    assert again.volume is volume
    assert list(again.sdms) == [1]
    assert (segments.voxels_on_grid(again.prediction, volume, labels) == mask).all()
    assert again.prediction.GetDisplayNode() is not None
    assert states(opened).count("predicted") == 1
    assert not opened.ui.undoButton.enabled


def test_selecting_a_row_shows_the_scan(with_cases, mrml):
    composite = mrml.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    case = select(with_cases, 2)
    assert composite.GetBackgroundVolumeID() == case.volume.GetID()
    case = select(with_cases, 0)
    assert composite.GetBackgroundVolumeID() == case.volume.GetID()
    assert case.annotation.GetDisplayNode().GetVisibility()


def test_a_change_reaches_only_what_it_concerns(with_prediction):
    """Cells that are set anew are other items: a slider leaves all of them, a case only replaces its own row."""
    table = with_prediction.ui.casesTable

    def cells():
        return [[table.item(row, column) for column in range(6)] for row in range(table.rowCount)]

    before = cells()
    with_prediction.ui.maskOpacitySlider.value = 0.3
    with_prediction.ui.iterationsSpinBox.value = 77
    select(with_prediction, 1)
    assert cells() == before
    select(with_prediction, 3)
    with_prediction.ui.excludeCaseButton.click()
    after = cells()
    assert after[:3] == before[:3]
    assert after[3] != before[3]


# ---- annotate ------------------------------------------------------------------------------------------------


def test_annotating_makes_the_segments_and_opens_the_editor(with_cases):
    case = select(with_cases, 2)
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
    select(with_cases, 2)
    with_cases.ui.annotateButton.click()
    with pytest.raises(ValueError, match="Nothing is drawn"):
        with_cases.panel.annotate._done_toggled(True)
    assert not with_cases.ui.doneCheckBox.checked


def test_done_is_taken_back_and_given_again(with_cases):
    select(with_cases, 0)
    assert with_cases.ui.doneCheckBox.checked
    with_cases.ui.doneCheckBox.click()
    assert states(with_cases)[0] == "not done"
    assert "1 annotated and 3 unlabeled" in with_cases.ui.readyLabel.text
    with_cases.ui.doneCheckBox.click()
    assert states(with_cases)[0] == "annotated"


def test_only_some_slices_are_annotated(with_cases):
    case = select(with_cases, 0)
    with_cases.ui.partialComboBox.setCurrentIndex(1)
    assert case.partial == "axial"
    select(with_cases, 1)
    assert with_cases.ui.partialComboBox.currentIndex == 0
    select(with_cases, 0)
    assert with_cases.ui.partialComboBox.currentIndex == 1


def limit_to(opened, case, size_mm):
    """Make the box by its button and pull its faces in to this size around the same centre."""
    opened.ui.addRegionButton.click()
    case.region.SetSize(size_mm, size_mm, size_mm)


def test_slices_can_be_chosen_before_anything_is_drawn(with_cases):
    """Else the choice is lost without a word, and what nobody looked at counts as background."""
    case = select(with_cases, 3)
    assert case.annotation is None
    with_cases.choose(with_cases.ui.partialComboBox, "only the axial slices with something drawn")
    assert (case.partial, with_cases.ui.partialComboBox.currentIndex) == ("axial", 1)
    assert with_cases.panel.annotate.editor.segmentationNode() is case.annotation
    assert case.state.value == "unlabelled"


def test_a_region_is_made_fitted_again_and_removed(with_cases):
    ui, case = with_cases.ui, select(with_cases, 2)
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
    select(with_cases, 2)
    with_cases.ui.addRegionButton.click()
    other = select(with_cases, 3)
    assert other.region is None
    assert not with_cases.ui.removeRegionButton.enabled
    select(with_cases, 2)
    assert with_cases.ui.removeRegionButton.enabled


def test_what_is_drawn_outside_the_region_is_told(with_cases):
    from SemiSegModuleLib.scene import segments

    case, labels = select(with_cases, 0), with_cases.work.cases.labels
    drawn = segments.voxels_on_grid(case.annotation, case.volume, labels)
    limit_to(with_cases, case, 30.0)
    outside = drawn.sum() - drawn[case.box().slices].sum()
    assert outside > 0
    assert f"{outside} annotated voxels lie outside" in with_cases.ui.regionLabel.text
    assert (segments.voxels_on_grid(case.annotation, case.volume, labels) == drawn).all()


def test_a_scan_whose_voxels_are_gone_disturbs_nothing(with_cases):
    case = select(with_cases, 3)
    with_cases.ui.addRegionButton.click()
    case.volume.SetAndObserveImageData(None)
    select(with_cases, 0)
    select(with_cases, 3)
    assert with_cases.ui.regionLabel.text.startswith("'atrium_004' has no voxels any more")
    assert with_cases.ui.casesTable.item(3, 0).icon().isNull()


def test_removing_the_region_of_a_done_scan_is_asked_for(with_cases, answers):
    case = select(with_cases, 0)
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
    case = select(with_cases, 3)
    with_cases.ui.addRegionButton.click()
    case.region.SetCenterWorld(1e4, 0, 0)
    with pytest.raises(ValueError, match="'atrium_004' lies outside the scan"):
        with_cases.panel.train.train()
    assert with_cases.logic.training.process is None


# ---- train ---------------------------------------------------------------------------------------------------


def test_holding_out_too_many_scans_is_told(with_cases):
    with_cases.ui.validationSpinBox.value = 2
    assert "cannot be kept aside" in with_cases.ui.readyLabel.text
    assert not with_cases.ui.trainButton.enabled
    with_cases.ui.validationSpinBox.value = 1
    assert "Kept aside to measure with: 1." in with_cases.ui.readyLabel.text
    assert with_cases.ui.trainButton.enabled


def test_wrong_settings_start_nothing(with_cases):
    with_cases.parameters.extraSettings = "training.iteration=3"
    with pytest.raises(ValueError, match="Did you mean"):
        with_cases.panel.train.train()
    assert not (with_cases.work.folder).exists()
    assert with_cases.ui.stateLabel.text == "No training yet"


def test_missing_packages_are_asked_for_before_training(with_cases, answers, monkeypatch):
    from SemiSegModuleLib.processes import dependencies

    monkeypatch.delenv("SEMISEG_PYTHON")
    monkeypatch.setattr(dependencies, "missing", lambda: ["no_such_package>=1"])
    answers.yes = False
    with pytest.raises(dependencies.DependencyError, match="no_such_package"):
        with_cases.panel.train.train()
    assert "no_such_package>=1" in answers.asked[0]
    assert with_cases.logic.training.process is None


@pytest.mark.parametrize("work", ["train", "predictAll", "judge", "suggest", "refine"])
def test_work_that_does_not_start_leaves_no_copies_of_scans(with_prediction, monkeypatch, tmp_path, work):
    """Cancelled while they are written, or without an interpreter to work with them."""
    opened, written = with_prediction, []
    button = getattr(opened.ui, f"{work}Button")
    opened.parameters.modelFile = "left-atrium-lge"
    select(opened, 2 if work == "judge" else 0)
    assert button.enabled
    original = opened.panel.busy._progress

    def cancel_after_the_first(done, count, name):
        if count and done == count:
            written.extend(file for file in opened.work.folder.rglob("images/*") if file.is_file())
            opened.ui.busyCancelButton.click()
        original(done, count, name)

    def folders():
        kinds = ("training-*", "predictions/*", "suggestions/*", "refinements/*")
        return [path for kind in kinds for path in opened.work.folder.glob(kind)]

    monkeypatch.setattr(opened.panel.busy, "_progress", cancel_after_the_first)
    button.click()
    assert written
    assert folders() == []
    monkeypatch.setattr(opened.panel.busy, "_progress", original)
    monkeypatch.setenv("SEMISEG_PYTHON", str(tmp_path / "nowhere"))
    panel = opened.panel
    clicked = {
        "train": panel.train.train,
        "predictAll": panel.results.predict_all,
        "judge": panel.results.judge,
        "suggest": panel.loop.suggest,
        "refine": panel.loop.refine,
    }
    with pytest.raises(OSError, match="nowhere"):
        clicked[work]()
    assert folders() == []
    assert not opened.logic.active


def test_wheels_folder_is_remembered_on_this_computer(opened, tmp_path):
    from SemiSegModuleLib.logic.study import setting

    opened.ui.wheelsPathLineEdit.currentPath = str(tmp_path)
    assert setting("WheelsFolder") == str(tmp_path)


@pytest.fixture
def a_run(tmp_path):
    """A run folder as another Slicer may have left it: two iterations, one of them done again after a crash."""
    from SemiSegLib.runs import RunFolder

    run = RunFolder.create(tmp_path / "a run")
    for iteration, total in ((1, 3.0), (2, 2.5)):
        run.event("iteration", iteration=iteration, total=total, losses={"dice": total - 1})
    run.event("resumed", iteration=1)
    run.event("iteration", iteration=2, total=2.0, losses={"dice": 1.0, "consistency": 0.5})
    run.event("validation", iteration=2, dsc=0.5, per_class={"left atrium": 0.5}, cases={})
    run.set_status("stopped", iteration=2, iterations=4, best_dsc=0.5)
    run.cases_file.write_text("{}")
    return run


def curve(opened, kind, name):
    """(iteration, value) pairs of a curve that its chart shows."""
    chart = opened.logic.training.curves.charts[kind]
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    table = next(s for s in series if s.GetYColumnName() == name).GetTableNode().GetTable()
    columns = [table.GetColumnByName("iteration"), table.GetColumnByName(name)]
    return [tuple(column.GetValue(row) for column in columns) for row in range(table.GetNumberOfRows())]


def test_a_training_is_opened_by_its_folder(opened, a_run, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    monkeypatch.setattr(dialogs, "choose_folder", lambda title, start=None: a_run.path)
    opened.ui.openRunButton.click()
    text = "Stopped; it can be resumed, iteration 2 of 4, best validation DSC 0.500"
    assert opened.ui.stateLabel.text == text
    assert opened.ui.resumeButton.enabled
    assert opened.ui.showCurvesButton.enabled
    assert not opened.ui.stopButton.enabled


def give_model(run, label, iteration=2):
    """A model file of the run that segments a label of this name, in the place of an earlier one."""
    import json

    from SemiSegLib.config import Settings

    settings = Settings().to_dict()
    settings["data"]["labels"] = [{"value": 1, "name": label, "color": [1, 2, 3]}]
    settings["training"]["patch_size"] = [48, 48, 32]  # every training has chosen one
    card = json.dumps({"settings": settings, "iteration": iteration, "scores": {}})
    header = json.dumps({"__metadata__": {"card": card}}).encode()
    run.last_model.parent.mkdir(exist_ok=True)
    run.last_model.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(("label", "used"), [("left atrium", True), ("pancreas", False)])
def test_the_model_of_a_training_is_used_where_it_fits(with_cases, a_run, label, used):
    give_model(a_run, label)
    with_cases.logic.training.attach(a_run.path)
    assert with_cases.work.model == (a_run.last_model if used else None)
    with_cases.parameters.modelFile = str(a_run.last_model)
    assert ("Starts from the model in use" in with_cases.ui.readyLabel.text) == used
    with_cases.ui.continueCheckBox.checked = False
    assert "Starts from" not in with_cases.ui.readyLabel.text


def test_the_model_that_somebody_chose_after_a_training_is_in_use_when_the_scene_is_opened_again(
    with_cases, a_run, mrml, tmp_path
):
    import shutil

    give_model(a_run, "left atrium")
    with_cases.logic.training.attach(a_run.path)
    chosen = tmp_path / "chosen.safetensors"
    shutil.copyfile(a_run.last_model, chosen)
    with_cases.work.use_model(chosen)
    mrml.save(tmp_path / "work.mrb")
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "work.mrb")
    assert with_cases.logic.training.process.run.path == a_run.path
    assert with_cases.work.model == chosen


def test_the_model_of_a_training_that_ended_meanwhile_is_used(with_cases, a_run, mrml, tmp_path):
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        with_cases.logic.training.attach(a_run.path)
        mrml.save(tmp_path / "work.mrb")
        mrml.scene.Clear(0)
        give_model(a_run, "left atrium")
        a_run.set_status("finished", iteration=4, iterations=4)
    mrml.load(tmp_path / "work.mrb")
    assert with_cases.work.model == a_run.last_model


def test_a_training_that_goes_on_shows_what_its_model_has_become(with_cases, a_run):
    """The file of the model keeps its name when the training is resumed."""
    give_model(a_run, "left atrium", iteration=2)
    with_cases.logic.training.attach(a_run.path)
    assert "2 iterations" in with_cases.ui.modelLabel.text
    with a_run.lock():
        a_run.set_status("training", iteration=3, iterations=4)
        with_cases.logic.training.poll()
        give_model(a_run, "left atrium", iteration=4)
        a_run.set_status("finished", iteration=4, iterations=4)
    with_cases.logic.training.poll()
    assert with_cases.logic.training.process.state == "finished"
    assert "4 iterations" in with_cases.ui.modelLabel.text


def test_what_comes_next_is_said_of_one_scan_as_of_several(with_prediction):
    assert with_prediction.ui.guideLabel.text.startswith("1 mask waits: ")


def test_five_minutes_are_offered_where_a_model_is_gone_on_from(with_cases, a_run):
    ui = with_cases.ui
    with_cases.choose(ui.timeComboBox, "about 5 minutes, after corrections")
    assert "choose a longer time" in ui.readyLabel.text
    assert not ui.trainButton.enabled
    give_model(a_run, "left atrium")
    with_cases.logic.training.attach(a_run.path)
    assert "Starts from the model in use" in ui.readyLabel.text
    assert ui.trainButton.enabled
    ui.continueCheckBox.checked = False
    assert not ui.trainButton.enabled
    with_cases.choose(ui.timeComboBox, "about 15 minutes, for a first look")
    assert ui.trainButton.enabled


def test_a_loaded_model_brings_its_labels(opened, a_run, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    give_model(a_run, "pancreas")
    monkeypatch.setattr(dialogs, "choose_model", lambda: a_run.last_model)
    opened.ui.loadModelButton.click()
    assert opened.ui.modelLabel.text.startswith(f"pancreas; {DEFAULT_METHOD}, 2 iterations")
    assert [label.name for label in opened.work.cases.labels] == ["pancreas"]


def test_a_model_that_comes_with_semiseg_is_chosen_by_name(with_cases, a_run, tmp_path, monkeypatch):
    """The scene keeps the name: in another Slicer the file lies elsewhere."""
    give_model(a_run, "left atrium")
    monkeypatch.setenv("SEMISEG_MODELS", str(a_run.last_model.parent))
    with_cases.close()
    with_cases.__init__(with_cases.qt, with_cases.module)
    assert with_cases.work.model is None
    actions = {action.text: action for action in with_cases.ui.namedModelButton.menu().actions()}
    actions["last"].trigger()
    assert with_cases.parameters.modelFile == "last"
    assert with_cases.work.model == a_run.last_model
    assert with_cases.ui.modelLabel.text.startswith(f"left atrium; {DEFAULT_METHOD}, 2 iterations")
    assert "Starts from the model in use" in with_cases.ui.readyLabel.text
    elsewhere = a_run.last_model.parent.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("SEMISEG_MODELS", str(elsewhere))
    assert with_cases.work.model == elsewhere / "last.safetensors"


@pytest.mark.parametrize("button", ["resumeButton", "checkInstallationButton"])
def test_nothing_can_be_pressed_while_packages_are_installed(opened, a_run, answers, monkeypatch, button):
    """The window lives meanwhile: a second click would start a second installation."""
    from SemiSegModuleLib.processes import dependencies

    ui, done, enabled = opened.ui, [], []
    sections = ui.dataCollapsibleButton, ui.trainCollapsibleButton, ui.resultsCollapsibleButton

    def pip(arguments):
        enabled.extend(section.enabled for section in sections)
        assert ui.busyWidget.isVisibleTo(opened.parent)
        if cancelled:
            ui.busyCancelButton.click()

    monkeypatch.delenv("SEMISEG_PYTHON")
    monkeypatch.setattr(dependencies, "missing", lambda: ["some-package>=1"])
    monkeypatch.setattr(dependencies, "is_installed", lambda requirement: True)
    monkeypatch.setattr(dependencies, "pip_in_child", pip)
    opened.logic.training.attach(a_run.path)
    monkeypatch.setattr(opened.logic.training, "resume", lambda: done.append("resumed"))
    monkeypatch.setattr(opened.logic.installation, "look_for_device", lambda device: done.append("looked"))
    for cancelled in (True, False):
        getattr(ui, button).click()
        assert enabled == [False] * 3
        assert len(done) == (not cancelled)
        assert all(section.enabled for section in sections)
        enabled.clear()


def test_memory_of_the_graphics_card_is_told_while_it_is_used(opened, a_run):
    """The trainer's own status file; a trainer holds the lock."""
    with a_run.lock():
        memory = {"device_memory": int(5.1 * 2**30), "device_memory_total": 8 * 2**30}
        a_run.set_status("training", iteration=2, iterations=4, eta_seconds=3.0, **memory)
        opened.logic.training.attach(a_run.path)
        assert ", GPU memory 5.1 of 8.0 GB" in opened.ui.stateLabel.text
        a_run.set_status("training", iteration=3, iterations=4)  # on the CPU
        opened.logic.training.poll()
        assert "GPU" not in opened.ui.stateLabel.text
        a_run.set_status("stopped", iteration=4, iterations=4, **memory)
    opened.logic.training.poll()
    assert "GPU" not in opened.ui.stateLabel.text


def test_the_training_of_a_saved_study_is_found(opened, a_run, mrml, tmp_path):
    opened.logic.training.attach(a_run.path)
    mrml.save(tmp_path / "work.mrb")
    opened.close()
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "work.mrb")
    opened.__init__(opened.qt, opened.module)
    assert opened.ui.stateLabel.text.startswith("Stopped; it can be resumed")


def test_a_new_study_takes_nothing_over_from_another_one(with_cases, a_run, mrml, scans):
    """Neither its training nor its model, though both are of this computer and the labels are the same."""
    give_model(a_run, "left atrium")
    with_cases.logic.training.attach(a_run.path)
    assert "Starts from the model in use" in with_cases.ui.readyLabel.text
    with_cases.close()
    mrml.scene.Clear(0)
    with_cases.__init__(with_cases.qt, with_cases.module)
    with_cases.panel.data.add_folder(scans)
    assert with_cases.ui.stateLabel.text == "No training yet"
    assert with_cases.work.model is None
    assert "Starts from" not in with_cases.ui.readyLabel.text


def test_a_training_of_another_study_that_runs_is_named(opened, a_run, mrml):
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        opened.logic.training.attach(a_run.path)
        opened.close()
        mrml.scene.Clear(0)
        opened.__init__(opened.qt, opened.module)
        assert opened.logic.training.process is None
        assert str(a_run.path) in opened.ui.stateLabel.text
        assert not opened.ui.stopButton.enabled


def test_the_page_of_a_training_is_opened(opened, a_run, monkeypatch):
    opened.logic.training.attach(a_run.path)
    assert not opened.ui.reportButton.enabled
    a_run.report.mkdir()
    (a_run.report / "index.html").write_text("<html></html>")
    opened.logic.training.poll()
    shown = []
    monkeypatch.setattr(opened.qt.QDesktopServices, "openUrl", lambda url: shown.append(url.toLocalFile()))
    opened.ui.reportButton.click()
    assert shown == [str(a_run.report / "index.html")]


def test_no_other_training_is_opened_while_one_runs(opened, a_run, tmp_path):
    """Nobody would watch the one that runs, and Train would start a second one beside it."""
    from SemiSegLib.runs import RunFolder

    other = RunFolder.create(tmp_path / "other")
    other.set_status("stopped", iteration=2, iterations=4)
    opened.logic.training.attach(a_run.path)
    opened.logic.training.process.state = "training"
    with pytest.raises(ValueError, match="A training runs"):
        opened.logic.training.attach(other.path)
    assert opened.logic.training.process.run.path == a_run.path
    assert opened.work.cases.run_folder == a_run.path


def test_a_folder_that_is_no_training_is_told(opened, tmp_path, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    monkeypatch.setattr(dialogs, "choose_folder", lambda title, start=None: tmp_path)
    with pytest.raises(ValueError, match="is not a run folder"):
        opened.panel.train.open_run()


def test_curves_show_what_counts(opened, a_run):
    opened.logic.training.attach(a_run.path)
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)]
    consistency = curve(opened, "loss", "consistency")
    assert consistency[1] == (2.0, 0.5)
    assert consistency[0][1] != consistency[0][1]  # not a number: this term came later
    a_run.event("validation", iteration=4, dsc=0.6, per_class={"left atrium": 0.6}, cases={})
    opened.logic.training.poll()
    assert curve(opened, "dsc", "mean DSC") == [(2.0, 0.5), (4.0, 0.6)]


def test_an_empty_chart_says_why_it_is_empty(opened, a_run):
    opened.logic.training.attach(a_run.path)  # with one score so far
    charts = opened.logic.training.curves.charts
    assert "kept aside" in charts["dsc"].GetTitle()
    assert charts["loss"].GetTitle() == "SemiSeg: training loss"
    a_run.event("validation", iteration=4, dsc=0.6, per_class={"left atrium": 0.6}, cases={})
    opened.logic.training.poll()
    assert charts["dsc"].GetTitle() == "SemiSeg: validation DSC"


def test_a_curve_is_shown_from_its_second_point_on(opened, a_run):
    """Slicer's plot view prints an error at every render of a line of one point."""
    opened.logic.training.attach(a_run.path)
    chart = opened.logic.training.curves.charts["dsc"]
    assert chart.GetNumberOfPlotSeriesNodes() == 0
    a_run.event("validation", iteration=4, dsc=0.6, per_class={"left atrium": 0.6}, cases={})
    opened.logic.training.poll()
    assert chart.GetNumberOfPlotSeriesNodes() == 1


@pytest.mark.parametrize(("state", "iteration"), [("reporting", 4), ("preparing", 0), ("training", 4)])
def test_no_speed_is_told_where_there_is_none(opened, a_run, state, iteration):
    with a_run.lock():
        a_run.set_status(state, iteration=iteration, iterations=4, eta_seconds=0.0)
        opened.logic.training.attach(a_run.path)
        assert "each" not in opened.ui.stateLabel.text
        assert "left" not in opened.ui.stateLabel.text


def test_the_legend_has_room_beside_the_curves(opened, a_run):
    """Slicer puts it into the upper right corner of the view."""
    opened.logic.training.attach(a_run.path)
    for chart in opened.logic.training.curves.charts.values():
        assert not chart.GetXAxisRangeAuto()
        assert chart.GetXAxisRange() == (0.0, pytest.approx(2 * 1.3))


def test_curves_are_not_doubled_by_entering_again(opened, a_run):
    opened.logic.training.attach(a_run.path)
    opened.widget.exit()
    opened.widget.enter()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)]


def test_curves_go_on_while_events_come(opened, a_run):
    opened.logic.training.attach(a_run.path)
    a_run.event("iteration", iteration=3, total=1.5, losses={"dice": 0.5, "consistency": 0.2})
    opened.logic.training.poll()
    assert curve(opened, "loss", "total")[-1] == (3.0, 1.5)
    a_run.event("resumed", iteration=2)
    a_run.event("iteration", iteration=3, total=1.4, losses={"dice": 0.4, "consistency": 0.2})
    opened.logic.training.poll()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.4)]


def test_plot_view_shows_the_chosen_curve(opened, a_run, mrml):
    view = mrml.scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    opened.logic.training.attach(a_run.path)
    opened.ui.showCurvesButton.click()
    assert view.GetPlotChartNodeID() == opened.logic.training.curves.charts["loss"].GetID()
    opened.ui.curveComboBox.setCurrentIndex(1)
    opened.ui.curveComboBox.activated.emit(1)
    assert view.GetPlotChartNodeID() == opened.logic.training.curves.charts["dsc"].GetID()


def test_curves_are_not_saved_but_drawn_again(opened, a_run, mrml, tmp_path):
    opened.logic.training.attach(a_run.path)
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)]
    assert mrml.scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 2


def test_closing_the_scene_from_another_module_disturbs_nothing(opened, a_run, mrml, tmp_path):
    opened.logic.training.attach(a_run.path)
    mrml.save(tmp_path / "work.mrb")
    opened.widget.exit()
    opened.parent.__dict__["isEntered"] = False
    mrml.scene.Clear(0)
    a_run.event("iteration", iteration=3, total=1.5, losses={})
    opened.logic.training.poll()
    assert mrml.scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 0
    mrml.load(tmp_path / "work.mrb")
    opened.parent.__dict__["isEntered"] = True
    opened.widget.enter()
    opened.logic.training.poll()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.5)]


def test_a_training_whose_study_was_closed_gives_the_next_one_no_model(opened, a_run, mrml, scans):
    """It goes on and is named; the new study has the same labels and knows nothing of its model."""
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        opened.logic.training.attach(a_run.path)
        mrml.scene.Clear(0)
        opened.panel.data.add_folder(scans)
        assert opened.ui.stateLabel.text.endswith(f"Open training… shows it: {a_run.path}")
        assert not opened.ui.stopButton.enabled
        assert opened.ui.trainButton.enabled
    give_model(a_run, "left atrium")
    a_run.set_status("finished", iteration=4, iterations=4)
    opened.logic.training.poll()
    assert opened.work.model is None


def test_a_training_on_a_disk_that_was_away_is_watched_again(opened, a_run):
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        opened.logic.training.attach(a_run.path)
        away = a_run.path.rename(a_run.path.with_name("away"))
        opened.logic.training.poll()
        assert not opened.ui.stopButton.enabled
        away.rename(a_run.path)
        opened.widget.exit()
        opened.widget.enter()
        opened.wait_until(lambda: opened.ui.stateLabel.text.startswith("Training, iteration 2 of 4"), 20)


def test_curves_that_somebody_deleted_are_drawn_again(opened, a_run, mrml):
    import slicer

    opened.logic.training.attach(a_run.path)
    for kind in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):
        for node in slicer.util.getNodesByClass(kind):
            mrml.scene.RemoveNode(node)
        assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)], kind
        assert opened.logic.training.curves.charts["loss"].GetScene() is not None
    a_run.event("iteration", iteration=3, total=1.5, losses={})
    opened.logic.training.poll()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.5)]


# ---- results and export --------------------------------------------------------------------------------------


def test_prediction_is_shown_and_can_be_reviewed(with_prediction):
    assert states(with_prediction)[2] == "predicted"
    assert with_prediction.ui.acceptButton.enabled
    assert with_prediction.ui.showSdmCheckBox.enabled
    assert not with_prediction.ui.showProbabilityCheckBox.enabled
    assert with_prediction.ui.resultLabel.text == "atrium_003: predicted"


def test_nothing_is_said_of_a_prediction_that_somebody_deleted(with_prediction, mrml):
    from SemiSegModuleLib.scene.records import Expected, Quality

    case = with_prediction.work.case
    case.quality, case.confidence, case.dsc = Quality(Expected(0.9, 0.8, 0.95), {}), 0.7, 0.8
    mrml.scene.RemoveNode(case.prediction)
    assert (case.quality, case.confidence, case.dsc) == (None, None, None)
    row = [with_prediction.ui.casesTable.item(2, column).text() for column in range(6)]
    assert row == ["atrium_003", "unlabeled", "", "", "", ""]
    assert with_prediction.ui.resultLabel.text == "atrium_003: unlabeled"


def test_masks_and_box_of_a_scan_that_somebody_deleted_are_no_longer_drawn(with_prediction, mrml):
    """They would lie over the next scan."""
    case = with_prediction.work.case
    with_prediction.ui.addRegionButton.click()
    displays = case.prediction.GetDisplayNode(), case.region.GetDisplayNode()
    assert all(display.GetVisibility() for display in displays)
    mrml.scene.RemoveNode(case.volume)
    assert not any(display.GetVisibility() for display in displays)


def test_a_prediction_for_another_part_of_the_scan_says_so(with_prediction):
    case = with_prediction.work.case
    limit_to(with_prediction, case, 30.0)
    assert with_prediction.ui.resultLabel.text == "atrium_003: predicted, for another part of the scan"
    assert "predict again" in with_prediction.ui.regionLabel.text
    assert with_prediction.ui.acceptButton.enabled
    with_prediction.ui.removeRegionButton.click()
    assert with_prediction.ui.resultLabel.text == "atrium_003: predicted"


def test_a_part_of_a_scan_is_chosen_from_a_menu(with_prediction, monkeypatch):
    """Nothing is predicted here: what would be is looked at."""
    from SemiSegLib.errors import SemiSegError

    opened, started = with_prediction, []
    assert not opened.ui.predictPartButton.enabled  # there is no model
    opened.work.use_model("left-atrium-lge")
    assert opened.ui.predictPartButton.enabled
    monkeypatch.setattr(opened.logic.predicting, "start", lambda cases, progress, part: started.append(part))
    actions = opened.ui.predictPartButton.menu().actions()
    assert len(actions) == 7
    with pytest.raises(SemiSegError, match="make one in section 2"):
        opened.panel.results.predict_part("box")
    limit_to(opened, opened.work.case, 30.0)
    for action in actions:
        action.trigger()
    assert started[0] == opened.work.case.box()
    assert [sorted(part.size)[0] for part in started[1:4]] == [1, 1, 1]
    assert [sorted(part.size)[0] for part in started[4:]] == [8, 6, 6]  # voxels of 2.5 and 3.2 mm in 20 mm


def test_overlays_follow_the_panel(with_prediction, mrml):
    composite = mrml.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    case = with_prediction.work.case
    with_prediction.ui.showSdmCheckBox.click()
    with_prediction.ui.sdmOpacitySlider.value = 0.7
    assert composite.GetForegroundVolumeID() == case.sdms[1].GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.7)
    with_prediction.ui.maskOpacitySlider.value = 0.2
    assert case.prediction.GetDisplayNode().GetOpacity2DFill() == pytest.approx(0.2)
    with_prediction.ui.showMaskCheckBox.click()
    assert not case.prediction.GetDisplayNode().GetVisibility()
    with_prediction.ui.showSdmCheckBox.click()
    assert composite.GetForegroundVolumeID() is None


def test_surfaces_are_made_when_somebody_wants_them(with_prediction):
    segmentation = with_prediction.work.case.prediction.GetSegmentation()
    assert not segmentation.ContainsRepresentation("Closed surface")
    with_prediction.ui.show3dCheckBox.click()
    assert segmentation.ContainsRepresentation("Closed surface")


def test_while_a_prediction_is_corrected_it_is_a_thin_line(with_prediction):
    with_prediction.ui.annotateButton.click()  # the empty annotation is there before
    with_prediction.ui.correctButton.click()
    display = with_prediction.work.case.prediction.GetDisplayNode()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 1)
    assert display.GetSliceIntersectionThickness() == 1


def test_the_annotation_of_the_last_case_removed_is_no_longer_drawn(with_cases, answers):
    annotations = [case.annotation for case in with_cases.work.cases if case.annotation]
    for _ in range(4):
        select(with_cases, 0)
        with_cases.ui.removeCaseButton.click()
    assert [node.GetDisplayNode().GetVisibility() for node in annotations] == [0, 0]


def test_confidence_and_agreement_are_two_things(with_prediction):
    """The one is known before anybody looks, the other once there is something to compare with."""
    case, table = with_prediction.work.case, with_prediction.ui.casesTable
    headings = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]
    assert headings[4:] == ["Confidence", "DSC"]
    assert [table.item(2, column).text() for column in (4, 5)] == ["", ""]
    case.confidence = 0.875
    assert [table.item(2, column).text() for column in (4, 5)] == ["0.88", ""]
    with_prediction.ui.acceptButton.click()
    load_again(with_prediction, case)
    assert [table.item(2, column).text() for column in (4, 5)] == ["", "1.00"]


def load_again(opened, case):
    from SemiSegModuleLib.scene.predictions import load_prediction

    load_prediction(opened.work.cases, case, opened.work.folder / "mask.nrrd")


def test_accepting_counts_as_annotated(with_prediction):
    with_prediction.ui.acceptButton.click()
    assert states(with_prediction)[2] == "accepted"
    assert "3 annotated and 1 unlabeled" in with_prediction.ui.readyLabel.text


def test_an_accepted_prediction_that_somebody_edits_is_corrected(with_prediction):
    from SemiSegModuleLib.panels import texts
    from SemiSegModuleLib.scene import segments, volumes

    with_prediction.ui.acceptButton.click()
    case, labels = with_prediction.work.case, with_prediction.work.cases.labels
    assert texts.case_state(case) == "accepted"
    array = segments.voxels_on_grid(case.annotation, case.volume, labels)
    array[10, 10, 10] = 0
    segments.set_voxels(case.annotation, array, volumes.ijk_to_ras(case.volume), labels)
    assert texts.case_state(case) == "corrected"


def test_correcting_edits_a_copy(with_prediction):
    case = with_prediction.work.case
    with_prediction.ui.correctButton.click()
    assert states(with_prediction)[2] == "not done"
    assert not with_prediction.ui.annotateCollapsibleButton.collapsed
    editor = with_prediction.panel.annotate.editor
    assert editor.segmentationNode() is case.annotation
    assert case.annotation is not case.prediction
    with_prediction.ui.doneCheckBox.click()
    assert states(with_prediction)[2] == "corrected"


def test_an_annotation_is_never_replaced_unasked(with_prediction, answers):
    from SemiSegModuleLib.scene import segments

    with_prediction.ui.correctButton.click()
    case, labels = with_prediction.work.case, with_prediction.work.cases.labels
    array = segments.voxels_on_grid(case.annotation, case.volume, labels)
    array[:] = 0
    array[5, 5, 5] = 1
    from SemiSegModuleLib.scene import volumes

    segments.set_voxels(case.annotation, array, volumes.ijk_to_ras(case.volume), labels)
    answers.yes = False
    with_prediction.ui.acceptButton.click()
    assert "has an annotation already" in answers.asked[0]
    assert segments.voxel_counts(case.annotation, labels) == {1: 1}
    answers.yes = True
    with_prediction.ui.acceptButton.click()
    assert segments.voxel_counts(case.annotation, labels) == {1: 1000}


def test_stepping_goes_round(with_cases):
    select(with_cases, 3)
    with_cases.ui.nextCaseButton.click()
    assert with_cases.work.case.name == "atrium_001"
    with_cases.ui.previousCaseButton.click()
    assert with_cases.work.case.name == "atrium_004"


def test_a_foreign_model_is_refused(opened, tmp_path, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    (tmp_path / "other.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(dialogs, "choose_model", lambda: tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors is not a model"):
        opened.panel.results.load_model()
    assert opened.work.model is None


@pytest.mark.parametrize(
    ("index", "suffix", "count"), [(0, ".seg.nrrd", 2), (1, ".nii.gz", 2), (2, ".nrrd", 2), (4, ".stl", 2)]
)
def test_masks_are_exported_in_every_format(with_cases, tmp_path, index, suffix, count):
    with_cases.ui.exportFormatComboBox.setCurrentIndex(index)
    with_cases.ui.exportButton.click()
    files = [path.name for path in (tmp_path / "exports").iterdir() if path.name.endswith(suffix)]
    assert len(files) == count
    assert with_cases.ui.exportLabel.text.startswith(f"{count} files written to")


def test_dicom_needs_a_scan_from_dicom(with_cases, tmp_path):
    with_cases.ui.exportVolumesButton.click()
    assert "written to" in with_cases.ui.exportLabel.text
    with_cases.ui.exportFormatComboBox.setCurrentIndex(3)
    assert with_cases.ui.exportFormatComboBox.currentText.startswith("DICOM")
    with pytest.raises(ValueError, match="DICOM"):
        with_cases.panel.export.export_masks()
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["volumes.csv"]
    assert with_cases.ui.exportLabel.text == "", "what was written before is no answer to what failed now"


def test_only_the_selected_scan_is_exported(with_cases, tmp_path):
    select(with_cases, 1)
    with_cases.ui.exportSelectedCheckBox.click()
    with_cases.ui.exportButton.click()
    assert {path.name for path in (tmp_path / "exports").iterdir()} == {"atrium_002.seg.nrrd", "scans.csv"}
    select(with_cases, 3)
    assert not with_cases.ui.exportButton.enabled


def test_each_patient_gets_a_folder_where_that_is_wanted(with_cases, tmp_path):
    with_cases.ui.exportByPatientCheckBox.checked = True
    with_cases.ui.exportButton.click()
    written = sorted(path.relative_to(tmp_path / "exports").as_posix() for path in tmp_path.rglob("exports/*/*.nrrd"))
    assert written == ["atrium_001/atrium_001.seg.nrrd", "atrium_002/atrium_002.seg.nrrd"]
    assert "2 files written" in with_cases.ui.exportLabel.text


def test_masks_of_slices_alone_are_named_when_they_are_exported(with_cases):
    """Elsewhere they are empty, and whoever gets them would take that for background."""
    select(with_cases, 1).partial = "axial"
    with_cases.ui.exportButton.click()
    assert "2 files written" in with_cases.ui.exportLabel.text
    assert with_cases.ui.exportLabel.text.endswith("Only slices of these are annotated: atrium_002")
    select(with_cases, 1).partial = ""
    with_cases.ui.exportVolumesButton.click()
    assert "Only slices" not in with_cases.ui.exportLabel.text


def test_overwriting_is_asked_for(with_cases, answers, tmp_path):
    with_cases.ui.exportButton.click()
    file = tmp_path / "exports" / "atrium_001.seg.nrrd"
    file.write_bytes(b"mine")
    answers.yes = False
    with_cases.ui.exportButton.click()
    assert file.read_bytes() == b"mine"
    assert "atrium_001.seg.nrrd" in answers.asked[0]
    answers.yes = True
    with_cases.ui.exportButton.click()
    assert file.read_bytes() != b"mine"


def test_volumes_are_exported(with_cases, tmp_path):
    with_cases.ui.exportVolumesButton.click()
    lines = (tmp_path / "exports" / "volumes.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("scan,patient,file,state,mask,left atrium [ml]")
    assert [line.split(",")[0] for line in lines[1:]] == ["atrium_001", "atrium_002", "atrium_003", "atrium_004"]


# ---- scene ---------------------------------------------------------------------------------------------------


def test_closing_the_scene_empties_the_panel(with_cases, mrml):
    with_cases.ui.iterationsSpinBox.value = 55
    mrml.scene.Clear(0)
    assert with_cases.ui.casesTable.rowCount == 0
    assert with_cases.parameters.iterations == 0
    assert with_cases.ui.iterationsSpinBox.value == 0
    assert not with_cases.ui.trainButton.enabled


def test_what_was_done_in_a_closed_scene_is_not_told_in_the_next(with_cases, mrml, scans, tmp_path):
    from SemiSegModuleLib.processes.command_process import CommandProcess
    from SemiSegModuleLib.processes.prediction_process import PredictionProcess

    ui, logic = with_cases.ui, with_cases.logic
    logic.predicting.process = PredictionProcess(tmp_path)
    logic.predicting.process.state, logic.predicting.process.index, logic.predicting.process.count = "finished", 4, 4
    logic.refining.process, logic.refining.case = CommandProcess("SemiSegLib.refine", tmp_path), select(with_cases, 0)
    logic.refining.process.state, logic.refining.outcome = "finished", {"changed_ml": 0.5}
    logic.judging.calibrated = False
    for work in (logic.predicting, logic.refining, logic.judging):
        work.changed.emit()
    labels = ui.predictionLabel, ui.loopLabel, ui.qualityLabel
    assert all(label.text for label in labels)
    mrml.scene.Clear(0)
    assert [label.text for label in labels] == ["", "", ""]
    with_cases.panel.data.add_folder(scans)
    select(with_cases, 0)
    assert [label.text for label in labels] == ["", "", ""]


def test_a_saved_scene_brings_everything_back(with_cases, mrml, tmp_path):
    with_cases.ui.iterationsSpinBox.value = 55
    with_cases.ui.spacingLineEdit.text = "1 1 2"
    with_cases.parameters.method = with_cases.module.Method.SUPERVISED
    select(with_cases, 1)
    with_cases.ui.addRegionButton.click()
    mrml.save(tmp_path / "work.mrb")
    with_cases.ui.iterationsSpinBox.value = 99
    mrml.load(tmp_path / "work.mrb")
    with_cases.widget.onSceneEndImport(None, None)
    assert with_cases.ui.iterationsSpinBox.value == 55
    assert with_cases.ui.spacingLineEdit.text == "1 1 2"
    assert with_cases.ui.methodComboBox.currentText == "Supervised"
    assert states(with_cases) == ["annotated", "annotated", "unlabeled", "unlabeled"]
    assert with_cases.work.case.name == "atrium_002"
    assert with_cases.ui.regionLabel.text.startswith("Training and prediction use")


def test_a_scene_that_is_opened_again_from_another_module_is_shown(with_cases, mrml, tmp_path):
    """Its nodes have the IDs of those that were there before."""
    import slicer

    select(with_cases, 1)
    mrml.save(tmp_path / "work.mrb")
    with_cases.widget.exit()
    with_cases.parent.__dict__["isEntered"] = False
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "work.mrb")
    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", mrml.scene):
        node.SetBackgroundVolumeID(None)
    view = mrml.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    with_cases.parent.__dict__["isEntered"] = True
    with_cases.widget.enter()
    assert with_cases.work.case.name == "atrium_002"
    assert view.GetBackgroundVolumeID() == with_cases.work.case.volume.GetID()
    assert states(with_cases) == ["annotated", "annotated", "unlabeled", "unlabeled"]
    assert "Learns from 2 annotated" in with_cases.ui.readyLabel.text


def test_nothing_is_said_of_the_study_before(with_cases, mrml, scans):
    """Which may name its scans and its folder."""
    with_cases.logic.suggesting.failed.emit(ValueError("atrium_001"))
    with_cases.panel.export.export_masks()
    assert "atrium_001" in with_cases.ui.loopLabel.text
    assert "2 files written" in with_cases.ui.exportLabel.text
    mrml.scene.Clear(0)
    with_cases.panel.data.add_folder(scans)
    assert "atrium_001" not in with_cases.ui.loopLabel.text
    assert with_cases.ui.exportLabel.text == ""


def test_a_choice_of_a_newer_version_becomes_the_default(opened, mrml, tmp_path):
    node = opened.parameters.parameterNode
    opened.widget.setParameterNode(None)
    node.SetParameter("method", "NOT_YET_INVENTED")
    mrml.save(tmp_path / "newer.mrb")
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "newer.mrb")
    opened.widget.onSceneEndImport(None, None)
    assert opened.parameters.method.value == "recommended"
    assert opened.ui.methodComboBox.currentText == "Recommended"


def test_a_step_can_be_taken_back_after_another_module_was_visited(with_prediction):
    with_prediction.ui.acceptButton.click()
    with_prediction.widget.exit()
    with_prediction.widget.enter()
    with_prediction.ui.undoButton.click()
    assert states(with_prediction)[2] == "predicted"


def test_leaving_and_entering_again(with_cases):
    with_cases.widget.exit()
    with_cases.parameters.iterations = 7
    with_cases.widget.enter()
    assert with_cases.ui.iterationsSpinBox.value == 7
    with_cases.ui.iterationsSpinBox.value = 8
    assert with_cases.parameters.iterations == 8


def test_an_export_format_of_a_newer_version_becomes_the_default(opened):
    opened.parameters.parameterNode.SetParameter("exportFormat", "HOLOGRAM")
    assert opened.widget.logic.getParameterNode().exportFormat.value == ".seg.nrrd"


class SampleDataLogic:
    """As Slicer 5.10 has it: categories cannot be registered."""

    def __init__(self):
        self.sources = []

    def registerCustomSampleDataSource(
        self,
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties={},  # noqa: B006  as in Slicer
        checksums=None,
        loadFileType=None,
    ):
        self.sources.append((category, sampleName, customDownloader))


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_sample_data_is_offered_by_every_slicer(opened, monkeypatch, version):
    logic = SampleDataLogic()
    if version == "5.12":
        logic.registerCustomSampleDataCategory = lambda category, title: logic.sources.append((category, title, None))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    monkeypatch.setattr(opened.module.importlib.util, "find_spec", lambda name: name == "SampleData")
    opened.module.registerSampleData()
    names = [name for category, name, _download in logic.sources if category == "SemiSeg"]
    assert names == (["SemiSeg"] if version == "5.12" else []) + [
        "Task02_Heart",
        "Task07_Pancreas",
        "SemiSegSynthetic",
    ]


def test_reloading_loads_the_parts_anew(opened, monkeypatch):
    """Slicer's Reload takes the file of the module alone; what it imports would stay as it was."""
    base = opened.module.ScriptedLoadableModuleWidget
    before = {name: sys.modules[name] for name in sys.modules if name.startswith(("SemiSegModuleLib", "SemiSegLib"))}
    seen = []
    monkeypatch.setattr(base, "onReload", lambda self: seen.append(set(before) & set(sys.modules)), raising=False)
    try:
        opened.widget.onReload()
    finally:
        sys.modules.update(before)
    assert seen == [set()]


def test_self_test_passes(module):
    module.SemiSegModuleTest().runTest()


def test_module_describes_itself(module, tmp_path):
    parent = types.SimpleNamespace(path=module.__file__)
    module.SemiSegModule(parent)
    assert parent.title == "SemiSeg"
    assert parent.categories == ["Segmentation"]
    assert not parent.icon.isNull()


def test_importing_the_module_imports_no_torch(module):
    """In a process of its own: other tests of this one may have imported torch."""
    import subprocess

    folder = Path(__file__).parent
    root = Path(module.__file__).parent
    parts = [".".join(part.relative_to(root).with_suffix("").parts) for part in root.glob("SemiSegModuleLib/**/*.py")]
    code = (
        "import importlib, sys; import pythonqt; pythonqt.install(); import stand_in_widgets as w; w.install();"
        "import stand_in_application as a; a.install(None); import SemiSegModule;"
        f"[importlib.import_module(name) for name in {parts}];"
        "print(sorted({'torch', 'monai', 'safetensors', 'nibabel', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(root)])}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=folder
    )
    assert ran.stdout.strip() == "[]"


def test_what_comes_next_is_no_button_that_is_disabled(with_cases):
    """Scans that are left out are not predicted."""
    from SemiSegLib.models import named_models

    with_cases.work.use_model(next(iter(named_models())))
    for case in with_cases.work.cases.cases[2:]:
        case.excluded = True
    assert not with_cases.ui.predictAllButton.enabled
    assert "Predict all" not in with_cases.ui.guideLabel.text
    with_cases.work.cases.cases[2].excluded = False
    assert with_cases.ui.predictAllButton.enabled
    assert "Predict all" in with_cases.ui.guideLabel.text


def test_a_finished_scan_that_is_left_out_is_still_called_finished(with_cases):
    case = select(with_cases, 0)
    with_cases.ui.excludeCaseButton.click()
    assert case.excluded
    assert with_cases.ui.annotateLabel.text.startswith("atrium_001 is done.")


def test_a_supervised_training_is_not_said_to_learn_from_unlabeled_scans(with_cases):
    with_cases.parameters.method = type(with_cases.parameters.method)("supervised")
    assert with_cases.ui.readyLabel.text.startswith("Learns from 2 annotated scans alone.")


def test_hidden_names_are_shown_by_slicer_still_and_the_panel_says_so(opened):
    """In the corner of every slice view, and in its other modules."""
    assert "views" in opened.ui.hideNamesCheckBox.toolTip
