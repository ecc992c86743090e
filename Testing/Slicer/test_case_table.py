"""The case table on the real scene: states, deletions by the user, saving and loading in the middle of the work."""

import os

import numpy as np
import pytest
from drawing import draw, put_under_transform


def type_of(segment):
    """Coding scheme, code and meaning of the segment's type, read by Slicer's own terminology logic."""
    import slicer

    entry = slicer.vtkSlicerTerminologyEntry()
    text = segment.GetTerminology()
    assert slicer.modules.terminologies.logic().DeserializeTerminologyEntry(text, entry)
    kind = entry.GetTypeObject()
    return kind.GetCodingSchemeDesignator(), kind.GetCodeValue(), kind.GetCodeMeaning()


def test_a_new_case_is_unlabelled_and_keeps_its_place(table, add_volume):
    names = ["zebra", "ape", "lion"]
    for name in names:
        table.add_volume(add_volume(name))
    assert [case.name for case in table] == names
    assert {case.state.value for case in table} == {"unlabelled"}


def test_adding_a_volume_twice_gives_the_same_case(table, a_volume):
    assert table.add_volume(a_volume) == table.add_volume(a_volume)
    assert len(table) == 1


def test_a_case_counts_as_annotated_once_it_is_marked_done(table, a_volume):
    case = table.add_volume(a_volume)
    draw(table, case)
    assert case.state.value == "unlabelled"
    case.mark_done()
    assert case.state.value == "annotated"
    case.mark_done(False)
    assert case.state.value == "unlabelled"


def test_an_empty_annotation_cannot_be_marked_done(table, a_volume):
    from SemiSegModuleLib.scene.annotations import make_annotation
    from SemiSegModuleLib.scene.case import CaseError

    case = table.add_volume(a_volume)
    with pytest.raises(CaseError, match="no annotation"):
        case.mark_done()
    make_annotation(table, case)
    with pytest.raises(CaseError, match="Nothing is drawn"):
        case.mark_done()


def test_exclusion_wins_over_every_state_and_can_be_taken_back(table, a_volume):
    case = table.add_volume(a_volume)
    draw(table, case)
    case.mark_done()
    case.excluded = True
    assert case.state.value == "excluded"
    case.excluded = False
    assert case.state.value == "annotated"


def test_annotation_has_a_segment_for_every_label_with_name_colour_and_terminology(table, a_volume):
    from SemiSegModuleLib.scene.annotations import make_annotation

    node = make_annotation(table, table.add_volume(a_volume))
    segmentation = node.GetSegmentation()
    assert list(segmentation.GetSegmentIDs()) == ["SemiSeg_1", "SemiSeg_3", "SemiSeg_not_sure"]
    atrium = segmentation.GetSegment("SemiSeg_1")
    assert atrium.GetName() == "left atrium"
    assert np.allclose(atrium.GetColor(), np.array([152, 55, 13]) / 255)
    assert type_of(atrium) == ("SCT", "82471001", "Left atrium")
    assert type_of(segmentation.GetSegment("SemiSeg_3")) == ("SCT", "15825003", "Aorta")


IN_SLICERS_LISTS = {  # codes of types by the list that has them, read in Slicer 5.12's Terminologies module
    "Segmentation category and type - 3D Slicer General Anatomy list": {
        ("85756007", "Tissue"),
        ("53085002", "Right Ventricle"),
        ("87878005", "Left Ventricle"),
        ("15776009", "Pancreas"),
        ("80891009", "Heart"),
        ("78961009", "Spleen"),
        ("64033007", "Kidney"),
        ("28231008", "Gallbladder"),
        ("10200004", "Liver"),
        ("69695003", "Stomach"),
        ("15825003", "Aorta"),
    },
    "Segmentation category and type - DICOM master list": {("82471001", "Left atrium")},
}


def test_terminology_is_in_the_list_that_it_names():
    from SemiSegModuleLib.scene.segments import terminology

    from SemiSegLib.config import Label
    from SemiSegLib.presets import PRESETS

    labels = [label for preset in PRESETS.values() for label in preset.get("data.labels", [])]
    for label in [*labels, Label(9, "something else", (1, 2, 3))]:
        context, _category, kind, *_rest = terminology(label).split("~")
        _scheme, code, meaning = kind.split("^")
        assert (code, meaning) in IN_SLICERS_LISTS[context], label.name
    assert terminology(Label(9, "something else", (1, 2, 3))).split("~")[2] == "SCT^85756007^Tissue"
    assert terminology(Label(3, "Left kidney", (1, 2, 3))).split("~")[3] == "SCT^7771000^Left"


