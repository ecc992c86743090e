"""A part of a scan predicted alone: which voxels it has, and that nothing outside of it is overwritten."""

import numpy as np
import pytest
import SimpleITK as sitk
from drawing import draw, put_under_transform, write_prediction

GEOMETRIES = ["a_volume", "an_oblique_volume", "a_left_handed_volume"]
SHAPE = (9, 12, 15)


@pytest.fixture(params=GEOMETRIES)
def case(request, scene, table):
    """A case whose scan lies under a transform."""
    volume = request.getfixturevalue(request.param)
    put_under_transform(volume)
    return table.add_volume(volume)


@pytest.fixture
def predict(table, tmp_path):
    """Predict as the network does, what `where` holds getting a value, all of a scan or a part: files, then loaded."""
    from SemiSegModuleLib.scene.predictions import find_prediction, load_part, load_prediction
    from SemiSegModuleLib.scene.training_files import export_cases

    def run(case, value, part=None, where=np.s_[:, :, :], meanwhile=lambda: None):
        folder = tmp_path / f"prediction-{len(list(tmp_path.iterdir()))}"
        image = export_cases(table, folder / "data", [case], whole=part is not None).images / "scan_001.nrrd"
        mask = np.zeros(SHAPE, np.uint8)
        mask[where] = value
        if part is not None:
            scan = sitk.ReadImage(str(image))
            sitk.WriteImage(sitk.RegionOfInterest(scan, part.size, part.start), str(image))
            mask = mask[part.slices]
        write_prediction(folder / "masks", image, mask, table.labels, maps=("sdm", "probabilities"))
        files = find_prediction(folder / "masks", "scan_001")
        meanwhile()
        if part is None:
            load_prediction(table, case, files.mask, files.sdms, files.probabilities)
        else:
            load_part(table, case, files.mask, files.probabilities)

    return run


def voxels(table, case):
    from SemiSegModuleLib.scene import segments

    return segments.voxels_on_grid(case.prediction, case.volume, table.labels)


def box(start, size):
    from SemiSegModuleLib.scene.volumes import VoxelBox

    return VoxelBox(start, size)


def test_a_part_leaves_what_was_predicted_outside(table, case, predict):
    import slicer

    predict(case, 1, where=np.s_[1:8, 2:10, 3:12])
    expected, part = voxels(table, case), box((2, 4, 0), (6, 5, 4))
    predict(case, 3, part)
    expected[part.slices] = 3
    assert np.array_equal(voxels(table, case), expected)
    assert [found.size for found in case.predicted_parts] == [(15, 12, 9)]  # as before: all of the scan
    assert case.sdms == {}
    assert case.confidence == pytest.approx(0.75)
    for value, node in case.probabilities.items():
        assert np.allclose(slicer.util.arrayFromVolume(node), 0.75 * (expected == value))
        assert node.GetParentTransformNode() is case.volume.GetParentTransformNode()
    assert not case.prediction_edited


def estimate(dsc=0.9):
    """What `SemiSegLib.quality` says of a prediction."""
    return {"expected_dsc": dsc, "low": dsc - 0.1, "high": dsc + 0.05, "empty": False, "classes": {}}


def test_what_is_expected_of_the_whole_scan_is_not_said_of_a_mask_with_another_part(table, case, predict, tmp_path):
    """Not as long as all of it is not predicted at once again: also not where an estimate comes late."""
    from SemiSegModuleLib.scene.quality import load_quality
    from SemiSegModuleLib.scene.undo import keep_removed

    part = box((0, 0, 1), (15, 12, 2))
    predict(case, 1)
    load_quality(table, case, estimate(), tmp_path / "model")
    assert (case.expected_dsc, case.predicted_at_once) == (0.9, True)
    predict(case, 3, part)
    assert (case.quality, case.expected_dsc, case.predicted_at_once) == (None, None, False)
    load_quality(table, case, estimate(), tmp_path / "model")  # of the prediction before, still on its way
    assert case.quality is None
    back = keep_removed(table, case)
    table.remove(case)
    assert not back().predicted_at_once
    predict(case, 1)
    load_quality(table, case, estimate(0.8), tmp_path / "model")
    assert (case.expected_dsc, case.predicted_at_once) == (0.8, True)
    table.forget_prediction(case)
    predict(case, 3, part)
    assert not case.predicted_at_once


