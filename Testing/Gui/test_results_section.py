"""The sections Results and Export; on the real scene, without child processes."""

import numpy as np
import pytest
from steps import limit_to


def test_prediction_is_shown_and_can_be_reviewed(with_prediction):
    assert with_prediction.states()[2] == "predicted"
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


def test_the_map_of_a_scan_that_somebody_deleted_does_not_lie_over_the_next(with_prediction, mrml):
    import slicer

    view = mrml.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    with_prediction.ui.showSdmCheckBox.click()
    assert "signed distance" in mrml.scene.GetNodeByID(view.GetForegroundVolumeID()).GetName()
    mrml.scene.RemoveNode(with_prediction.work.case.volume)
    view.SetBackgroundVolumeID(slicer.util.addVolumeFromArray(np.zeros((9, 9, 9), np.int16), name="next").GetID())
    assert mrml.scene.GetNodeByID(view.GetForegroundVolumeID() or "") is None
    left = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert not any("distance" in name for name in left)


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


def test_so_it_is_when_it_is_predicted_again(with_prediction):
    from SemiSegModuleLib.scene.predictions import load_prediction

    with_prediction.ui.correctButton.click()
    case, folder = with_prediction.work.case, with_prediction.work.folder
    display = case.prediction.GetDisplayNode()
    line = tuple(display.GetSegmentOverrideColor("SemiSeg_1"))
    load_prediction(with_prediction.work.cases, case, folder / "mask.nrrd", {1: folder / "sdm.nrrd"})
    with_prediction.logic.predicting.loaded.emit(case)
    assert tuple(display.GetSegmentOverrideColor("SemiSeg_1")) == line


def test_the_annotation_of_the_last_case_removed_is_no_longer_drawn(with_cases, answers):
    annotations = [case.annotation for case in with_cases.work.cases if case.annotation]
    for _ in range(4):
        with_cases.select(0)
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
    assert with_prediction.states()[2] == "accepted"
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
    assert with_prediction.states()[2] == "not done"
    assert not with_prediction.ui.annotateCollapsibleButton.collapsed
    editor = with_prediction.panel.annotate.editor
    assert editor.segmentationNode() is case.annotation
    assert case.annotation is not case.prediction
    with_prediction.ui.doneCheckBox.click()
    assert with_prediction.states()[2] == "corrected"


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
    with_cases.select(3)
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


def test_dicom_names_the_empty_masks_of_which_there_is_no_file(with_prediction, tmp_path, monkeypatch):
    from SemiSegModuleLib.exports import dicom_seg
    from SemiSegModuleLib.scene import segments, volumes

    case, labels = with_prediction.select(2), with_prediction.work.cases.labels
    nothing = segments.voxels_on_grid(case.prediction, case.volume, labels) * 0
    segments.set_voxels(case.prediction, nothing, volumes.ijk_to_ras(case.volume), labels)
    # No scan here comes from a DICOM database; what is written of one stands in Testing/Slicer/test_dicom_seg.py.
    monkeypatch.setattr(dicom_seg, "export_dicom_seg", lambda *what, **options: [tmp_path / "atrium_001.seg.dcm"])
    with_prediction.ui.exportFormatComboBox.setCurrentIndex(3)
    with_prediction.ui.exportButton.click()
    assert with_prediction.ui.exportLabel.text.endswith(f"so there is no file of these: {case.name}")


def test_only_the_selected_scan_is_exported(with_cases, tmp_path):
    with_cases.select(1)
    with_cases.ui.exportSelectedCheckBox.click()
    with_cases.ui.exportButton.click()
    assert {path.name for path in (tmp_path / "exports").iterdir()} == {"atrium_002.seg.nrrd", "scans.csv"}
    with_cases.select(3)
    assert not with_cases.ui.exportButton.enabled


def test_each_patient_gets_a_folder_where_that_is_wanted(with_cases, tmp_path):
    with_cases.ui.exportByPatientCheckBox.checked = True
    with_cases.ui.exportButton.click()
    written = sorted(path.relative_to(tmp_path / "exports").as_posix() for path in tmp_path.rglob("exports/*/*.nrrd"))
    assert written == ["atrium_001/atrium_001.seg.nrrd", "atrium_002/atrium_002.seg.nrrd"]
    assert "2 files written" in with_cases.ui.exportLabel.text


def test_masks_of_slices_alone_are_named_when_they_are_exported(with_cases):
    """Elsewhere they are empty, and whoever gets them would take that for background."""
    with_cases.select(1).partial = "axial"
    with_cases.ui.exportButton.click()
    assert "2 files written" in with_cases.ui.exportLabel.text
    assert with_cases.ui.exportLabel.text.endswith("Only slices of these are annotated: atrium_002")
    with_cases.select(1).partial = ""
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


def test_volumes_are_replaced_once_that_is_agreed_to(with_cases, answers, tmp_path):
    with_cases.ui.exportVolumesButton.click()
    path = tmp_path / "exports" / "volumes.csv"
    written = path.read_bytes()
    path.write_text("mine")
    answers.yes = False
    with_cases.ui.exportVolumesButton.click()
    assert (len(answers.asked), path.read_text()) == (1, "mine")
    answers.yes = True
    with_cases.ui.exportVolumesButton.click()
    assert (len(answers.asked), path.read_bytes()) == (2, written)


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
