"""Frames of a sequence, such as cardiac cine, become scans of the study by the same box and buttons as volumes."""

import pytest


@pytest.fixture
def cine(opened, scans, mrml):
    """The module, and a sequence of three small scans of which the second is shown."""
    import slicer
    from cine import make_player, make_sequence

    files = sorted((scans / "images").iterdir())[:3]
    logic = slicer.modules.volumes.logic()
    sequence = make_sequence(mrml.scene, [logic.AddArchetypeVolume(str(file), file.stem, 0) for file in files])
    opened.play = make_player(mrml.scene, sequence)
    opened.play(1)
    opened.qt.QApplication.processEvents()
    return opened


def offered(opened):
    opened.qt.QApplication.processEvents()
    box = opened.ui.volumeComboBox
    return [box.itemText(number) for number in range(box.count)]


def names(opened):
    return sorted(case.name for case in opened.work.cases)


def test_all_frames_or_the_one_that_is_shown_are_offered(cine):
    assert offered(cine) == ["cine: all 3 frames", "cine: the frame shown"]
    cine.choose(cine.ui.volumeComboBox, "cine: the frame shown")
    cine.play(2)  # the frame that is shown when the button is pressed counts
    cine.ui.addVolumeButton.click()
    assert names(cine) == ["cine_frame03"]
    assert cine.work.case.name == "cine_frame03"
    cine.choose(cine.ui.volumeComboBox, "cine: all 3 frames")
    cine.ui.addVolumeButton.click()
    assert names(cine) == ["cine_frame01", "cine_frame02", "cine_frame03"]
    assert offered(cine) == ["no other scan is loaded"]


def test_all_scans_are_all_frames_and_no_proxy(cine):
    cine.ui.addAllVolumesButton.click()
    assert names(cine) == ["cine_frame01", "cine_frame02", "cine_frame03"]


def test_a_script_adds_a_sequence_as_it_adds_volumes(cine, mrml):
    sequence = mrml.scene.GetFirstNodeByClass("vtkMRMLSequenceNode")
    cases = cine.widget.logic.addCases([sequence])
    assert [case.name for case in cases] == ["cine_frame01", "cine_frame02", "cine_frame03"]
    assert len({case.patient_key for case in cases}) == 1


def test_the_panel_counts_frames_of_a_patient_together(cine):
    cine.ui.addAllVolumesButton.click()
    first, second, _ = cine.work.cases
    for case in (first, second):
        annotate(cine, case)
    cine.parameters.validationCases = 1
    assert cine.logic.training.counts() == (0, 2, 0)


def annotate(opened, case):
    import numpy as np
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    mask = np.zeros((32, 32, 32), np.uint8)
    mask[8:16, 8:16, 8:16] = 1
    labels = opened.work.cases.labels
    segments.set_voxels(make_annotation(opened.work.cases, case), mask, volumes.ijk_to_ras(case.volume), labels)
    case.mark_done()