def test_parts_one_after_the_other_are_joined(table, case, predict):
    first, second = box((0, 0, 1), (15, 12, 2)), box((0, 0, 6), (15, 12, 1))
    predict(case, 1, first)
    predict(case, 3, second)
    expected = np.zeros(SHAPE)
    expected[1:3], expected[6] = 1, 3
    assert np.array_equal(voxels(table, case), expected)
    assert case.predicted_parts == [first, second]
    assert case.predicted_elsewhere  # not all of the scan
    assert np.array_equal(case.predicted_voxels(), expected > 0)
    predict(case, 1, box((0, 0, 5), (15, 12, 3)))
    assert case.predicted_parts == [first, box((0, 0, 5), (15, 12, 3))]


def test_what_was_drawn_between_the_parts_stays_when_they_are_accepted(table, case, predict):
    """Nothing was predicted there, so nothing speaks against it."""
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import accept_prediction

    draw(table, case, 1, np.s_[0:9, 3:6, 3:6])
    predict(case, 3, box((0, 0, 1), (15, 12, 2)))
    predict(case, 3, box((0, 0, 6), (15, 12, 1)))
    accept_prediction(table, case, overwrite=True)
    expected = np.zeros(SHAPE)
    expected[:, 3:6, 3:6] = 1
    expected[1:3], expected[6] = 3, 3
    assert np.array_equal(segments.voxels_on_grid(case.annotation, case.volume, table.labels), expected)


def test_slices_that_are_accepted_are_no_annotation_of_the_others(table, case, predict):
    """Training would learn that there is nothing where nobody has looked."""
    from SemiSegModuleLib.scene.annotations import accept_prediction, annotation_mask
    from SemiSegModuleLib.scene.slices import orientation_of
    from SemiSegModuleLib.scene.undo import keep_annotation

    predict(case, 1, box((0, 0, 1), (15, 12, 2)), where=np.s_[1, 3:6, 3:6])
    predict(case, 3, box((0, 0, 6), (15, 12, 1)))
    back = keep_annotation(table, case)
    accept_prediction(table, case)
    expected = np.full(SHAPE, 255)
    expected[1:3], expected[6] = 0, 3
    expected[1, 3:6, 3:6] = 1
    orientation = orientation_of(case, 2)
    assert (case.state.value, case.partial, case.empty_slices) == ("corrected", orientation, (2,))
    assert np.array_equal(annotation_mask(case, table.labels), expected)
    back()
    assert (case.annotation, case.partial, case.slice_plan_of(orientation)) == (None, "", None)
    accept_prediction(table, case, done=False)
    case.mark_done()
    assert np.array_equal(annotation_mask(case, table.labels), expected), "corrected and then called done"


@pytest.mark.parametrize("done", [True, False], ids=["accepted", "corrected"])
def test_a_part_that_is_no_slices_is_taken_over_within_the_box_of_the_scan_alone(table, case, predict, done):
    """A mask to correct counts as the whole scan's, too, once somebody calls it done."""
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction, add_region
    from SemiSegModuleLib.scene.case import CaseError

    predict(case, 1, box((2, 1, 1), (8, 7, 6)))
    with pytest.raises(CaseError, match=r"Only a part of '.*scan' was predicted"):
        accept_prediction(table, case, done=done)
    assert case.annotation is None
    region = add_region(table, case)
    region.SetSize(*(5 * spacing for spacing in case.volume.GetSpacing()))
    region.SetCenter(*(volumes.ijk_to_ras(case.volume) @ [5.5, 4.0, 3.5, 1.0])[:3])
    assert box((2, 1, 1), (8, 7, 6)).contains(case.box())
    accept_prediction(table, case, done=done)
    case.mark_done()
    assert (case.state.value, case.partial) == ("corrected", "")


def test_a_part_of_a_scan_that_is_annotated_as_a_whole_leaves_it_so(table, case, predict):
    from SemiSegModuleLib.scene.annotations import accept_prediction

    draw(table, case, 1, np.s_[0:9, 3:6, 3:6])
    case.mark_done()
    predict(case, 3, box((2, 1, 1), (8, 7, 6)))
    accept_prediction(table, case, overwrite=True)
    assert (case.state.value, case.partial) == ("corrected", "")


def test_somebodys_changes_outside_a_part_stay_and_are_known(table, case, predict):
    from SemiSegModuleLib.scene import segments, volumes

    predict(case, 1, where=np.s_[1:8, 2:10, 3:12])
    edited = voxels(table, case)
    edited[8] = 3
    segments.set_voxels(case.prediction, edited, volumes.ijk_to_ras(case.volume), table.labels)
    assert case.prediction_edited
    predict(case, 1, box((0, 0, 0), (15, 12, 1)))
    assert (voxels(table, case)[8] == 3).all()
    assert case.prediction_edited  # so that somebody is asked before all of it is predicted again


