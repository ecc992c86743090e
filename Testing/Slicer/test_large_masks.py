"""Masks of large scans: only the part of the grid that is drawn in is looked at, and what comes of it is the same."""

import numpy as np
import pytest
from drawing import draw, put_under_transform

GEOMETRIES = ["a_volume", "an_oblique_volume", "a_left_handed_volume"]


@pytest.fixture(params=GEOMETRIES)
def case(request, scene, table):
    """A case whose annotation lies on a grid of its own that reaches beyond the scan on some sides."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    volume = request.getfixturevalue(request.param)
    put_under_transform(volume)
    case = table.add_volume(volume)
    node = make_annotation(table, case)
    array = np.zeros((8, 10, 12), np.uint8)
    array[0:4, 1:6, 2:9] = 1
    array[3:8, 5:10, 8:12] = 3
    step = np.eye(4)
    step[:3, 3] = (6, -2, -1)  # i, j, k
    segments.set_voxels(node, array, volumes.ijk_to_ras(volume) @ step, table.labels)
    segments.add_not_sure(node)
    return case


def by_slicer(monkeypatch, read):
    """The same with all segments resampled by Slicer."""
    from SemiSegModuleLib.scene import segments

    with monkeypatch.context() as patch:
        patch.setattr(segments, "_grid_offset", lambda *_: None)
        return read()


def test_a_mask_on_the_voxels_of_its_scan_is_what_slicer_makes_of_it_without_being_resampled(
    table, case, monkeypatch, scene
):
    from SemiSegModuleLib.scene import segments

    def read():
        return segments.voxels_on_grid(case.annotation, case.volume, table.labels)

    expected = by_slicer(monkeypatch, read)
    assert set(np.unique(expected)) == {0, 1, 3}
    monkeypatch.delattr(segments, "_temporary_labelmap")
    assert np.array_equal(read(), expected)
    assert not segments.not_sure_on_grid(case.annotation, case.volume).any()


@pytest.mark.parametrize("beside", ["shifted", "turned", "elsewhere"])
def test_one_on_other_voxels_is_resampled(table, case, monkeypatch, scene, beside):
    import slicer
    from SemiSegModuleLib.scene import segments

    matrix = np.eye(4)
    if beside == "shifted":
        matrix[:3, 3] = (0.4, 0, 0)
    elif beside == "turned":
        matrix[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    if beside != "elsewhere":
        node.SetAndObserveTransformNodeID(case.volume.GetTransformNodeID())
    case.annotation.SetAndObserveTransformNodeID(node.GetID())

    def read():
        return segments.voxels_on_grid(case.annotation, case.volume, table.labels)

    assert np.array_equal(read(), by_slicer(monkeypatch, read))


def test_the_middle_is_that_of_the_fullest_slice_of_the_largest_structure(table, a_volume):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.overlays import middle_of

    case = table.add_volume(a_volume)
    draw(table, case, 3, np.s_[0, 0:2, 0:2])
    draw(table, case, 1, np.s_[3:6, 2:4, 5:8])
    draw(table, case, 1, np.s_[6, 2:8, 5:8])
    expected = (volumes.ijk_to_ras(case.volume) @ [6, 4.5, 6, 1])[:3]
    assert middle_of(case) == pytest.approx(expected)


def test_voxels_that_a_script_changes_in_place_are_seen(table, a_volume):
    """As Slicer's documentation has it: the array is written to, and the segment alone is told."""
    import slicer
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.contents import contents, holds

    case = table.add_volume(a_volume)
    mask = draw(table, case, 1)
    known = contents(case.annotation, a_volume)
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(case.annotation, "SemiSeg_1")[8, 0:2, 0:2] = 1
    case.annotation.GetSegmentation().GetSegment("SemiSeg_1").Modified()
    mask[8, 0:2, 0:2] = 1
    assert np.array_equal(segments.voxels_on_grid(case.annotation, a_volume, table.labels), mask)
    assert segments.voxel_counts(case.annotation, table.labels)[1] == np.count_nonzero(mask)
    assert not holds(known, case.annotation, a_volume)


def test_fingerprints_in_saved_scenes_still_hold(table, a_volume):
    """Of the indices (i, j, k) of all voxels of each segment, in their order."""
    import hashlib

    from SemiSegModuleLib.scene import segments

    case = table.add_volume(a_volume)
    draw(table, case, 3, np.s_[7, 1:3, 1:3])
    mask = draw(table, case, 1)
    digest = hashlib.blake2b(digest_size=16)
    for value in (1, 3):
        digest.update(f"SemiSeg_{value}".encode())
        digest.update(np.argwhere(mask == value)[:, ::-1].astype(np.int64).tobytes())
    assert segments.fingerprint(case.annotation) == digest.hexdigest()
