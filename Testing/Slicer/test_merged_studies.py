"""Cases keep their own files and structures when studies come together in one scene, or cases come and go."""

import numpy as np
import pytest
import SimpleITK as sitk
from drawing import draw

from SemiSegLib.config import Label


def stems(table):
    return [case.file_name for case in table]


@pytest.fixture
def add_study(application, table, add_volume, tmp_path):
    """Add a saved study of one annotated scan to a new study, of one scan without a mask: add(theirs, ours)."""

    def add(theirs, ours):
        table.labels = theirs
        case = table.add_volume(add_volume("theirs"))
        draw(table, case, theirs[0].value)
        case.mark_done()
        application.save(tmp_path / "theirs.mrb")
        application.scene.Clear(0)
        table.labels = ours
        table.add_volume(add_volume("ours, longer"))
        application.add(tmp_path / "theirs.mrb")
        return {case.name: case for case in table}

    return add


def test_scans_of_two_studies_have_files_of_their_own(table, add_study, tmp_path):
    """Both have a scan_001: written to one file, the mask of one patient would lie on the other's scan."""
    from SemiSegModuleLib.scene.training_files import export_cases

    cases = add_study([Label(1, "left atrium", (1, 2, 3))], [Label(1, "left atrium", (1, 2, 3))])
    assert cases["ours, longer"].file_name == "scan_001"
    assert cases["theirs"].file_name == "scan_002"
    export = export_cases(table, tmp_path / "export")
    assert (export.unlabelled, export.labelled) == (["scan_001"], ["scan_002"])
    import slicer

    for case in cases.values():
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(export.images / f"{case.file_name}.nrrd")))
        assert (written == slicer.util.arrayFromVolume(case.volume)).all()


def test_a_scene_that_is_added_twice_brings_two_studies(application, table, add_volume, tmp_path):
    table.add_volume(add_volume())
    application.save(tmp_path / "scene.mrb")
    application.add(tmp_path / "scene.mrb")
    assert stems(table) == ["scan_001", "scan_002"]
    assert len({case.identifier for case in table}) == 2


def test_masks_of_another_study_stand_for_what_they_are_called(table, add_study):
    """Both studies have a label 1; that of the other one is no left atrium."""
    ours = [Label(1, "left atrium", (1, 2, 3)), Label(3, "aorta", (4, 5, 6))]
    cases = add_study([Label(1, "pancreas", (1, 2, 3))], ours)
    assert cases["theirs"].has_drawing
    assert cases["theirs"].labels_present(ours) == []


def test_the_same_structures_of_another_study_count_whatever_their_values(table, add_study):
    ours = [Label(1, "left atrium", (1, 2, 3)), Label(3, "aorta", (4, 5, 6))]
    cases = add_study([Label(3, "Left atrium", (1, 2, 3)), Label(1, "aorta", (1, 2, 3))], ours)
    assert cases["theirs"].labels_present(ours) == ours[:1]
    assert cases["theirs"].state.value == "annotated"


def test_a_prediction_accepted_in_another_study_is_so_here(table, add_volume, application, tmp_path):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.predictions import load_prediction

    case = table.add_volume(add_volume("theirs"))
    mask = np.zeros((9, 12, 15), np.uint8)
    mask[2:5, 3:8, 4:9] = 1
    volumes.write_image(volumes.world_image(case.volume, mask), tmp_path / "mask.nrrd")
    load_prediction(table, case, tmp_path / "mask.nrrd")
    accept_prediction(table, case)
    application.save(tmp_path / "theirs.mrb")
    application.scene.Clear(0)
    table.labels = [Label(1, "pancreas", (1, 2, 3)), Label(2, "left atrium", (1, 2, 3))]
    table.add_volume(add_volume("ours, longer"))
    application.add(tmp_path / "theirs.mrb")
    theirs = next(case for case in table if case.name == "theirs")
    assert [label.name for label in theirs.labels_present(table.labels)] == ["left atrium"]
    assert theirs.accepted
    assert not theirs.prediction_edited


def test_files_of_a_removed_case_are_not_those_of_the_next(table, add_volume):
    """Those of earlier trainings are still on the disk, and scans.csv says whose they are."""
    table.add_volume(add_volume("one"))
    table.remove(table.add_volume(add_volume("two")))
    assert table.add_volume(add_volume("three")).file_name == "scan_003"


def test_a_case_that_is_brought_back_shares_its_files_with_no_other(table, add_volume):
    from SemiSegModuleLib.scene.undo import keep_removed

    case = table.add_volume(add_volume("one"))
    back = keep_removed(table, case)
    table.remove(case)
    table.add_volume(add_volume("two"))
    back()
    assert sorted(stems(table)) == ["scan_001", "scan_002"]


@pytest.fixture
def removed(application, table, add_volume, tmp_path):
    """The volume of an annotated scan that was taken off the table, in a scene that was saved since; and its mask."""
    case = table.add_volume(add_volume("one"))
    mask = draw(table, case)
    case.mark_done()
    case.partial, case.refinement = "axial", "the last one"
    table.remove(case)
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")
    (volume,) = table.candidates()
    return volume, mask


def drawn(table, case):
    from SemiSegModuleLib.scene import segments

    return segments.voxels_on_grid(case.annotation, case.volume, table.labels)


