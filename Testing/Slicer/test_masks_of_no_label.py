"""Masks in which nothing is drawn for a label of the task: they are no empty masks, and nobody is told so by a file."""

import numpy as np
import pytest
from drawing import BOX, draw


def draw_in_a_segment_of_ones_own(case, name="Segment_3"):
    """As after *Add* in the Segment Editor."""
    import slicer

    identifier = case.annotation.GetSegmentation().AddEmptySegment("", name)
    array = np.zeros((9, 12, 15), np.uint8)
    array[BOX] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, case.annotation, identifier, case.volume)
    return identifier


@pytest.fixture
def case(table, a_volume):
    """A scan in whose annotation something is drawn, but in no segment of a label."""
    from SemiSegModuleLib.scene.annotations import make_annotation

    case = table.add_volume(a_volume)
    make_annotation(table, case)
    draw_in_a_segment_of_ones_own(case)
    return case


def test_what_is_drawn_for_no_label_is_not_done(case):
    from SemiSegModuleLib.scene.case import CaseError

    with pytest.raises(CaseError, match=r"for 'left atrium', 'aorta', but in 'Segment_3'"):
        case.mark_done()
    assert case.unfinished


def test_it_is_once_the_segment_is_called_as_the_label(case, table, tmp_path):
    from SemiSegModuleLib.exports import export_masks

    segmentation = case.annotation.GetSegmentation()
    segmentation.RemoveSegment("SemiSeg_1")
    segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName("Segment_3")).SetName("Left Atrium")
    case.mark_done()
    assert export_masks(table, [case], tmp_path)


def test_a_helper_beside_a_label_is_nobodys_concern(case, table, tmp_path):
    from SemiSegModuleLib.exports import export_masks
    from SemiSegModuleLib.scene.checks import check_masks

    identifier = case.annotation.GetSegmentation().GetSegmentIdBySegmentName("Segment_3")
    draw(table, case)
    assert case.annotation.GetSegmentation().GetSegment(identifier) is None
    draw_in_a_segment_of_ones_own(case)
    case.mark_done()
    assert check_masks([case], table.labels) == []
    assert export_masks(table, [case], tmp_path)


def exports(table, folder):
    from SemiSegModuleLib import exports

    return [
        lambda **more: exports.export_masks(table, table.cases, folder, ".nii.gz", **more),
        lambda **more: exports.export_surfaces(table, table.cases, folder, **more),
        lambda **more: exports.export_volumes_csv(table, table.cases, folder / "volumes.csv", **more),
    ]


def test_no_file_says_that_nothing_was_drawn(case, table, tmp_path):
    from SemiSegModuleLib.exports import ExportError

    for export in exports(table, tmp_path):
        with pytest.raises(ExportError, match="'scan' shows nothing but Segment_3"):
            export(source="annotation")
    assert list(tmp_path.iterdir()) == []


def test_nor_of_a_finished_mask_whose_label_was_called_otherwise_since(table, a_volume, tmp_path):
    import slicer
    from SemiSegModuleLib.exports import ExportError
    from SemiSegModuleLib.scene.checks import check_masks

    from SemiSegLib.config import Label

    node = table.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "doctor's")
    identifier = node.GetSegmentation().AddEmptySegment("", "aorta")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((9, 12, 15), np.uint8), node, identifier, a_volume)
    table.add_volume(a_volume, node).mark_done()
    table.labels = [Label(1, "left atrium", (1, 2, 3))]
    for export in exports(table, tmp_path):
        with pytest.raises(ExportError, match="shows nothing but aorta, which is no label of the task"):
            export()
    assert list(tmp_path.iterdir()) == []
    (remark,) = check_masks(table.cases, table.labels)
    assert remark.text == "All that is drawn is in aorta: that is no label of the task"


def test_a_prediction_by_a_model_of_other_labels_is_neither_given_away_nor_accepted(table, a_volume, tmp_path):
    """A label was renamed after the training."""
    import json

    from SemiSegModuleLib.exports import ExportError, export_masks
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_prediction

    case = table.add_volume(a_volume)
    array = np.zeros((9, 12, 15), np.uint8)
    array[BOX] = 1
    volumes.write_image(volumes.world_image(a_volume, array), tmp_path / "mask.nrrd")
    labels = {"labels": [{"value": 1, "name": "LA", "color": [1, 2, 3]}]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    load_prediction(table, case, tmp_path / "mask.nrrd")
    with pytest.raises(ExportError, match="shows nothing but LA"):
        export_masks(table, [case], tmp_path / "masks")
    with pytest.raises(CaseError, match="shows LA, which is no label"):
        accept_prediction(table, case)
    assert case.annotation is None
