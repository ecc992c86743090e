"""Sequences of volumes: each frame is a case with its own mask, in its own place, of one patient with the others."""

from __future__ import annotations

import json

import numpy as np
import pytest

COUNT = 3


@pytest.fixture
def a_sequence(scene, add_volume, tilted):
    """Three tilted volumes that nothing shows."""
    from cine import make_sequence

    return make_sequence(scene, [add_volume("frame" + "x" * number, tilted) for number in range(COUNT)])


@pytest.fixture
def play(scene, a_sequence):
    """Shows a frame of the sequence, by its number, and returns the node that shows it."""
    from cine import make_player

    return make_player(scene, a_sequence)


@pytest.fixture
def a_cine(a_sequence, play):
    """The sequence, with its first frame shown."""
    return a_sequence


def voxels(node):
    import slicer

    return slicer.util.arrayFromVolume(node)


def draw(table, case, size=3):
    """A block of the first label in the middle of the case's annotation."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    mask = np.zeros(voxels(case.volume).shape, np.uint8)
    k, j, i = (side // 2 for side in mask.shape)
    mask[k : k + size, j : j + size, i : i + size] = 1
    segments.set_voxels(make_annotation(table, case), mask, volumes.ijk_to_ras(case.volume), table.labels)
    case.mark_done()
    return mask


def test_every_frame_becomes_a_case_called_as_the_library_does(table, a_cine):
    from SemiSegModuleLib.scene.volumes import ijk_to_ras

    a_cine.SetName("cine_4d")  # as of a file of that name
    cases = table.add_volumes([a_cine])
    assert [case.name for case in cases] == ["cine_frame01", "cine_frame02", "cine_frame03"]
    for number, case in enumerate(cases):
        assert np.array_equal(voxels(case.volume), voxels(a_cine.GetNthDataNode(number)))
        assert np.allclose(ijk_to_ras(case.volume), ijk_to_ras(a_cine.GetNthDataNode(number)))
        assert case.volume.GetImageData() is a_cine.GetNthDataNode(number).GetImageData()  # kept in memory once
    assert len({case.patient_key for case in cases}) == 1
    assert table.add_volumes([a_cine]) == cases
    assert len(table) == COUNT


def test_what_shows_the_sequence_is_no_scan(table, a_cine, play, a_volume):
    from SemiSegModuleLib.scene.case import CaseError

    assert table.candidates() == [a_volume]
    assert table.sequence_candidates() == [a_cine]
    with pytest.raises(CaseError, match="'cine' shows the frames of a sequence"):
        table.add_volume(play(1))
    assert [case.scan_name for case in table.add_volumes()] == ["scan", "cine_frame01", "cine_frame02", "cine_frame03"]
    assert table.candidates() == table.sequence_candidates() == []


def test_frames_stay_as_they_are_while_the_sequence_is_played(table, a_cine, play):
    cases = table.add_volumes([a_cine])
    before = [voxels(case.volume).copy() for case in cases]
    for number in (2, 0, 1):
        assert np.array_equal(voxels(play(number)), before[number])
        assert all(np.array_equal(voxels(case.volume), array) for case, array in zip(cases, before, strict=True))


def test_one_frame_alone_and_later_the_others(table, a_cine, play):
    from SemiSegModuleLib.scene import sequences

    play(1)
    [case] = table.add_frames(a_cine, [sequences.shown_frame(a_cine)])
    assert case.name == "cine_frame02"
    assert table.sequence_candidates() == [a_cine]
    assert table.add_volumes()[1] == case
    assert sorted(each.name for each in table) == ["cine_frame01", "cine_frame02", "cine_frame03"]
    table.remove(case)
    assert table.sequence_candidates() == [a_cine]


def test_a_frame_that_was_removed_comes_back_once_and_of_its_patient(table, a_cine, scene):
    """By any of the ways in; its volume is still in the scene."""
    for add in (table.add_volumes, lambda: table.add_volumes([a_cine]), lambda: table.add_frames(a_cine, [1])):
        _first, second, _third = table.add_volumes([a_cine])
        group, volume = second.group, second.volume
        table.remove(second)
        added = add()
        assert len(added) == len(set(added))
        assert sorted(case.name for case in table) == ["cine_frame01", "cine_frame02", "cine_frame03"]
        (again,) = [case for case in table if case.volume is volume]
        assert (again.group, again.frame) == (group, 1)
        assert table.candidates() == table.sequence_candidates() == []
        assert len({case.patient_key for case in table}) == 1


def test_a_copy_of_a_frame_is_none(table, a_cine, scene):
    """Slicer copies a volume with everything that it says of itself; what was made of the copy is not the frame."""
    second = table.add_volumes([a_cine])[1]
    volume = second.volume
    mask = draw(table, second)
    second.mark_done()
    table.remove(second)
    copy = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "smoothed")
    copy.CopyContent(volume)
    copy.Copy(volume)
    copy.SetName("smoothed")
    other = table.add_volume(copy)
    assert (other.frame, other.patient_key) == (None, table.cases[0].patient_key), "of the same patient all the same"
    assert [node.GetName() for node in table.sequence_candidates()] == [a_cine.GetName()]
    added = table.add_volumes([a_cine])
    assert [case.volume.GetName() for case in added] == ["cine_frame01", "cine_frame02", "cine_frame03"]
    assert added[1].volume is volume
    assert added[1].done
    assert mask.any()


def test_a_frame_that_was_removed_stays_so_when_new_scans_are_added(table, a_cine):
    from SemiSegModuleLib.scene import sequences

    [first] = table.add_frames(a_cine, [sequences.shown_frame(a_cine)])
    table.add_frames(a_cine, [1])
    table.remove(table.cases[1])
    table.add_new_volumes()
    assert [case.name for case in table] == ["cine_frame01", "cine_frame03"]
    assert first in table.cases


def test_a_frame_that_was_added_again_is_not_doubled_by_undo(table, a_cine):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.undo import keep_removed

    second = table.add_volumes([a_cine])[1]
    back = keep_removed(table, second)
    table.remove(second)
    table.add_volumes()
    assert back() == second
    assert sorted(case.name for case in table) == ["cine_frame01", "cine_frame02", "cine_frame03"]
    assert second in table.cases, "nothing was done with the one that was added"

    back = keep_removed(table, second)
    table.remove(second)
    (again,) = [case for case in table.add_volumes() if case.frame == 1]
    mask = draw(table, again)
    with pytest.raises(CaseError, match="'cine_frame02' is in the table again"):
        back()
    assert len(table) == COUNT
    assert again in table.cases
    assert again.done
    assert mask.any()


def test_a_sequence_without_a_browser_can_be_added(table, a_sequence):
    from SemiSegModuleLib.scene import sequences

    assert sequences.shown_frame(a_sequence) is None
    assert len(table.add_volumes()) == COUNT


def test_other_sequences_are_not_offered(table, scene):
    import slicer

    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "transforms")
    sequence.SetDataNodeAtValue(slicer.vtkMRMLLinearTransformNode(), "0")
    scene.AddNewNodeByClass("vtkMRMLSequenceNode", "empty")
    assert table.sequence_candidates() == []


def test_frames_lie_below_the_transform_and_the_patient_of_the_sequence(table, play, scene):
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Anna")
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy.SetItemAttribute(patient, constants.GetSubjectHierarchyLevelAttributeName(), "Patient")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(play(0)), patient)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    play(0).SetAndObserveTransformNodeID(transform.GetID())
    cases = table.add_volumes()
    assert {case.patient for case in cases} == {"Anna"}
    assert {case.volume.GetParentTransformNode() for case in cases} == {transform}


def test_masks_stay_on_their_own_frames_and_are_exported_with_them(table, play, tmp_path):
    import SimpleITK as sitk
    from SemiSegModuleLib.exports import export_masks
    from SemiSegModuleLib.scene.volumes import world_image

    first, second, third = table.add_volumes()
    expected = {case: draw(table, case, size) for case, size in ((first, 2), (third, 4))}
    play(2)
    assert not second.has_drawing
    paths = export_masks(table, table.cases, tmp_path, ".nii.gz")
    assert [path.name for path in paths] == ["cine_frame01.nii.gz", "cine_frame03.nii.gz"]
    for path, case in zip(paths, (first, third), strict=True):
        mask, scan = sitk.ReadImage(path), world_image(case.volume)
        assert np.array_equal(sitk.GetArrayFromImage(mask), expected[case])
        for get in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(mask, get)(), getattr(scan, get)(), atol=1e-4)
    paths = export_masks(table, table.cases, tmp_path / "patients", ".nii.gz", by_patient=True)
    assert [path.parent.name for path in paths] == ["cine", "cine"]


def test_training_keeps_the_frames_of_a_patient_together(table, a_cine, add_volume, tmp_path):
    from SemiSegModuleLib.scene.training_files import export_cases

    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.data.splits import hold_out

    other = table.add_volume(add_volume("other"))
    cases = table.add_volumes([a_cine])
    for case in (other, cases[0], cases[2]):
        draw(table, case)
    export = export_cases(table, tmp_path / "data")
    patients = json.loads((tmp_path / "data" / "patients.json").read_text(encoding="utf-8"))
    assert list(patients.values()) == ["patient_001", "patient_002", "patient_002", "patient_002"]
    divided = hold_out(find_cases(export.folder), 1)
    assert [case.name for case in divided.labelled] == [other.file_name]
    assert [case.name for case in divided.validation] == [cases[0].file_name, cases[2].file_name]
    assert divided.unlabelled == ()


def test_a_saved_scene_knows_its_frames_again(application, table, a_cine, tmp_path):
    from SemiSegModuleLib.scene.case_table import CaseTable

    cases = table.add_volumes()
    expected = [voxels(case.volume).copy() for case in cases]
    keys = {case.patient_key for case in cases}
    application.save(tmp_path / "scene.mrb")
    application.load(tmp_path / "scene.mrb")
    again = CaseTable(application.scene)
    assert [case.name for case in again] == ["cine_frame01", "cine_frame02", "cine_frame03"]
    assert all(np.array_equal(voxels(case.volume), array) for case, array in zip(again, expected, strict=True))
    assert {case.patient_key for case in again} == keys
    assert again.candidates() == again.sequence_candidates() == []
    again.close()


def test_a_4d_file_is_loaded_frame_by_frame_with_its_masks(table, tmp_path):
    import SimpleITK as sitk
    from SemiSegModuleLib.scene.loading import add_files
    from SemiSegModuleLib.scene.records import State
    from SemiSegModuleLib.scene.volumes import world_image

    scans = [sitk.GetImageFromArray(np.random.default_rng(n).normal(size=(5, 6, 7)).astype(np.float32)) for n in (0, 1)]
    masks = [sitk.GetImageFromArray((np.arange(210).reshape(5, 6, 7) == n).astype(np.uint8)) for n in (50, 100)]
    for image in (*scans, *masks):
        image.SetDirection((0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0))
        image.SetOrigin((10, -20, 30))
    for part, frames in (("images", scans), ("labels", [masks[0] * 0, masks[1]])):
        (tmp_path / part).mkdir()
        sitk.WriteImage(sitk.JoinSeries(frames), tmp_path / part / "a_4d.nii.gz")
    cases = add_files(table, [tmp_path])
    assert [(case.name, case.state) for case in cases] == [
        ("a_frame02", State.ANNOTATED),
        ("a_frame01", State.UNLABELLED),
    ]
    assert cases[0].patient_key == cases[1].patient_key
    for case, scan in zip(cases, scans[::-1], strict=True):
        loaded = world_image(case.volume)
        assert np.array_equal(sitk.GetArrayFromImage(loaded), sitk.GetArrayFromImage(scan))
        assert np.allclose(loaded.GetDirection(), scan.GetDirection(), atol=1e-6)
        assert np.allclose(loaded.GetOrigin(), scan.GetOrigin(), atol=1e-4)
    volume = cases[1].volume
    table.remove(cases[1])
    assert table.add_volume(volume).patient_key == cases[0].patient_key, "removed and added again"


def test_the_library_reads_a_sequence_that_slicer_saved(a_cine, scene, tmp_path):
    import SimpleITK as sitk
    from SemiSegModuleLib.scene.volumes import world_image

    from SemiSegLib.data.cases import read_scan
    from SemiSegLib.data.layouts import find_cases

    storage = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    storage.SetFileName(str(tmp_path / "cine.seq.nrrd"))
    assert storage.WriteData(a_cine)
    cases = list(find_cases(tmp_path))
    assert [case.name for case in cases] == ["cine_frame01", "cine_frame02", "cine_frame03"]
    for number, case in enumerate(cases):
        expected, frame = world_image(a_cine.GetNthDataNode(number)), read_scan(case)
        assert np.array_equal(sitk.GetArrayFromImage(frame), sitk.GetArrayFromImage(expected))
        for get in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(frame, get)(), getattr(expected, get)(), atol=1e-6)
