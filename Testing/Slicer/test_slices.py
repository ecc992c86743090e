"""A few slices of a scan instead of all: proposed, done, and nothing else learnt from."""

import numpy as np
import pytest
import SimpleITK as sitk
from drawing import draw

# The volume of the fixture has 15 x 12 x 9 voxels along i, j, k; i runs to the patient's right.


@pytest.fixture
def case(table, a_volume):
    return table.add_volume(a_volume)


def test_every_third_slice_is_proposed_and_suggested_ones_come_first(case, table):
    from SemiSegModuleLib.scene import slices
    from SemiSegModuleLib.scene.records import Suggestion

    assert slices.propose(table, case, "axial", 3).proposed == (1, 4, 7)
    assert slices.propose(table, case, "sagittal", 5).proposed == (2, 7, 12)
    assert case.partial == "sagittal", "only these slices count"
    case.suggestion = Suggestion(1, 0.4, axis=2, slices=(6, 4))
    plan = slices.propose(table, case, "axial", 3)
    assert plan.proposed == (6, 4, 1, 7)
    assert plan.suggested == (6, 4)
    assert slices.propose(table, case, "coronal", 6).proposed == (3, 9), "the suggestion is of other slices"
    assert [slices.orientation_of(case, axis) for axis in range(3)] == ["sagittal", "coronal", "axial"]


def test_slices_of_an_oblique_scan_have_one_orientation_for_each_axis(scene):
    """Short-axis stacks of a heart lie across no axis of the patient; each index axis is still one of the three."""
    import slicer
    from SemiSegModuleLib.scene import volumes

    columns = np.array([[0.70, 0.71, -0.02], [0.39, -0.40, -0.83], [-0.60, 0.57, -0.56]]).T
    random = np.random.default_rng(0)
    turned = [columns, *(np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(40))]
    for axes in turned:
        place = np.eye(4)
        place[:3, :3] = axes * (1.5, 1.5, 8.0)
        node = slicer.util.addVolumeFromArray(
            np.zeros((4, 5, 6), np.int16), ijkToRAS=slicer.util.vtkMatrixFromArray(place)
        )
        found = [volumes.slice_axis(node, name) for name in ("sagittal", "coronal", "axial")]
        assert sorted(found) == [0, 1, 2], axes.tolist()
        chosen = sum(abs(axes[towards, axis]) for towards, axis in enumerate(found))
        assert chosen >= sum(abs(axes[towards, towards]) for towards in range(3)), "a nearer choice is left"


def test_a_region_of_interest_limits_what_is_proposed(case, table):
    from SemiSegModuleLib.scene import slices
    from SemiSegModuleLib.scene.annotations import add_region

    draw(table, case, where=np.s_[3:6, 4:8, 5:9])
    region = add_region(table, case)
    region.SetSize(*(4 * spacing for spacing in case.volume.GetSpacing()))
    start, size = case.box().start[2], case.box().size[2]
    assert set(slices.propose(table, case, "axial", 1).proposed) == set(range(start, start + size))


def test_what_is_drawn_or_looked_at_is_done_and_alone_learnt_from(case, table, tmp_path):
    from SemiSegModuleLib.scene import segments, slices, volumes
    from SemiSegModuleLib.scene.training_files import export_cases

    slices.propose(table, case, "axial", 2)
    assert case.slice_plan.proposed == (1, 3, 5, 7)
    assert slices.following(case, table.labels) == 1
    mask = draw(table, case, where=np.s_[3, 3:8, 4:9])
    slices.mark_empty(case, 1)
    slices.mark_empty(case, 8)
    assert slices.done(case, table.labels) == {1, 3, 8}
    assert slices.following(case, table.labels) == 5
    assert slices.following(case, table.labels, after=5) == 7
    case.mark_done()
    export_cases(table, tmp_path)
    expected = np.full_like(mask, 255)
    for number in (1, 3, 8):
        expected[number] = mask[number]
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels" / "scan_001.nrrd"))), expected)
    slices.mark_empty(case, 1, False)
    assert slices.done(case, table.labels) == {3, 8}

    segments.set_not_sure(
        case.annotation, np.eye(9, dtype=bool)[5][:, None, None] & (mask == mask), volumes.ijk_to_ras(case.volume)
    )
    for number in (1, 7):
        slices.mark_empty(case, number)
    assert slices.following(case, table.labels) is None, "all are done"


def test_the_plan_belongs_to_an_orientation_and_survives_another_proposal(case, table):
    from SemiSegModuleLib.scene import slices
    from SemiSegModuleLib.scene.case import CaseError

    slices.propose(table, case, "axial", 4)
    slices.mark_empty(case, 6)
    assert slices.propose(table, case, "axial", 3).empty == (6,)
    case.partial = "coronal"
    assert (case.slice_plan, case.empty_slices) == (None, ())
    with pytest.raises(CaseError, match="No slices are proposed"):
        slices.mark_empty(case, 2)
    with pytest.raises(CaseError, match="Every k-th slice is axial, coronal, sagittal"):
        slices.propose(table, case, "oblique", 3)


def test_no_slices_are_proposed_of_a_scan_that_is_annotated_as_a_whole(case, table):
    """What was known of the other slices would be learnt from no more."""
    from SemiSegModuleLib.scene import slices
    from SemiSegModuleLib.scene.case import CaseError

    draw(table, case)
    case.mark_done()
    with pytest.raises(CaseError, match="'scan' is done"):
        slices.propose(table, case, "axial", 3)
    assert (case.partial, case.slice_plan_of("axial"), case.done) == ("", None, True)
    case.partial = "axial"
    assert slices.propose(table, case, "axial", 3).proposed == (1, 4, 7), "of slices already"
    with pytest.raises(CaseError, match="'scan' is done"):
        slices.propose(table, case, "coronal", 3)


def test_a_slice_that_is_not_there_is_not_marked(case, table):
    """The last one would be, of a number below 0."""
    from SemiSegModuleLib.scene import slices
    from SemiSegModuleLib.scene.case import CaseError

    slices.propose(table, case, "axial", 3)
    for number in (-1, 9):
        with pytest.raises(CaseError, match="axial slices from 0 to 8"):
            slices.mark_empty(case, number)
    assert case.empty_slices == ()


def test_an_unknown_orientation_is_named(case):
    from SemiSegModuleLib.scene import volumes

    from SemiSegLib.errors import SemiSegError

    with pytest.raises(SemiSegError, match="not 'oblique'"):
        volumes.slice_axis(case.volume, "oblique")


def test_a_slice_is_found_in_the_world(table, an_oblique_volume):
    """The middle of the slice lies where the volume's own matrix has it."""
    import vtk
    from SemiSegModuleLib.scene import slices

    case = table.add_volume(an_oblique_volume)
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    assert slices.place_of(case, 1, 2) == pytest.approx(matrix.MultiplyPoint((7, 2, 4, 1))[:3])


def test_a_suggestion_ends_when_the_scan_is_done(case, table):
    from SemiSegModuleLib.scene.records import Suggestion

    heard = []
    table.case_changed.connect(lambda changed: heard.append(changed.suggestion))
    case.suggestion = Suggestion(2, None, axis=0)
    assert heard == [Suggestion(2, None, axis=0)]
    draw(table, case)
    case.mark_done()
    assert case.suggestion is None
