"""Masks that somebody rejected: left out, or erased; none of them is given away, and an empty one may be right."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk


def erase(case):
    """As with the eraser: the segment stays and has no voxels."""
    import slicer

    (identifier,) = [key for key in case.annotation.GetSegmentation().GetSegmentIDs() if key == "SemiSeg_1"]
    nothing = np.zeros((32, 32, 32), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(nothing, case.annotation, identifier, case.volume)
    assert not case.has_drawing


@pytest.fixture
def rejected(with_prediction, answers):
    """The network found something where nothing is: all of it was erased."""
    with_prediction.ui.correctButton.click()
    erase(with_prediction.work.case)
    return with_prediction


def exported(opened, tmp_path):
    """Voxels by name of the file."""
    opened.ui.exportFormatComboBox.setCurrentIndex(1)
    opened.ui.exportButton.click()
    files = (tmp_path / "exports").glob("*.nii.gz")
    return {path.name.split(".")[0]: int(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).sum()) for path in files}


def measured(opened, tmp_path):
    opened.ui.exportVolumesButton.click()
    with (tmp_path / "exports" / "volumes.csv").open(encoding="utf-8-sig", newline="") as stream:
        return {row["scan"]: row["left atrium [ml]"] for row in csv.DictReader(stream)}


def test_what_was_erased_does_not_come_back_as_the_prediction(rejected, tmp_path):
    case = rejected.work.case
    assert (case.done, case.unfinished) == (False, True)
    assert case.shown_segmentation() is case.annotation
    assert sorted(exported(rejected, tmp_path)) == ["atrium_001", "atrium_002"]
    assert measured(rejected, tmp_path)["atrium_003"] == ""


def test_nor_where_it_was_accepted_or_done_before(with_prediction, answers, tmp_path):
    """Its file may also not have been found."""
    with_prediction.ui.acceptButton.click()
    case = with_prediction.work.case
    assert case.state.value == "corrected"
    erase(case)
    assert case.state.value == "predicted"
    assert sorted(exported(with_prediction, tmp_path)) == ["atrium_001", "atrium_002"]
    with_prediction.panel.data.update()
    assert with_prediction.states()[2] == "not done"


def test_an_empty_mask_is_right_once_somebody_says_so(rejected, answers, tmp_path):
    case = rejected.work.case
    answers.yes = False
    rejected.ui.doneCheckBox.click()
    assert not case.done
    assert not rejected.ui.doneCheckBox.checked
    assert "Nothing is there in atrium_003" in answers.asked[-1]
    answers.yes = True
    rejected.ui.doneCheckBox.click()
    assert (case.done, case.confirmed_empty) == (True, True)
    assert rejected.states()[2] == "corrected"
    assert exported(rejected, tmp_path)["atrium_003"] == 0
    assert measured(rejected, tmp_path)["atrium_003"] == "0.000"


def test_training_learns_from_it_that_all_is_background(rejected, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    rejected.ui.doneCheckBox.click()
    export = export_cases(rejected.work.cases, tmp_path / "data")
    assert "scan_003" in export.labelled
    mask = sitk.ReadImage(str(tmp_path / "data" / "labels" / "scan_003.nrrd"))
    assert not sitk.GetArrayFromImage(mask).any()


def test_a_saved_scene_knows_that_it_is_right(rejected, mrml, tmp_path):
    rejected.ui.doneCheckBox.click()
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    assert rejected.work.cases.cases[2].confirmed_empty


def test_once_something_is_drawn_it_is_empty_no_more(rejected, tmp_path):
    import slicer

    case = rejected.work.case
    rejected.ui.doneCheckBox.click()
    array = np.ones((32, 32, 32), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, case.annotation, "SemiSeg_1", case.volume)
    rejected.work.cases.refresh()
    assert case.done
    erase(case)
    assert (case.done, case.unfinished) == (False, True)


def test_of_slices_alone_nobody_says_that_nothing_is_there(rejected):
    rejected.work.case.partial = "axial"
    with pytest.raises(ValueError, match="Nothing is drawn"):
        rejected.panel.annotate._done_toggled(True)
    assert not rejected.work.case.done


def test_the_question_before_an_export_does_not_skip_that_one(rejected, answers, monkeypatch, tmp_path):
    from SemiSegModuleLib.panels import dialogs

    monkeypatch.setattr(dialogs, "choose_answer", lambda text, given: "done")
    answers.yes = False
    assert exported(rejected, tmp_path) == {}
    assert not rejected.work.case.done
    answers.yes = True
    assert exported(rejected, tmp_path)["atrium_003"] == 0


def test_nor_the_one_about_a_part_that_nobody_looked_at(with_prediction, answers, monkeypatch, tmp_path):
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene.volumes import VoxelBox

    monkeypatch.setattr(dialogs, "choose_answer", lambda text, given: "done")
    with_prediction.ui.correctButton.click()
    with_prediction.work.case.predicted_parts = [VoxelBox.of((0, 0, 0), (20, 20, 20))]
    answers.yes = False
    assert exported(with_prediction, tmp_path) == {}
    assert "Not all that counts of atrium_003 was predicted" in answers.asked[-1]
    assert not with_prediction.work.case.done
    answers.yes = True
    assert exported(with_prediction, tmp_path)["atrium_003"] == 1000


def test_scans_that_are_left_out_are_not_exported_and_that_is_said(with_prediction, tmp_path):
    ui = with_prediction.ui
    ui.excludeCaseButton.click()
    assert sorted(exported(with_prediction, tmp_path)) == ["atrium_001", "atrium_002"]
    assert ui.exportLabel.text.endswith("\n1 scan that is left out was not exported.")
    assert "atrium_003" not in measured(with_prediction, tmp_path)
    ui.exportSelectedCheckBox.click()
    assert not ui.exportButton.enabled


def test_nor_by_a_script(with_prediction, tmp_path):
    from SemiSegModuleLib.exports import export_volumes_csv

    case = with_prediction.work.case
    case.excluded = True
    written = with_prediction.widget.logic.exportMasks(tmp_path / "masks")
    assert [path.name for path in written] == ["atrium_001.seg.nrrd", "atrium_002.seg.nrrd"]
    with pytest.raises(ValueError, match="None of the chosen cases"):
        with_prediction.widget.logic.exportMasks(tmp_path / "masks", cases=[case])
    path = export_volumes_csv(with_prediction.work.cases, [case], tmp_path / "volumes.csv")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["state"], row["mask"], row["left atrium [ml]"]) == ("excluded", "", "")
