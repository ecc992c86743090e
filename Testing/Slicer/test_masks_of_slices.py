"""Scans of which only slices are annotated: their masks are empty elsewhere, and whoever gets them is told so."""

import csv
import logging

import numpy as np
import pytest
from drawing import draw


@pytest.fixture
def sliced(table, add_volume):
    """Six scans annotated as a whole, and one of which two slices are."""
    for number in range(6):
        case = table.add_volume(add_volume(f"whole {number}"))
        draw(table, case, 1, np.s_[2:7, 3:8, 4 : 8 + number % 2])
        case.mark_done()
    case = table.add_volume(add_volume("sliced"))
    draw(table, case, 1, np.s_[2:7:4, 3:8, 4:9])
    case.partial = "axial"
    case.mark_done()
    return case


def test_the_volume_of_two_slices_is_not_given_as_that_of_the_organ(table, sliced, tmp_path):
    from SemiSegModuleLib.exports.volumes_table import export_volumes_csv

    path = export_volumes_csv(table, table.cases, tmp_path / "volumes.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["mask"] for row in rows] == ["annotation"] * 6 + ["annotation of axial slices alone"]
    assert [bool(row["left atrium [ml]"]) for row in rows] == [True] * 6 + [False]
    sliced.partial = ""
    path = export_volumes_csv(table, [sliced], path, overwrite=True)
    (row,) = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    assert (row["mask"], bool(row["left atrium [ml]"])) == ("annotation", True)


def test_checks_say_that_only_slices_are_there_and_compare_them_with_nothing(table, sliced):
    from SemiSegModuleLib.scene.checks import check_masks

    remarks = [remark for remark in check_masks(table.cases, table.labels) if remark.case == sliced]
    assert [remark.text for remark in remarks] == ["Only axial slices are annotated: elsewhere this mask is empty"]
    sliced.partial = ""
    remarks = [remark for remark in check_masks(table.cases, table.labels) if remark.case == sliced]
    assert [remark.text.partition(",")[0] for remark in remarks][-1] == "left atrium: 2 parts"


def test_a_script_that_exports_such_a_mask_is_warned(table, sliced, tmp_path, caplog):
    from SemiSegModuleLib.exports.masks import export_masks

    with caplog.at_level(logging.WARNING):
        export_masks(table, table.cases, tmp_path / "masks", ".nrrd")
    assert caplog.messages == ["SemiSeg: only slices of these are annotated, their masks are empty elsewhere: scan_007"]


def test_a_scan_that_is_left_out_is_not_given_away(table, add_volume, tmp_path, caplog):
    from SemiSegModuleLib.exports import export_masks

    cases = [table.add_volume(add_volume(name)) for name in ("one", "two")]
    for case in cases:
        draw(table, case)
        case.mark_done()
    cases[0].excluded = True
    assert [path.name for path in export_masks(table, table.cases, tmp_path)] == ["two.seg.nrrd"]
    assert caplog.messages == ["SemiSeg: not exported, since left out: scan_001"]