def test_annotation_lies_beside_its_volume_in_the_subject_hierarchy(scene, table, a_volume):
    from SemiSegModuleLib.scene.annotations import make_annotation

    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient"), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(a_volume), study)
    node = make_annotation(table, table.add_volume(a_volume))
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_new_labels_are_added_to_an_annotation_that_is_under_way(table, a_volume):
    from SemiSegModuleLib.scene.annotations import make_annotation

    from SemiSegLib.config import Label

    case = table.add_volume(a_volume)
    mask = draw(table, case)
    table.labels = [*table.labels, Label(7, "scar", (1, 2, 3))]
    node = make_annotation(table, case)
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["SemiSeg_1", "SemiSeg_3", "SemiSeg_7", "SemiSeg_not_sure"]
    assert case.labels_present(table.labels) == table.labels[:1]
    assert mask.any()


def test_volume_in_ml_follows_from_voxels_and_spacing(table, an_oblique_volume):
    case = table.add_volume(an_oblique_volume)
    mask = draw(table, case)
    expected = np.count_nonzero(mask) * 0.9 * 1.3 * 2.5 / 1000
    assert case.volumes_ml(table.labels) == pytest.approx({1: expected})


def test_volume_in_ml_is_that_of_the_world_when_a_transform_scales(scene, table, a_volume):
    import slicer

    case = table.add_volume(a_volume)
    mask = draw(table, case)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([2.0, 1.0, 1.0, 1.0])))
    case.annotation.SetAndObserveTransformNodeID(transform.GetID())
    expected = 2 * np.count_nonzero(mask) * 0.9 * 1.3 * 2.5 / 1000
    assert case.volumes_ml(table.labels) == pytest.approx({1: expected})


def test_a_case_leaves_the_table_when_the_user_deletes_its_scan_but_the_annotation_stays(scene, table, a_volume):
    case = table.add_volume(a_volume)
    draw(table, case)
    annotation_id = case.annotation.GetID()
    scene.RemoveNode(a_volume)
    assert len(table) == 0
    assert scene.GetNodeByID(annotation_id) is not None


def test_a_deleted_annotation_makes_the_case_unlabelled(scene, table, a_volume):
    case = table.add_volume(a_volume)
    draw(table, case)
    case.mark_done()
    scene.RemoveNode(case.annotation)
    assert case.state.value == "unlabelled"
    draw(table, case)
    assert case.state.value == "unlabelled", "a new drawing must be marked as done anew"


def test_listeners_hear_of_changes_by_whomever(scene, table, a_volume):
    heard = []
    table.changed.connect(lambda: heard.append(len(table)))
    table.case_changed.connect(lambda case: heard.append(len(table)))
    case = table.add_volume(a_volume)
    assert heard == [1]
    before = len(heard)
    case.excluded = True
    assert len(heard) == before + 1
    a_volume.SetName("renamed by the user")
    assert table.cases[0].name == "renamed by the user"
    assert len(heard) == before + 2
    scene.RemoveNode(a_volume)
    assert heard[-1] == 0
    scene.Clear(0)
    assert len(table) == 0


def test_removing_a_case_leaves_the_scan_and_the_human_annotation(scene, table, a_volume):
    case = table.add_volume(a_volume)
    draw(table, case)
    kept = [a_volume.GetID(), case.annotation.GetID()]
    table.remove(case)
    assert len(table) == 0
    assert all(scene.GetNodeByID(identifier) for identifier in kept)


def test_a_case_that_is_brought_back_stands_where_it_was(application, table, add_volume, tmp_path):
    """Also after the scene was saved and loaded; one whose number another study has meanwhile goes to the end."""
    from SemiSegModuleLib.scene.undo import keep_removed

    for name in ("one", "two", "three"):
        table.add_volume(add_volume(name))
    application.save(tmp_path / "work.mrb")
    second = table.cases[1]
    back = keep_removed(table, second)
    table.remove(second)
    assert [case.name for case in table.cases] == ["one", "three"]
    back()
    assert [case.name for case in table.cases] == ["one", "two", "three"]
    application.save(tmp_path / "back.mrb")
    application.load(tmp_path / "back.mrb")
    assert [case.name for case in table.cases] == ["one", "two", "three"]
    second = table.cases[1]
    back = keep_removed(table, second)
    table.remove(second)
    application.add(tmp_path / "work.mrb")
    back()
    assert [case.name for case in table.cases][-1] == "two"
    assert [case.number for case in table.cases] == sorted({case.number for case in table.cases})


