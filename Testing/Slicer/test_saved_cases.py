"""How a case is kept in the scene: the names and texts in the scenes that users have saved."""

import json

import numpy as np
import pytest
from drawing import BOX, draw

EXPECTED = '{"dsc": 0.88, "low": 0.8, "high": 0.95, "empty": false}'
BOXES = "[[[1, 2, 3], [4, 5, 6]]]"


def values() -> dict:
    """Attribute of a case, what it is set to, and the parameter and the text that it is kept as."""
    from SemiSegModuleLib.scene.records import Expected, Quality, SlicePlan, Suggestion
    from SemiSegModuleLib.scene.volumes import VoxelBox

    expected = Expected(0.88, 0.8, 0.95)
    unknown = Expected(0.9, None, None, True)
    return {
        "group": ("series 7", "group", "series 7"),
        "frame": (0, "frame", "0"),
        "predicted_by": ("best.safetensors", "predicted_by", "best.safetensors"),
        "refinement": ("refinement-2", "refinement", "refinement-2"),
        "partial": ("axial", "partial", "axial"),
        "excluded": (True, "excluded", "true"),
        "seconds": (12, "seconds", "12.0"),
        "confidence": (0.875, "confidence", "0.875"),
        "dsc": (0.1 + 0.2, "dsc", "0.30000000000000004"),
        "suggestion": (
            Suggestion(1, None, 2, (4, 2)), "suggestion",
            '{"rank": 1, "uncertainty": null, "axis": 2, "slices": [4, 2]}',
        ),
        "slice_plan": (
            SlicePlan("axial", (3, 1), (3,)), "slices",
            '{"orientation": "axial", "proposed": [3, 1], "suggested": [3], "empty": []}',
        ),
        "quality": (
            Quality(expected, {"aorta": unknown}, "best"), "quality",
            f'{{"whole": {EXPECTED}, "classes": {{"aorta": {{"dsc": 0.9, "low": null, "high": null, "empty": true}}}}, '
            '"model": "best"}',
        ),
        "predicted_parts": ([VoxelBox((1, 2, 3), (4, 5, 6))], "predicted_box", BOXES),
    }  # fmt: skip


@pytest.fixture
def case(table, a_volume):
    """A scan with something drawn; without it the table forgets which slices are annotated."""
    case = table.add_volume(a_volume)
    draw(table, case)
    return case


def test_values_are_kept_by_the_names_and_texts_of_saved_scenes(case):
    for attribute, (value, name, text) in values().items():
        setattr(case, attribute, value)
        assert case.node.GetParameter(name) == text, attribute


def test_saved_texts_are_read(case):
    case.node.SetParameter("partial", "axial")  # the plan is of these slices
    for attribute, (value, name, text) in values().items():
        case.node.SetParameter(name, text)
        assert getattr(case, attribute) == value, attribute


def test_what_was_never_set_is_unknown(case):
    nothing = {"group": "", "predicted_by": "", "refinement": "", "partial": "", "excluded": False, "seconds": 0.0}
    for attribute in values():
        expected = nothing.get(attribute, [] if attribute == "predicted_parts" else None)
        assert getattr(case, attribute) == expected, attribute


def test_what_is_forgotten_is_kept_as_an_empty_text(case):
    for attribute, (value, name, _) in values().items():
        if attribute in ("confidence", "dsc", "quality", "suggestion", "slice_plan"):
            setattr(case, attribute, value)
            setattr(case, attribute, None)
            assert case.node.GetParameter(name) == "", attribute
            assert getattr(case, attribute) is None, attribute


def test_scenes_of_earlier_versions_are_read(case):
    from SemiSegModuleLib.scene.volumes import VoxelBox

    case.node.SetParameter("predicted_box", "[[1, 2, 3], [4, 5, 6]]")  # one part alone
    assert case.predicted_parts == [VoxelBox((1, 2, 3), (4, 5, 6))]
    case.node.SetParameter("quality", f'{{"whole": {EXPECTED}, "classes": {{}}}}')  # before it named the model
    assert case.quality.model == ""
    case.node.SetParameter("identifier", "")
    made = case.identifier
    assert len(made) == 32
    assert made == case.identifier == case.node.GetParameter("identifier")


def test_what_a_new_case_is_cannot_be_changed(case, add_volume):
    kept = {name: case.node.GetParameter(name) for name in ("file_name", "name_hidden")}
    assert kept == {"file_name": "scan_001", "name_hidden": "false"}
    assert case.node.GetParameter("identifier") == case.identifier
    for name, value in (("file_name", "scan_002"), ("volume", add_volume("other")), ("identifier", "another")):
        with pytest.raises(AttributeError):
            setattr(case, name, value)


def test_work_on_the_annotation_is_kept_by_the_names_of_saved_scenes(case):
    case.mark_done(corrected=True)
    case.remember_accepted(True)
    voxels = int(np.prod([part.stop - part.start for part in BOX]))
    kept = {name: case.node.GetParameter(name) for name in ("done", "corrected", "accepted")}
    (count, checksum) = json.loads(kept.pop("accepted"))["SemiSeg_1"]
    assert kept == {"done": "true", "corrected": "true"}
    assert (count, checksum >> 32) == (voxels, 0)
    assert case.accepted
    case.predicted_at_once = False
    assert case.node.GetParameter("joined") == "true"
    assert case.node.GetNodeReferenceID("SemiSeg.volume") == case.volume.GetID()
    assert case.node.GetNodeReferenceID("SemiSeg.annotation") == case.annotation.GetID()
    assert case.annotation.GetAttribute("SemiSeg.Annotation") == "true"
