"""Labels that are renamed while there are masks: what a segment is called is what it counts as."""

import numpy as np
import pytest
from drawing import draw


@pytest.fixture
def case(table, a_volume):
    """A scan with a left atrium and an aorta."""
    case = table.add_volume(a_volume)
    draw(table, case, 3, np.s_[7, 7, 7])
    draw(table, case, 1)
    case.mark_done()
    return case


def called(node):
    """Names of the segments that are drawn, by label value as they count."""
    from SemiSegModuleLib.scene import segments

    segmentation = node.GetSegmentation()
    return {key: segmentation.GetSegment(key).GetName() for key in segments.counts_by_segment(node)}


def test_a_removed_scan_comes_back_after_its_labels_were_renamed(table, case):
    """Both masks are called as the labels are by now; one whose labels are other structures still stays away."""
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.undo import keep_removed

    predicted = table.add_volume(case.volume.GetScene().CopyNode(case.volume))
    draw(table, predicted, 1)
    node, mask = predicted.annotation, segments.voxel_counts(predicted.annotation, table.labels)
    predicted.annotation = None
    predicted.prediction = node
    backs = [keep_removed(table, each) for each in (case, predicted)]
    for each in (case, predicted):
        table.remove(each)
    for value, name in ((1, "for a moment"), (3, "left atrium"), (1, "aorta")):
        table.rename_label(value, name)
    back, predicted_back = backs
    assert called(back().annotation) == {"SemiSeg_1": "aorta", "SemiSeg_3": "left atrium"}
    again = predicted_back()
    assert called(again.prediction) == {"SemiSeg_1": "aorta"}
    assert segments.voxel_counts(again.prediction, table.labels) == mask
    back = keep_removed(table, again)
    table.remove(again)
    table.rename_label(1, "pancreas")
    table.labels = [label for label in table.labels if label.value != 1]
    table.labels = [*table.labels, type(table.labels[0])(1, "vein", (4, 5, 6))]
    with pytest.raises(CaseError, match="are others now"):
        back()


def test_labels_of_an_earlier_moment_are_known_by_their_present_names(table):
    """Whichever moment that was; a label of a former name that comes again is that label."""
    from SemiSegModuleLib.scene.case_table import CaseTable

    moments = [table.labels]
    for value, name in ((1, "for a moment"), (3, "left atrium"), (1, "aorta")):
        table.rename_label(value, name)
        moments.append(table.labels)
    again = CaseTable(table.scene)  # as in the next session
    assert all(again.called_now(labels) == table.labels for labels in moments)
    again.close()
    table.labels = moments[0]
    assert table.called_now(moments[0]) == moments[0]


def test_two_names_that_are_exchanged_are_so_in_every_annotation(table, case):
    """Else somebody who draws in 'aorta' draws what is learnt as the left atrium."""
    import vtk
    from SemiSegModuleLib.scene import segments

    counts = segments.voxel_counts(case.annotation, table.labels)
    for value, name in ((1, "for a moment"), (3, "left atrium"), (1, "aorta")):
        table.rename_label(value, name)
    assert called(case.annotation) == {"SemiSeg_1": "aorta", "SemiSeg_3": "left atrium"}
    assert segments.voxel_counts(case.annotation, table.labels) == counts
    tag = vtk.reference("")
    assert case.annotation.GetSegmentation().GetSegment("SemiSeg_1").GetTag("TerminologyEntry", tag)
    assert "Aorta" in str(tag)
    assert case.done


def test_a_mask_from_elsewhere_still_counts_when_its_label_is_renamed(table, scene, a_volume):
    """It is known by its name alone."""
    import slicer

    drawn = table.add_volume(a_volume)
    draw(table, drawn)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by hand")
    segment = slicer.vtkSegment()
    segment.DeepCopy(drawn.annotation.GetSegmentation().GetSegment("SemiSeg_1"))
    segment.SetName("Left Atrium")
    segment.SetColor(0.1, 0.2, 0.3)
    node.GetSegmentation().AddSegment(segment, "Segment_1")
    case = table.add_volume(a_volume, node)
    assert [label.value for label in case.labels_present(table.labels)] == [1]
    table.rename_label(1, "atrium")
    assert [label.value for label in case.labels_present(table.labels)] == [1]
    assert segment.GetColor() == pytest.approx((0.1, 0.2, 0.3)), "somebody's choice"


def test_what_somebody_called_a_segment_stays(table, case):
    case.annotation.GetSegmentation().GetSegment("SemiSeg_1").SetName("atrium without veins")
    table.rename_label(1, "atrium")
    assert called(case.annotation)["SemiSeg_1"] == "atrium without veins"


def test_two_segments_for_one_label_do_not_keep_it_from_being_renamed(table, case):
    import slicer

    second = slicer.vtkSegment()
    second.DeepCopy(case.annotation.GetSegmentation().GetSegment("SemiSeg_3"))
    case.annotation.GetSegmentation().AddSegment(second, "another")
    table.rename_label(1, "atrium")
    assert [label.name for label in table.labels] == ["atrium", "aorta"]
    assert case.has_drawing


def test_a_mask_that_is_taken_back_is_called_as_its_label_is_now(table, case):
    from SemiSegModuleLib.scene.undo import keep_annotation

    back = keep_annotation(table, case)
    table.rename_label(1, "atrium")
    back()
    assert called(case.annotation)["SemiSeg_1"] == "atrium"


def test_a_mask_that_was_off_the_table_meanwhile_is_called_as_its_label_is_now(table, case):
    """Under the former name it would count as no structure, or as another one that is called so by then."""
    volume = case.volume
    table.remove(case)
    for value, name in ((1, "atrium"), (3, "left atrium"), (1, "left auricle")):
        table.rename_label(value, name)
    again = table.add_volume(volume)
    assert called(again.annotation) == {"SemiSeg_1": "left auricle", "SemiSeg_3": "left atrium"}
    assert [label.value for label in again.labels_present(table.labels)] == [1, 3]
    assert again.done


def test_that_of_another_study_stays_what_it_is(table, case):
    """Its labels were others when its scan left the table."""
    from SemiSegLib.config import Label

    volume = case.volume
    table.remove(case)
    table.labels = [Label(1, "pancreas", (249, 180, 111))]
    table.rename_label(1, "head of the pancreas")
    again = table.add_volume(volume)
    assert again.labels_present(table.labels) == []
    assert sorted(called(again.annotation).values()) == ["aorta", "left atrium"]