def test_candidates_are_scans_that_are_not_yet_cases(scene, table, add_volume):
    scan, other = add_volume("scan"), add_volume("other")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
    scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "without voxels")
    table.add_volume(scan)
    assert [node.GetName() for node in table.candidates()] == [other.GetName()]


@pytest.mark.parametrize("kind", ["vtkMRMLLabelMapVolumeNode", "vtkMRMLVectorVolumeNode", "vtkMRMLScalarVolumeNode"])
def test_what_is_no_scan_is_refused_by_name(scene, table, kind):
    from SemiSegModuleLib.scene.case import CaseError

    with pytest.raises(CaseError, match="thing"):
        table.add_volume(scene.AddNewNodeByClass(kind, "thing"))


NAMES = ["a b", "a/b", "A_B", "CON", "Müller: 3/4?", "名前", "x" * 200, "case.1"]


def test_file_names_are_unique_and_say_of_nobody_who_that_is(table, add_volume):
    stems = [table.add_volume(add_volume(name)).file_name for name in NAMES]
    assert stems == [f"scan_{number:03d}" for number in range(1, 9)]
    table.remove(table.cases[2])
    assert table.add_volume(add_volume("later")).file_name == "scan_009"


def test_files_to_give_away_are_called_as_the_scans_are_in_safe_letters(table, add_volume):
    import re

    from SemiSegModuleLib.exports.names import stems

    cases = [table.add_volume(add_volume(name)) for name in NAMES]
    given = stems(table, cases)
    assert given[0] == "a_b"
    assert len({stem.casefold() for stem in given}) == len(given)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,70}", stem) for stem in given)
    assert not {stem.casefold() for stem in given} & {"con", "nul", "aux"}
    assert stems(table, cases[1:2]) == given[1:2], "the same whichever are exported"
    table.names_hidden = True
    assert stems(table, cases) == [case.file_name for case in cases]


def test_file_name_stays_when_the_volume_is_renamed(table, a_volume):
    case = table.add_volume(a_volume)
    a_volume.SetName("another")
    assert case.file_name == "scan_001"
    assert table.by_file_name("scan_001") == case


def file_under_a_patient(scene, volume, patient):
    """As Slicer's DICOM module does: patient, study, series."""
    import slicer

    hierarchy, levels = scene.GetSubjectHierarchyNode(), slicer.vtkMRMLSubjectHierarchyConstants
    top = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), patient)
    hierarchy.SetItemLevel(top, levels.GetDICOMLevelPatient())
    study = hierarchy.CreateStudyItem(top, "2026-01-02")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)


def test_scans_of_one_name_are_told_apart_by_their_patients(scene, table, add_volume, tmp_path):
    import csv

    from SemiSegModuleLib.scene.names_list import write_names

    cases = []
    for patient in ("Müller^Hans", "王小明"):
        volume = add_volume("3: CT Thorax")
        file_under_a_patient(scene, volume, patient)
        cases.append(table.add_volume(volume))
    assert [case.name for case in cases] == ["Müller^Hans · 3: CT Thorax", "王小明 · 3: CT Thorax"]
    write_names(tmp_path, {case.file_name: case for case in cases})
    rows = list(csv.reader((tmp_path / "scans.csv").open(encoding="utf-8-sig", newline="")))
    assert rows == [
        ["file", "patient", "scan"],
        ["scan_001", "Müller^Hans", "3: CT Thorax"],
        ["scan_002", "王小明", "3: CT Thorax"],
    ]


def test_the_list_of_names_is_read_as_a_spreadsheet_saved_it(table, a_volume, tmp_path):
    """With semicolons and in the letters of one region, as German Windows does; without it no training would start."""
    import csv

    from SemiSegModuleLib.scene.names_list import write_names

    case = table.add_volume(a_volume)
    (tmp_path / "scans.csv").write_bytes("file;patient;scan\r\nscan_007;Müller;CT, Thorax\r\n".encode("cp1252"))
    write_names(tmp_path, {case.file_name: case})
    rows = list(csv.reader((tmp_path / "scans.csv").open(encoding="utf-8-sig", newline="")))
    assert rows[1:] == [["scan_001", "", "scan"], ["scan_007", "Müller", "CT, Thorax"]]