def test_a_scan_that_is_added_again_has_its_annotation_again(scene, table, removed):
    """It is in the scene still, but nothing in the panel would lead to it."""
    volume, mask = removed
    case = table.add_volume(volume)
    assert np.array_equal(drawn(table, case), mask)
    assert (case.state.value, case.partial, case.refinement) == ("annotated", "axial", "the last one")
    case.mark_done(False)
    table.remove(case)
    assert not table.add_volume(volume).done, "as it was the last time"


def test_no_other_scan_gets_the_annotation_of_one_that_was_removed(scene, table, removed):
    import slicer

    volume, _ = removed
    copy = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "copy")
    copy.CopyContent(volume)
    copy.Copy(volume)
    assert table.add_volume(copy).annotation is None
    (node,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    other = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn elsewhere")
    case = table.add_volume(volume, other)
    assert (case.annotation, case.done) == (other, False), "somebody has named another one"
    table.remove(case)
    assert table.add_volume(volume).annotation is other
    scene.RemoveNode(other)
    table.remove(table.case_of(volume))
    assert table.add_volume(volume).annotation is None
    assert node.GetScene() is scene


def test_a_scan_that_was_left_out_comes_back_left_out(application, table, add_volume, tmp_path):
    """Somebody decided that it takes no part in training; the minutes spent on it were spent, too."""
    import slicer

    case = table.add_volume(add_volume("one"))
    case.excluded, case.seconds = True, 75.0
    table.remove(case)
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")
    volume = slicer.util.getNode("one")
    copy = application.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "copy")
    copy.CopyContent(volume)
    copy.Copy(volume)
    other = table.add_volume(copy)
    assert (other.state.value, other.seconds) == ("unlabelled", 0.0), "another scan"
    case = table.add_volume(volume)
    assert (case.state.value, case.seconds) == ("excluded", 75.0)
    case.excluded = False
    table.remove(case)
    assert table.add_volume(volume).state.value == "unlabelled", "as it was the last time"


def test_what_was_decided_after_a_scan_was_added_again_holds_when_its_removal_is_taken_back(table, add_volume):
    from SemiSegModuleLib.scene.undo import keep_removed

    volume = add_volume("one")
    case = table.add_volume(volume)
    back = keep_removed(table, case)
    table.remove(case)
    again = table.add_volume(volume)
    again.excluded, again.seconds = True, 30.0
    assert back() == case
    assert (case.excluded, case.seconds) == (True, 30.0)


def test_removing_can_be_taken_back_after_the_scan_was_added_again(table, add_volume):
    """What somebody did with the annotation in between stays."""
    from SemiSegModuleLib.scene.undo import keep_removed

    volume = add_volume("one")
    case = table.add_volume(volume)
    draw(table, case)
    back = keep_removed(table, case)
    table.remove(case)
    again = table.add_volume(volume)
    mask = draw(table, again, 3, np.s_[7, 7, 7])
    again.mark_done()
    assert back() == case
    assert table.cases == [case]
    assert np.array_equal(drawn(table, case), mask)
    assert case.done


PANCREAS = [Label(1, "pancreas", (1, 2, 3)), Label(3, "aorta", (224, 97, 76))]


def test_an_annotation_stands_for_what_it_was_when_its_scan_left_the_table(table, removed):
    """Nobody was asked about it when the task was changed: there was no such case."""
    volume, mask = removed
    before = table.labels
    table.labels = PANCREAS
    case = table.add_volume(volume)
    assert case.has_drawing
    assert case.labels_present(table.labels) == []
    table.remove(case)
    table.labels = before
    assert np.array_equal(drawn(table, table.add_volume(volume)), mask)


def test_a_removed_scan_does_not_come_back_among_labels_of_other_structures(table, add_volume):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.undo import keep_removed

    volume = add_volume("one")
    case = table.add_volume(volume)
    draw(table, case)
    case.mark_done()
    before, back = table.labels, keep_removed(table, case)
    table.remove(case)
    table.labels = PANCREAS
    with pytest.raises(CaseError, match="are others now"):
        back()
    assert len(table) == 0
    table.labels = [*before, Label(2, "vein", (4, 5, 6))]
    assert back().labels_present(table.labels) == before[:1]


def test_a_removed_scan_that_comes_back_shares_no_files_with_one_that_came_meanwhile(
    application, table, add_volume, tmp_path
):
    """Written to one file, the mask of one patient would lie on the other's scan."""
    from SemiSegModuleLib.scene.undo import keep_removed

    table.add_volume(add_volume("theirs"))
    application.save(tmp_path / "theirs.mrb")
    application.scene.Clear(0)
    case = table.add_volume(add_volume("ours, longer"))
    back = keep_removed(table, case)
    table.remove(case)
    application.add(tmp_path / "theirs.mrb")
    back()
    assert len(table) == 2
    assert len(set(stems(table))) == 2


def test_files_of_a_scan_that_was_told_apart_and_removed_are_not_given_to_another(
    application, table, add_volume, tmp_path
):
    table.add_volume(add_volume("one"))
    application.save(tmp_path / "scene.mrb")
    application.add(tmp_path / "scene.mrb")
    table.remove(table.cases[1])
    assert stems(table) == ["scan_001"]
    assert table.add_volume(add_volume("three")).file_name == "scan_003"
