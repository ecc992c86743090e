"""What nobody can tell: a segment that training leaves out, and that is no structure anywhere else."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from drawing import BOX, draw

UNSURE = np.s_[4:6, 3:6, 4:9]  # k, j, i: half of it inside of the drawn box


@pytest.fixture
def doubtful(table, an_oblique_volume):
    """A scan with a drawn box, of which a corner and some voxels beside it are marked as not sure; and the mask."""
    from SemiSegModuleLib.scene import segments, volumes

    case = table.add_volume(an_oblique_volume)
    mask = draw(table, case)
    where = np.zeros(mask.shape, bool)
    where[UNSURE] = True
    segments.set_not_sure(case.annotation, where, volumes.ijk_to_ras(case.volume))
    case.mark_done()
    return case, mask


def exported(table, folder):
    from SemiSegModuleLib.scene.training_files import export_cases

    export = export_cases(table, folder)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labels" / "scan_001.nrrd"))), export


def test_every_annotation_has_the_segment(table, a_volume):
    from SemiSegModuleLib.scene.annotations import make_annotation

    segmentation = make_annotation(table, table.add_volume(a_volume)).GetSegmentation()
    assert segmentation.GetSegment("SemiSeg_not_sure").GetName() == "not sure"
    make_annotation(table, table.cases[0])
    assert segmentation.GetNumberOfSegments() == 3


def test_its_voxels_have_the_ignore_value_in_training_files(doubtful, table, tmp_path):
    _case, mask = doubtful
    expected = mask.copy()
    expected[UNSURE] = 255
    written, export = exported(table, tmp_path / "data")
    assert np.array_equal(written, expected)
    assert export.remarks == [], "it is no foreign segment"


def test_it_is_no_structure_in_exports(doubtful, table, tmp_path):
    from SemiSegModuleLib.exports import export_masks

    from SemiSegLib.data.segnrrd import read_segments

    case, mask = doubtful
    (path,) = export_masks(table, [case], tmp_path, ".seg.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), mask)
    assert [segment.label.name for segment in read_segments(path)] == ["left atrium", "aorta"]


def test_it_alone_is_no_annotation(table, a_volume):
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation
    from SemiSegModuleLib.scene.case import CaseError

    case = table.add_volume(a_volume)
    make_annotation(table, case)
    segments.set_not_sure(case.annotation, np.ones((9, 12, 15), bool), volumes.ijk_to_ras(case.volume))
    assert not case.has_drawing
    with pytest.raises(CaseError, match="Nothing is drawn"):
        case.mark_done()


def test_agreement_with_a_prediction_is_measured_where_somebody_is_sure(doubtful, table, tmp_path):
    """The prediction is the drawn mask without the doubtful corner: where anybody can tell, both are the same."""
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    case, mask = doubtful
    predicted = mask.copy()
    predicted[UNSURE] = 0
    volumes.write_image(volumes.world_image(case.volume, predicted), tmp_path / "mask.nrrd")
    load_prediction(table, case, tmp_path / "mask.nrrd")
    assert case.dsc == 1.0


def test_slices_with_nothing_but_doubt_have_been_looked_at(doubtful, table, tmp_path):
    """The tilted scan's k axis is nearest to the patient's; slices 2 to 5 are drawn or doubtful, the others unseen."""
    case, mask = doubtful
    case.partial = "axial"
    expected = np.full_like(mask, 255)
    expected[2:6] = mask[2:6]
    expected[UNSURE] = 255
    assert np.array_equal(exported(table, tmp_path / "data")[0], expected)


def test_doubt_in_a_file_becomes_the_segment_and_goes_out_as_it_came(doubtful, table, tmp_path):
    from SemiSegModuleLib.scene.loading import add_files

    written, _export = exported(table, tmp_path / "data")
    (tmp_path / "data" / "exported_from_scene.json").unlink()
    (again,) = add_files(table, [tmp_path / "data"])
    assert (again.state.value, again.partial) == ("annotated", "")
    case = table.cases[0]
    case.excluded = True
    from SemiSegModuleLib.scene.training_files import export_cases

    export_cases(table, tmp_path / "again", [again])
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "again" / "labels" / "scan_002.nrrd")))
    assert np.array_equal(stored, written)


def test_an_accepted_mask_with_doubts_is_a_corrected_one(table, a_volume, tmp_path):
    """Training files say how each mask came about; accepted ones count less."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction, make_annotation
    from SemiSegModuleLib.scene.predictions import load_prediction
    from SemiSegModuleLib.scene.training_files import export_cases

    def origins():
        export_cases(table, tmp_path / "data")
        return json.loads((tmp_path / "data" / "origins.json").read_text())

    case = table.add_volume(a_volume)
    mask = np.zeros((9, 12, 15), np.uint8)
    mask[BOX] = 1
    volumes.write_image(volumes.world_image(case.volume, mask), tmp_path / "mask.nrrd")
    load_prediction(table, case, tmp_path / "mask.nrrd")
    accept_prediction(table, case)
    make_annotation(table, case)
    assert origins() == {"scan_001": "accepted"}, "an empty segment more changes nothing"
    where = np.zeros(mask.shape, bool)
    where[UNSURE] = True
    segments.set_not_sure(case.annotation, where, volumes.ijk_to_ras(case.volume))
    assert origins() == {"scan_001": "corrected"}
    case.mark_done(corrected=False)
    assert origins() == {"scan_001": "drawn"}