def test_a_list_of_names_that_a_spreadsheet_holds_keeps_from_work_only_while_it_would_change(
    table, add_volume, tmp_path, monkeypatch
):
    """On Windows nobody can replace a file that Excel has open."""
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.names_list import write_names

    def held(source, target):
        raise PermissionError(13, "it is open in another program")

    cases = [table.add_volume(add_volume("scan")), table.add_volume(add_volume("another"))]
    write_names(tmp_path, {"scan_001": cases[0]})
    monkeypatch.setattr(os, "replace", held)
    write_names(tmp_path, {"scan_001": cases[0]})
    with pytest.raises(CaseError, match=r"scans\.csv cannot be written: if it is open in another program"):
        write_names(tmp_path, {"scan_002": cases[1]})


def bend(scene, case):
    """Put a case's scan and annotation below a transform that no file can hold."""
    transform = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    for node in (case.volume, case.annotation):
        node.SetAndObserveTransformNodeID(transform.GetID())


def test_hidden_names_are_hidden_everywhere(scene, table, add_volume, tmp_path, caplog):
    """In the table, in what is made of it, in the list beside files, in messages, and in what is logged."""
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.annotations import add_region, make_annotation
    from SemiSegModuleLib.scene.names_list import write_names

    from SemiSegLib.errors import SemiSegError

    volume = add_volume("secret scan")
    file_under_a_patient(scene, volume, "secret patient")
    case = table.add_volume(volume)
    draw(table, case)
    write_names(tmp_path, {case.file_name: case})
    table.names_hidden = True
    assert (case.name, case.patient) == ("Scan 1", "")
    assert make_annotation(table, table.add_volume(add_volume("x"))).GetName() == "Scan 2 annotation"
    write_names(tmp_path, {case.file_name: case})
    assert "secret" not in (tmp_path / "scans.csv").read_text(encoding="utf-8-sig")
    region = add_region(table, case)
    assert "secret" not in region.GetName()
    region.SetCenter(9999, 0, 0)
    with pytest.raises(SemiSegError, match="'Scan 1' lies outside"):
        case.box()
    bend(scene, case)
    for failing in (case.box, lambda: volumes.world_image(volume), lambda: case.volumes_ml(table.labels)):
        with pytest.raises(SemiSegError, match="Scan 1"):
            failing()
    other = table.add_volume(add_volume("another secret"))
    assert other.name == "Scan 3"
    with caplog.at_level("DEBUG"):
        scene.RemoveNode(volume)
    assert "leaves the table" in caplog.text
    assert "secret" not in caplog.text
    table.names_hidden = False
    assert other.name == "another secret"


def test_stepping_through_the_cases_goes_round(table, add_volume):
    first, second, third = (table.add_volume(add_volume(name)) for name in ("a", "b", "c"))
    assert table.next(first) == second
    assert table.next(third) == first
    assert table.next(first, -1) == third
    assert table.next(None) == first


def test_a_prediction_cannot_be_taken_as_the_human_annotation(scene, table, a_volume):
    from SemiSegModuleLib.scene.case import CaseError

    case = table.add_volume(a_volume)
    case.prediction = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "machine")
    with pytest.raises(CaseError, match="accept or correct"):
        case.annotation = case.prediction


def test_saving_and_loading_the_scene_brings_the_work_back(application, table, add_volume, tmp_path):
    from SemiSegModuleLib.scene.case_table import CaseTable

    done, excluded = table.add_volume(add_volume("done")), table.add_volume(add_volume("excluded"))
    mask = draw(table, done)
    done.mark_done()
    done.partial = "axial"
    done.confidence = 0.9
    excluded.excluded = True
    table.run_folder = tmp_path / "run"
    labels, volumes_ml, identifier = table.labels, done.volumes_ml(table.labels), done.identifier
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")

    assert [(case.name, case.state.value) for case in table] == [("done", "annotated"), ("excluded", "excluded")]
    fresh = CaseTable(application.scene)
    again = fresh.cases[0]
    fresh.close()
    assert again.partial == "axial"
    assert (again.confidence, again.dsc) == (0.9, None)
    assert (again.file_name, again.identifier) == ("scan_001", identifier)
    assert table.labels == labels
    assert again.volume.GetName() == "done"
    assert again.volumes_ml(labels) == pytest.approx(volumes_ml)
    assert table.run_folder == tmp_path / "run"
    assert mask.any()


