"""Scenes closed, saved, opened again and added."""

import numpy as np


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
    logic.refining.process, logic.refining.case = CommandProcess("SemiSegLib.refine", tmp_path), with_cases.select(0)
    logic.refining.process.state, logic.refining.outcome = "finished", {"changed_ml": 0.5}
    logic.judging.calibrated = False
    for work in (logic.predicting, logic.refining, logic.judging):
        work.changed.emit()
    labels = ui.predictionLabel, ui.loopLabel, ui.qualityLabel
    assert all(label.text for label in labels)
    mrml.scene.Clear(0)
    assert [label.text for label in labels] == ["", "", ""]
    with_cases.panel.data.add_folder(scans)
    with_cases.select(0)
    assert [label.text for label in labels] == ["", "", ""]


def test_a_saved_scene_brings_everything_back(with_cases, mrml, tmp_path):
    with_cases.ui.iterationsSpinBox.value = 55
    with_cases.ui.spacingLineEdit.text = "1 1 2"
    with_cases.parameters.method = with_cases.module.Method.SUPERVISED
    with_cases.select(1)
    with_cases.ui.addRegionButton.click()
    mrml.save(tmp_path / "work.mrb")
    with_cases.ui.iterationsSpinBox.value = 99
    mrml.load(tmp_path / "work.mrb")
    with_cases.widget.onSceneEndImport(None, None)
    assert with_cases.ui.iterationsSpinBox.value == 55
    assert with_cases.ui.spacingLineEdit.text == "1 1 2"
    assert with_cases.ui.methodComboBox.currentText == "Supervised"
    assert with_cases.states() == ["annotated", "annotated", "unlabeled", "unlabeled"]
    assert with_cases.work.case.name == "atrium_002"
    assert with_cases.ui.regionLabel.text.startswith("Training and prediction use")


def test_a_scene_that_is_opened_again_from_another_module_is_shown(with_cases, mrml, tmp_path):
    """Its nodes have the IDs of those that were there before."""
    import slicer

    with_cases.select(1)
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
    assert with_cases.states() == ["annotated", "annotated", "unlabeled", "unlabeled"]
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
    assert with_prediction.states()[2] == "predicted"


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


def test_a_scene_that_is_added_leaves_the_settings_of_the_study_that_is_open(opened, scans, mrml, tmp_path):
    """Its scans come along; its task, its model and the names that it shows do not."""
    import slicer

    opened.choose_task("pancreas")
    opened.work.cases.add_volume(slicer.util.addVolumeFromArray(np.zeros((16, 16, 16), np.int16), name="ct"))
    opened.parameters.modelFile = "/somewhere/else.safetensors"
    opened.parameters.iterations = 77
    opened.parameters.studyFolder = tmp_path / "theirs"
    mrml.save(tmp_path / "other.mrb")
    mrml.scene.Clear(0)
    opened.choose_task("left-atrium")
    opened.parameters.studyFolder = tmp_path / "ours"
    opened.panel.data.add_folder(scans)
    opened.parameters.hideNames = True
    at_hand = opened.select(1).id
    mrml.add(tmp_path / "other.mrb")
    assert len(opened.work.cases) == 5
    assert opened.parameters.task.value == "left-atrium"
    assert opened.ui.taskComboBox.currentText.startswith("Left atrium")
    assert [label.name for label in opened.work.cases.labels] == ["left atrium"]
    assert opened.parameters.hideNames
    assert opened.work.cases.names_hidden
    assert opened.work.case.id == at_hand
    assert (opened.parameters.modelFile, opened.parameters.iterations) == ("", 0)
    assert opened.work.folder == tmp_path / "ours"
