"""The section Data: adding, choosing, leaving out, labels; on the real scene, without child processes."""

import numpy as np
import pytest
from steps import give_model


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
    assert opened.states() == ["annotated", "annotated", "unlabeled", "unlabeled"]


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
    assert with_cases.states() == ["annotated", "annotated", "unlabeled", "unlabeled"]
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
    assert opened.states() == ["unlabeled", "unlabeled"]


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
    assert opened.states().count("annotated") == 6
    assert opened.states().count("unlabeled") == 4


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
    with_cases.select(0)
    offered = ui.predictOneButton, ui.predictPartButton, ui.refineButton
    assert all(button.enabled for button in offered)
    ui.excludeCaseButton.click()
    assert not any(button.enabled for button in offered)
    assert ui.suggestButton.enabled
    for row in (2, 3):
        with_cases.select(row)
        ui.excludeCaseButton.click()
    assert not ui.suggestButton.enabled, "the other one is done"


def test_excluding_and_including_again(with_cases):
    with_cases.select(3)
    with_cases.ui.excludeCaseButton.click()
    assert with_cases.states()[3] == "excluded"
    assert "1 unlabeled" in with_cases.ui.readyLabel.text
    with_cases.ui.excludeCaseButton.click()
    assert with_cases.states()[3] == "unlabeled"
    with_cases.ui.undoButton.click()
    assert with_cases.states()[3] == "excluded"
    with_cases.ui.undoButton.click()
    assert with_cases.states()[3] == "unlabeled"


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
    assert opened.states().count("predicted") == 1
    assert not opened.ui.undoButton.enabled


def test_selecting_a_row_shows_the_scan(with_cases, mrml):
    composite = mrml.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    case = with_cases.select(2)
    assert composite.GetBackgroundVolumeID() == case.volume.GetID()
    case = with_cases.select(0)
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
    with_prediction.select(1)
    assert cells() == before
    with_prediction.select(3)
    with_prediction.ui.excludeCaseButton.click()
    after = cells()
    assert after[:3] == before[:3]
    assert after[3] != before[3]


def test_hidden_names_are_shown_by_slicer_still_and_the_panel_says_so(opened):
    """In the corner of every slice view, and in its other modules."""
    assert "views" in opened.ui.hideNamesCheckBox.toolTip


def test_scans_that_are_not_in_the_study_have_no_names_either_while_names_are_hidden(with_cases):
    removed = with_cases.select(2).name
    with_cases.parameters.hideNames = True
    with_cases.ui.removeCaseButton.click()
    box = with_cases.ui.volumeComboBox
    with_cases.wait_until(lambda: box.itemText(0) != "no other scan is loaded", 5)
    assert [box.itemText(number) for number in range(box.count)] == ["Volume 1"]
    with_cases.parameters.hideNames = False
    with_cases.wait_until(lambda: box.itemText(0) == removed, 5)
