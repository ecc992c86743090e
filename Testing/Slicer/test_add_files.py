"""Scans and masks from files and folders into the case table."""

import numpy as np
import pytest
import SimpleITK as sitk
from drawing import corner_points, draw, same_points, world_points


@pytest.fixture
def a_data_set(tmp_path):
    """Four synthetic scans in the layout of training, three with a mask: axial, oblique, flipped, left-handed."""
    from SemiSegLib.synthetic import make_dataset

    return make_dataset(tmp_path / "synthetic", cases=4, labelled=3, validation=0, size=(24, 24, 12))


def test_a_data_set_becomes_annotated_and_unlabelled_cases_in_place(table, a_data_set):
    import slicer
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.loading import add_files

    cases = add_files(table, [a_data_set])
    assert [case.name for case in cases] == ["atrium_001", "atrium_002", "atrium_003", "atrium_004"]
    assert [case.state.value for case in cases] == ["annotated"] * 3 + ["unlabelled"]
    for case in cases[:3]:
        mask = segments.voxels_on_grid(case.annotation, case.volume, table.labels)
        stored = world_points(a_data_set / "labels" / f"{case.name}.nii.gz", 1)
        assert same_points(corner_points(case.volume, np.argwhere(mask == 1)), stored, tolerance=1e-2)
    scan = sitk.ReadImage(str(a_data_set / "images" / "atrium_004.nii.gz"))
    (point,) = corner_points(cases[3].volume, np.array([[3, 5, 7]]))
    value = slicer.util.arrayFromVolume(cases[3].volume)[3, 5, 7]
    assert scan[scan.TransformPhysicalPointToIndex(point.tolist())] == pytest.approx(value)


def test_one_file_becomes_one_unlabelled_case(table, a_data_set):
    from SemiSegModuleLib.scene.loading import add_files

    (case,) = add_files(table, [a_data_set / "images" / "atrium_002.nii.gz"])
    assert (case.name, case.state.value) == ("atrium_002", "unlabelled")


def test_an_export_comes_back_with_values_and_partial_slices(application, table, add_volume, tmp_path):
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import annotation_mask
    from SemiSegModuleLib.scene.loading import add_files
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(add_volume("scan"))
    draw(table, case, 1)
    draw(table, case, 3, np.s_[6, 1:3, 1:3])
    case.partial = "axial"
    case.mark_done()
    written = annotation_mask(case, table.labels)
    labels = table.labels
    export_cases(table, tmp_path / "data")
    application.scene.Clear(0)
    (again,) = add_files(table, [tmp_path / "data"])
    assert [(label.value, label.name) for label in table.labels] == [(label.value, label.name) for label in labels]
    assert (again.state.value, again.partial) == ("annotated", "axial")
    assert np.array_equal(annotation_mask(again, table.labels), written)
    assert segments.voxel_counts(again.annotation, table.labels) == {1: 75, 3: 4}