@pytest.mark.parametrize("hardened", [False, True])
def test_what_is_drawn_below_a_transform_is_saved_as_it_is(application, table, an_oblique_volume, tmp_path, hardened):
    """Slicer saves a segmentation on the grid that it was told to be on, and draws on that."""
    import slicer
    from SemiSegModuleLib.scene import segments

    put_under_transform(an_oblique_volume)
    case = table.add_volume(an_oblique_volume)
    mask = draw(table, case)
    if hardened:
        for node in (case.volume, case.annotation):
            slicer.vtkSlicerTransformLogic().hardenTransform(node)
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")
    (case,) = table
    assert np.array_equal(segments.voxels_on_grid(case.annotation, case.volume, table.labels), mask)


def test_importing_a_second_scene_adds_its_cases(application, table, add_volume, tmp_path):
    table.add_volume(add_volume("first"))
    application.save(tmp_path / "first.mrb")
    application.scene.Clear(0)
    assert len(table) == 0
    table.add_volume(add_volume("second"))
    application.add(tmp_path / "first.mrb")
    assert sorted(case.name for case in table) == ["first", "second"]
    assert all(case.volume.GetName() == case.name for case in table)


def test_the_run_is_found_again_in_a_new_scene(application, table, tmp_path):
    table.run_folder = tmp_path / "run"
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")
    assert table.run_folder == tmp_path / "run"


def test_reading_an_empty_table_leaves_no_trace_in_the_scene(scene):
    from SemiSegModuleLib.scene.case_table import CaseTable

    before = scene.GetNumberOfNodes()
    table = CaseTable(scene)
    assert (len(table), table.labels, table.run_folder) == (0, [], None)
    assert scene.GetNumberOfNodes() == before
    table.close()


def test_volumes_follow_what_the_segment_editor_draws(table, a_volume):
    import slicer
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import make_annotation

    case = table.add_volume(a_volume)
    node = make_annotation(table, case)
    brush = slicer.vtkOrientedImageData()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    voxel_ml = 0.9 * 1.3 * 2.5 / 1000
    for number, (size, mode) in enumerate(
        [(2, logic.MODE_MERGE_MAX), (3, logic.MODE_MERGE_MAX), (1, logic.MODE_REPLACE), (0, logic.MODE_REPLACE)]
    ):
        paint(brush, a_volume, size)
        assert logic.SetBinaryLabelmapToSegment(brush, node, "SemiSeg_1", mode, brush.GetExtent())
        measured = case.volumes_ml(table.labels)
        assert measured == (pytest.approx({1: size**3 * voxel_ml}) if size else {}), number
        mask = segments.voxels_on_grid(node, a_volume, table.labels)
        assert mask[:size, :size, :size].all()
        assert np.count_nonzero(mask) == size**3