def test_agreement_counts_where_something_was_predicted(table, case, predict):
    draw(table, case, 1, np.s_[0:9, 3:6, 3:6])
    case.mark_done()
    predict(case, 1, box((0, 0, 2), (15, 12, 1)), where=np.s_[2, 3:6, 3:6])
    assert case.dsc == 1.0


def test_a_part_beside_labels_of_another_model_is_refused(table, case, predict):
    from SemiSegModuleLib.scene.case import CaseError

    predict(case, 1, where=np.s_[1:8, 2:10, 3:12])
    case.prediction.GetSegmentation().AddEmptySegment("other", "kidney")
    before = voxels(table, case)
    with pytest.raises(CaseError, match="predict the whole scan"):
        predict(case, 3, box((0, 0, 0), (15, 12, 1)))
    assert np.array_equal(voxels(table, case), before)


def test_a_scan_that_got_other_voxels_meanwhile_is_told(table, case, predict):
    from SemiSegModuleLib.scene.case import CaseError

    with pytest.raises(CaseError, match="predict the part again"):
        predict(case, 1, box((0, 0, 0), (15, 12, 1)), meanwhile=lambda: case.volume.SetSpacing(1, 1, 1))
    assert case.prediction is None


@pytest.mark.parametrize(("thickness", "slices"), [(0.0, 1), (5.0, None), (1000.0, None)])
@pytest.mark.parametrize("orientation", ["axial", "coronal", "sagittal"])
def test_a_slab_holds_the_slices_within_its_thickness(case, orientation, thickness, slices):
    """Checked voxel by voxel in the world."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.region import slab

    to_world = segments.world_matrix(case.volume) @ volumes.ijk_to_ras(case.volume)
    axis = volumes.slice_axis(case.volume, orientation)
    place = (to_world @ [7.2, 5.8, 4.1, 1])[:3]
    found = slab(case.volume, orientation, place, thickness)
    numbers = np.arange(SHAPE[::-1][axis])
    distance = np.abs(numbers - [7.2, 5.8, 4.1][axis]) * np.linalg.norm(to_world[:3, axis])
    expected = numbers[(distance <= thickness / 2) | (distance == distance.min())]
    assert (found.start[axis], found.size[axis]) == (expected[0], len(expected))
    assert all(found.size[other] == SHAPE[::-1][other] for other in range(3) if other != axis)
    assert slices in (None, found.size[axis])


def test_a_slice_beside_the_scan_is_told(case):
    from SemiSegModuleLib.scene.region import RegionError, slab

    with pytest.raises(RegionError, match="lies beside"):
        slab(case.volume, "axial", (0, 0, 1000))


def test_the_slice_that_is_shown_is_taken_from_the_view_of_its_orientation(case, scene):
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.region import shown_place, slab

    to_world = segments.world_matrix(case.volume) @ volumes.ijk_to_ras(case.volume)
    assert slab(case.volume, "axial", shown_place(case.volume, "axial")).size.count(1) == 1  # without any view
    place = (to_world @ [3, 9, 6, 1])[:3]
    for name in ("Axial", "Coronal", "Sagittal"):
        view = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetLayoutName(name)
        view.SetOrientation(name)
        view.JumpSliceByCentering(*place)
    for name in ("axial", "coronal", "sagittal"):
        axis = volumes.slice_axis(case.volume, name)
        assert slab(case.volume, name, shown_place(case.volume, name)).start[axis] == (3, 9, 6)[axis]


def test_a_prediction_of_a_whole_scan_stays_that_when_the_scan_is_resampled(table, case, predict):
    """It was taken for one of the first slices alone, and of the others nothing counted."""
    import slicer
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.annotations import accept_prediction, annotation_mask

    predict(case, 1, where=np.s_[1:8, 2:10, 3:12])
    to_ras = volumes.ijk_to_ras(case.volume)
    to_ras[:3, 2] /= 4
    finer = np.repeat(slicer.util.arrayFromVolume(case.volume), 4, axis=0)
    volumes.fill_volume(case.volume, finer, to_ras)
    assert case.predicted_voxels().all()
    accept_prediction(table, case)
    assert (case.partial, case.slice_plan) == ("", None)
    assert set(np.unique(annotation_mask(case, table.labels))) == {0, 1}