def test_segmentations_beside_scans_keep_their_names(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.loading import add_files

    from SemiSegLib.config import Label
    from SemiSegLib.data.writing import write_mask

    scan = volumes.world_image(a_volume)
    sitk.WriteImage(scan, str(tmp_path / "p1.nrrd"))
    mask = np.zeros((9, 12, 15), np.uint8)
    mask[2:4, 2:4, 2:4] = 2  # another number than the task's 3
    image = sitk.GetImageFromArray(mask)
    image.CopyInformation(scan)
    write_mask(image, tmp_path / "p1.seg.nrrd", [Label(2, "aorta", (9, 9, 9))])
    (case,) = add_files(table, [tmp_path])
    assert case.labels_present(table.labels) == [table.labels[1]]


def test_a_mask_with_unknown_values_names_the_file(table, a_data_set):
    from SemiSegModuleLib.scene.loading import add_files

    from SemiSegLib.errors import SemiSegError

    path = a_data_set / "labels" / "atrium_001.nii.gz"
    mask = sitk.ReadImage(str(path))
    sitk.WriteImage(mask * 5, str(path))
    with pytest.raises(SemiSegError, match=r"atrium_001\.nii\.gz.*\[5\]"):
        add_files(table, [a_data_set])


def test_a_folder_without_scans_says_what_is_understood(table, tmp_path):
    from SemiSegModuleLib.scene.loading import add_files

    from SemiSegLib.errors import SemiSegError

    with pytest.raises(SemiSegError, match="no scans found"):
        add_files(table, [tmp_path])


def test_without_nibabel_nifti_masks_are_read_all_the_same(table, a_data_set, monkeypatch):
    import sys

    from SemiSegModuleLib.scene.loading import add_files

    monkeypatch.setitem(sys.modules, "nibabel", None)  # as in Slicer itself, which has no nibabel
    cases = add_files(table, [a_data_set])
    assert [case.state.value for case in cases] == ["annotated"] * 3 + ["unlabelled"]


def test_a_dicom_series_is_added_in_place(table, a_volume, tmp_path):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.loading import add_files

    folder = tmp_path / "series"
    folder.mkdir()
    write_series(volumes.world_image(a_volume), folder)
    (case,) = add_files(table, [folder])
    import slicer

    index = np.array([[2, 4, 6]])
    assert np.allclose(corner_points(case.volume, index), corner_points(a_volume, index), atol=1e-3)
    value = slicer.util.arrayFromVolume(case.volume)[2, 4, 6]
    assert value == slicer.util.arrayFromVolume(a_volume)[2, 4, 6]


def test_scans_of_whose_files_nobody_knows_the_state_are_not_one(table, a_data_set, monkeypatch):
    """A drive that is away for a moment: the second scan took the first's place, with its mask."""
    from SemiSegModuleLib.scene import loading

    monkeypatch.setattr(loading, "source_of", lambda path, frame=None: "")
    cases = loading.add_files(table, [a_data_set])
    assert [case.volume.GetName() for case in cases] == ["atrium_001", "atrium_002", "atrium_003", "atrium_004"]


def write_series(image, folder):
    """Axial slices as DICOM files, by SimpleITK."""
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    image = sitk.Cast(image, sitk.sitkInt16)
    for number in range(image.GetDepth()):
        one = image[:, :, number : number + 1]
        origin = image.TransformIndexToPhysicalPoint((0, 0, number))
        direction = image.GetDirection()
        tags = {
            "0008|0060": "MR",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{number + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.3",
            "0020|0032": "\\".join(f"{part:.6f}" for part in origin),
            "0020|0037": "\\".join(f"{direction[i]:.6f}" for i in (0, 3, 6, 1, 4, 7)),
            "0020|0013": str(number + 1),
        }
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number:03d}.dcm"))
        writer.Execute(one)


def test_labels_of_the_data_set_are_taken_over_when_the_task_has_none(scene, a_volume, tmp_path):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.case_table import CaseTable
    from SemiSegModuleLib.scene.loading import add_files

    from SemiSegLib.config import Label
    from SemiSegLib.data.writing import write_mask

    scan = volumes.world_image(a_volume)
    sitk.WriteImage(scan, str(tmp_path / "p1.nrrd"))
    mask = sitk.GetImageFromArray(np.eye(12, 15, dtype=np.uint8)[None].repeat(9, 0) * 4)
    mask.CopyInformation(scan)
    label = Label(4, "kidney", (10, 20, 30))
    write_mask(mask, tmp_path / "p1.seg.nrrd", [label])
    table = CaseTable(scene)
    add_files(table, [tmp_path])
    assert table.labels == [label]
    table.close()


def volume_count():
    import slicer

    return len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def test_a_folder_that_is_added_again_brings_nothing_twice(table, a_data_set):
    """Doubles would be learnt from twice, and measured with what was learnt from."""
    from SemiSegModuleLib.scene.loading import add_files

    told = []
    cases = add_files(table, [a_data_set], tell=told.append)
    assert told == []
    again = add_files(table, [a_data_set, a_data_set / "images" / "atrium_002.nii.gz"], tell=told.append)
    assert again == table.cases == cases
    assert volume_count() == 4
    assert told == ["In the study already, and not added again: atrium_001, atrium_002, atrium_003, atrium_004."]


def test_two_patients_whose_files_are_called_alike_are_both_added(table, a_data_set, tmp_path):
    from SemiSegModuleLib.scene.loading import add_files

    paths = []
    for name in ("atrium_001", "atrium_004"):
        paths.append(tmp_path / name / "scan.nii.gz")
        paths[-1].parent.mkdir()
        (a_data_set / "images" / f"{name}.nii.gz").rename(paths[-1])
    assert len({case.id for path in paths for case in add_files(table, [path])}) == 2
    paths[0].write_bytes(paths[1].read_bytes())  # another scan in its place
    assert len({case.id for path in paths for case in add_files(table, [path])}) == 2
    assert len(table) == 3


def test_a_scan_that_slicer_itself_has_loaded_is_known(application, table, a_data_set, tmp_path):
    import slicer
    from SemiSegModuleLib.scene.loading import add_files

    path = a_data_set / "images" / "atrium_002.nii.gz"
    slicer.modules.volumes.logic().AddArchetypeVolume(str(path), "as a mask", 1)
    volume = slicer.modules.volumes.logic().AddArchetypeVolume(str(path), "as somebody called it")
    (case,) = add_files(table, [path])
    assert (case.volume, volume_count()) == (volume, 2)


def test_a_copy_that_somebody_changed_is_not_taken_for_the_file(table, a_data_set, scene):
    import slicer
    from SemiSegModuleLib.scene.loading import add_files

    path = a_data_set / "images" / "atrium_002.nii.gz"
    (case,) = add_files(table, [path])
    copy = slicer.modules.volumes.logic().CloneVolume(scene, case.volume, "smoothed")
    scene.RemoveNode(case.volume)
    (again,) = add_files(table, [path])
    assert again.volume is not copy


def test_a_mask_that_came_after_its_scan_is_taken_and_none_in_place_of_another(table, a_data_set):
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.loading import add_files

    mask = a_data_set / "labels" / "atrium_001.nii.gz"
    away = mask.rename(a_data_set / mask.name)
    first, second, *_others = add_files(table, [a_data_set])
    draw(table, second, 3)
    away.rename(mask)
    told = []
    add_files(table, [a_data_set], tell=told.append)
    assert [case.state.value for case in table] == ["annotated"] * 3 + ["unlabelled"]
    assert first.labels_present(table.labels) == table.labels[:1]
    assert segments.voxel_counts(second.annotation, table.labels)[3] == 75
    assert told == ["In the study already, and not added again: atrium_002, atrium_003, atrium_004."]


def test_a_scan_that_was_taken_off_the_table_comes_back_with_what_was_drawn(table, a_data_set):
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.loading import add_files

    (case,) = add_files(table, [a_data_set / "images" / "atrium_004.nii.gz"])
    draw(table, case, 3)
    table.remove(case)
    told = []
    *_others, again = add_files(table, [a_data_set], tell=told.append)
    assert segments.voxel_counts(again.annotation, table.labels) == {1: 0, 3: 75}
    assert (volume_count(), told) == (4, [])


def test_progress_names_no_file_where_names_are_hidden(table, a_data_set):
    """Files are called as patients are, often enough."""
    from SemiSegModuleLib.scene.loading import add_files

    seen = []
    table.names_hidden = True
    add_files(table, [a_data_set], lambda done, count, name: seen.append((done, count, name)))
    assert seen
    assert {name for _, _, name in seen} == {""}


def test_hundreds_of_files_are_told_of_once(table, a_data_set):
    """Each look at all of them takes longer the more there are."""
    from SemiSegModuleLib.scene.loading import add_files

    heard = []
    table.changed.connect(lambda: heard.append(len(table)))
    add_files(table, [a_data_set])
    assert heard == [4]


def test_frames_of_one_patient_that_are_added_later_are_of_that_patient(table, a_data_set, tmp_path):
    from SemiSegModuleLib.scene.loading import add_files

    folder = tmp_path / "frames"
    folder.mkdir()
    for added, (name, number) in enumerate((("atrium_001", 2), ("atrium_004", 3), ("atrium_003", 1)), 1):
        (a_data_set / "images" / f"{name}.nii.gz").rename(folder / f"p_frame0{number}.nii.gz")
        add_files(table, [folder])
        assert len(table) == added
    assert len({case.patient_key for case in table}) == 1


def a_mask_of(scan, path, value=3, name="aorta"):
    """A Slicer segmentation of a scan's voxels, with one structure."""
    from SemiSegLib.config import Label
    from SemiSegLib.data.writing import write_mask

    image = sitk.ReadImage(str(scan))
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[2:4, 2:4, 2:4] = value
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    write_mask(mask, path, [Label(value, name, (9, 9, 9))])
    return path


def test_a_scan_that_is_chosen_with_its_segmentation_has_it_as_its_annotation(table, a_data_set):
    from SemiSegModuleLib.scene.loading import add_files

    images = a_data_set / "images"
    first, second = images / "atrium_001.nii.gz", images / "atrium_002.nii.gz"
    mask = a_mask_of(first, images / "atrium_001.seg.nrrd", value=2)  # another number than the task's 3
    told = []
    cases = add_files(table, [first, mask, second], tell=told.append)
    assert [(case.name, case.state.value) for case in cases] == [
        ("atrium_001", "annotated"),
        ("atrium_002", "unlabelled"),
    ]
    assert cases[0].labels_present(table.labels) == [table.labels[1]]
    assert told == []


def test_a_segmentation_without_its_scan_is_left_out_and_named(table, a_data_set):
    from SemiSegModuleLib.scene.loading import add_files

    from SemiSegLib.errors import SemiSegError

    images = a_data_set / "images"
    scan = images / "atrium_001.nii.gz"
    masks = [a_mask_of(scan, images / f"{name}.seg.nrrd") for name in ("atrium_001", "atrium_003")]
    told = []
    (case,) = add_files(table, [scan, *masks], tell=told.append)
    assert case.state.value == "annotated"
    assert len(told) == 1
    assert told[0].endswith("left out: atrium_003.seg.nrrd.")
    with pytest.raises(SemiSegError, match="not a scan"):
        add_files(table, masks[1:])