def paint(image, volume_node, size):
    """A cube of `size` voxels at the corner of the volume's grid, as a modifier that an editor effect makes."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    image.SetDimensions(volume_node.GetImageData().GetDimensions())
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.SetImageToWorldMatrix(matrix)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(slicer.util.arrayFromVolume(volume_node).shape)
    voxels[:] = 0
    voxels[:size, :size, :size] = 1


def test_a_surface_of_the_user_becomes_an_annotation_of_voxels(scene, table, add_volume):
    import vtk

    volume = add_volume("scan", spacing=(1.0, 1.0, 1.0), origin=(0, 0, 0), shape=(24, 24, 24))
    ball = vtk.vtkSphereSource()
    ball.SetCenter(12, 12, 12)
    ball.SetRadius(6)
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.Update()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "from STL")
    node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "Left atrium", (1, 0, 0))
    case = table.add_volume(volume, annotation=node)
    case.mark_done()
    assert case.volumes_ml(table.labels)[1] == pytest.approx(4 / 3 * np.pi * 6**3 / 1000, rel=0.05)


def test_an_annotation_of_another_scan_is_refused(table, add_volume):
    """A list that is one off would give every patient the mask of another."""
    from SemiSegModuleLib.scene.case import CaseError

    first, second = (table.add_volume(add_volume(name)) for name in ("a", "b"))
    draw(table, first)
    with pytest.raises(CaseError, match="'a annotation' is that of 'a'"):
        table.add_volume(second.volume, first.annotation)
    with pytest.raises(CaseError, match="'a annotation' is that of 'a'"):
        table.add_volume(add_volume("c"), first.annotation)
    assert [(case.name, case.annotation is not None) for case in table] == [("a", True), ("b", False)]
    table.remove(first)
    with pytest.raises(CaseError, match="'a annotation' is that of 'a'"):
        table.add_volume(second.volume, table.scene.GetFirstNodeByName("a annotation"))


def test_what_is_known_of_an_annotation_is_not_said_of_another(scene, table, a_volume):
    from SemiSegModuleLib.scene.nodes import new_segmentation

    case = table.add_volume(a_volume)
    draw(table, case)
    case.mark_done(corrected=True)
    case.partial, case.refinement = "axial", "the last one"
    drawn = case.annotation
    assert table.add_volume(a_volume, drawn).done
    other = new_segmentation(scene, "other", a_volume)
    case = table.add_volume(a_volume, other)
    assert (case.annotation, case.done, case.corrected, case.partial) == (other, False, False, "")
    assert (case.origin, case.refinement) == ("drawn", "")


def test_labels_that_cannot_be_told_apart_are_refused(table):
    from SemiSegModuleLib.scene.case import CaseError

    from SemiSegLib.config import Label

    with pytest.raises(CaseError, match="differ"):
        table.labels = [Label(1, "LA", (1, 1, 1)), Label(2, "la ", (2, 2, 2))]


def test_several_changes_are_told_once(table, add_volume):
    heard = []
    volumes = [add_volume(name) for name in ("a", "b", "c")]
    table.changed.connect(lambda: heard.append(len(table)))
    table.add_volumes(volumes)
    assert heard == [3]


def test_what_was_taken_off_the_table_stays_off_it_until_somebody_adds_it(table, add_volume):
    first, second = (table.add_volume(add_volume(name)) for name in ("a", "b"))
    volume = second.volume
    table.remove(second)
    copy = add_volume("copy of b")
    for name in volume.GetAttributeNames():
        copy.SetAttribute(name, volume.GetAttribute(name))
    assert [case.name for case in table.add_new_volumes()] == ["copy of b"]
    again = table.add_volume(volume)
    table.remove(again)
    table.remove(first)
    assert [case.name for case in table.add_new_volumes()] == []
    assert len(table) == 1
    table.remove(table.cases[0])
    assert {case.name for case in table.add_new_volumes()} == {"a", "b", "copy of b"}, "else there is nothing to do"


def test_a_change_names_the_one_case_that_it_concerns(scene, table, add_volume):
    first, second = (table.add_volume(add_volume(name)) for name in ("a", "b"))
    heard = []
    table.changed.connect(lambda: heard.append("all"))
    table.case_changed.connect(lambda case: heard.append(case.name))
    draw(table, second)
    assert set(heard) == {"b"}
    heard.clear()
    second.mark_done()
    first.excluded = True
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "somebody else's")
    assert heard == ["b", "a"]
    heard.clear()
    scene.RemoveNode(second.annotation)
    assert heard[-1] == "b"
    assert second.state.value == "unlabelled"


def test_an_annotation_stays_finished_when_another_one_is_refused(scene, table, add_volume):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.nodes import new_segmentation

    case = table.add_volume(add_volume("scan"))
    draw(table, case)
    case.mark_done()
    annotation = case.annotation
    case.prediction = new_segmentation(scene, "prediction", case.volume)
    with pytest.raises(CaseError, match="accept or correct it instead"):
        table.add_volume(case.volume, case.prediction)
    assert (case.annotation, case.done) == (annotation, True)


def test_a_deleted_scan_does_not_stay_in_memory(scene, table, add_volume):
    import gc

    import vtk

    reference = vtk.vtkWeakReference()
    volume = add_volume("scan")
    reference.Set(volume)
    table.add_volume(volume)
    scene.RemoveNode(volume)
    del volume
    gc.collect()
    assert reference.Get() is None


def test_the_voxels_of_a_large_study_are_counted_once(scene, monkeypatch):
    """200 scans with annotation and prediction of fourteen structures; counted anew, each look takes minutes."""
    from SemiSegModuleLib.scene import segments

    from SemiSegLib.config import Label

    count = 200 * 2 * 14
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    array = np.arange(count, dtype=np.uint16).reshape(1, 1, count) + 1
    segments.set_voxels(node, array, np.eye(4), [Label(value, f"{value}", (9, 9, 9)) for value in range(1, count + 1)])
    counted = []
    original = segments._label_values
    monkeypatch.setattr(segments, "_label_values", lambda segment: counted.append(1) or original(segment))
    assert len(segments.counts_by_segment(node)) == len(counted) == count
    segments.counts_by_segment(node)
    assert len(counted) == count
