"""Steps that are taken back after transforms were hardened, changed or deleted: masks lie on the same voxels again."""

import numpy as np
import pytest
from drawing import draw, put_under_transform


@pytest.fixture(params=["hardened", "hardened and deleted", "hardened and changed", "changed", "deleted"])
def meanwhile(request):
    """What becomes of the scan's transform, and of all that lies below it."""
    import slicer

    def happen(volume, *masks):
        transform = volume.GetParentTransformNode()
        if "hardened" in request.param:
            for node in (volume, *masks):
                slicer.vtkSlicerTransformLogic().hardenTransform(node)
        if "changed" in request.param:
            matrix = np.array([[1, 0, 0, 2.7], [0, 0, -1, 3], [0, 1, 0, 1], [0, 0, 0, 1]], float)
            transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        if "deleted" in request.param:
            volume.GetScene().RemoveNode(transform)

    return happen


@pytest.fixture
def case(table, an_oblique_volume):
    """A tilted scan below a transform, with a finished annotation and another mask as its prediction."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.nodes import new_segmentation

    put_under_transform(an_oblique_volume)
    case = table.add_volume(an_oblique_volume)
    draw(table, case, 3)
    case.mark_done()
    predicted = np.zeros((9, 12, 15), np.uint8)
    predicted[3:7, 2:9, 5:11] = 3
    case.prediction = new_segmentation(table.scene, "prediction", case.volume)
    segments.set_voxels(case.prediction, predicted, volumes.ijk_to_ras(case.volume), table.labels)
    return case


def voxels(table, case, node):
    from SemiSegModuleLib.scene import segments

    mask = segments.voxels_on_grid(node, case.volume, table.labels)
    assert mask.any()
    return mask


def test_an_annotation_that_comes_back_lies_on_its_scan(application, table, case, meanwhile, tmp_path):
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.undo import keep_annotation

    before = voxels(table, case, case.annotation)
    back = keep_annotation(table, case)
    accept_prediction(table, case, overwrite=True)
    meanwhile(case.volume, case.annotation, case.prediction)
    back()
    assert np.array_equal(voxels(table, case, case.annotation), before)
    assert case.done
    application.save(tmp_path / "work.mrb")
    application.load(tmp_path / "work.mrb")
    (case,) = table
    assert np.array_equal(voxels(table, case, case.annotation), before)


def test_so_do_prediction_maps_and_region_of_a_scan_that_was_removed(table, case, meanwhile):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.annotations import add_region
    from SemiSegModuleLib.scene.predictions import show_maps
    from SemiSegModuleLib.scene.segments import world_matrix
    from SemiSegModuleLib.scene.undo import keep_removed

    before, box = voxels(table, case, case.prediction), (add_region(table, case), case.box())[1]
    maps = {3: volumes.world_image(case.volume, before.astype(np.float32))}
    show_maps(table, case, "sdm", maps, {3: "aorta"}, np.linalg.inv(world_matrix(case.volume)))
    back = keep_removed(table, case)
    table.remove(case)
    meanwhile(case.volume or table.scene.GetFirstNodeByName("oblique scan"))
    again = back()
    assert np.array_equal(voxels(table, again, again.prediction), before)
    assert again.box() == box
    places = [world_matrix(node) @ volumes.ijk_to_ras(node) for node in (again.sdms[3], again.volume)]
    assert np.allclose(*places, atol=1e-4)


def test_what_lay_beside_its_scan_on_purpose_does_so_again(table, case):
    """An annotation outside the scan's transform."""
    from SemiSegModuleLib.scene.undo import keep_annotation

    case.annotation.SetAndObserveTransformNodeID(None)
    back = keep_annotation(table, case)
    draw(table, case, 1)
    back()
    assert case.annotation.GetParentTransformNode() is None
