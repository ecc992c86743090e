"""Scenes that are opened where files of scans are missing: what cannot be done names the scan, and nothing is lost."""

import numpy as np
import pytest
from drawing import draw

from SemiSegLib.errors import SemiSegError


@pytest.fixture
def finished(table, a_volume, tmp_path):
    """An annotated and predicted scan."""
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    case = table.add_volume(a_volume)
    mask = draw(table, case)
    volumes.write_image(volumes.world_image(a_volume, mask), tmp_path / "mask.nrrd")
    case.mark_done()
    load_prediction(table, case, tmp_path / "mask.nrrd")
    assert case.dsc == 1.0
    return case


@pytest.fixture
def emptied(finished):
    """The same as Slicer leaves it when the file of its voxels is not there."""
    finished.volume.SetAndObserveImageData(None)
    return finished


def steps(table, case, folder):
    from SemiSegModuleLib.exports.masks import export_masks
    from SemiSegModuleLib.scene import slices
    from SemiSegModuleLib.scene.annotations import accept_prediction, add_region
    from SemiSegModuleLib.scene.checks import check_masks
    from SemiSegModuleLib.scene.predictions import load_part, load_prediction, measure
    from SemiSegModuleLib.scene.region import slab
    from SemiSegModuleLib.scene.training_files import export_cases

    labels = table.labels
    return {
        "export": lambda: export_masks(table, [case], folder / "masks", ".nrrd"),
        "train": lambda: export_cases(table, folder / "export", [case]),
        "whole scan": lambda: export_cases(table, folder / "export", [case], whole=True),
        "check": lambda: check_masks([case], labels),
        "box": lambda: add_region(table, case),
        "accept": lambda: accept_prediction(table, case, overwrite=True),
        "load": lambda: load_prediction(table, case, folder / "mask.nrrd"),
        "load a part": lambda: load_part(table, case, folder / "mask.nrrd"),
        "measure": lambda: measure(case, labels),
        "slab": lambda: slab(case.volume, "axial", (0, 0, 0)),
        "slices": lambda: slices.propose(table, case, "axial", 5),
    }


def test_what_needs_the_voxels_of_a_scan_names_it(table, emptied, tmp_path):
    from SemiSegModuleLib.scene import segments

    before = segments.fingerprint(emptied.annotation)
    for step in steps(table, emptied, tmp_path).values():
        with pytest.raises(SemiSegError, match="'scan' has no voxels any more"):
            step()
    assert segments.fingerprint(emptied.annotation) == before
    assert emptied.done


def test_other_scans_are_exported_without_it(table, emptied, add_volume, tmp_path):
    from SemiSegModuleLib.exports.masks import export_masks

    other = table.add_volume(add_volume("another"))
    draw(table, other, 3, np.s_[1:3, 1:3, 1:3])
    other.mark_done()
    assert [path.name for path in export_masks(table, [other], tmp_path / "masks", ".nrrd")] == ["another.nrrd"]


def test_an_annotation_whose_file_was_not_found_is_not_replaced_unasked(table, finished):
    """Saved over its file, the prediction would destroy it for the day when the disk is there again."""
    from SemiSegModuleLib.scene import segments
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.case import CaseError

    finished.annotation.GetSegmentation().RemoveAllSegments()
    assert (finished.has_drawing, finished.has_work) == (False, True)
    with pytest.raises(CaseError, match="annotation already"):
        accept_prediction(table, finished)
    accept_prediction(table, finished, overwrite=True)
    assert segments.counts_by_segment(finished.annotation) == segments.counts_by_segment(finished.prediction)
