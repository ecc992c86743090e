"""The segment editor in its section: its keys work where a person sees it, and nowhere else."""

import pytest


@pytest.fixture
def editing(with_cases):
    """The first scan, annotated, in the unfolded editor."""
    with_cases.ui.casesTable.selectRow(0)
    with_cases.unfold("annotate")
    return with_cases


def editor(opened):
    return opened.panel.annotate.editor


def test_keys_work_in_the_unfolded_section(editing):
    assert editor(editing).press("1")
    assert editor(editing)._active_effect == "1"


@pytest.mark.parametrize("key", ["1", "Space", "Esc", "Z"])
def test_keys_do_nothing_while_the_section_is_folded(editing, key):
    editing.unfold("results")
    assert not editor(editing).press(key)
    editing.unfold("annotate")
    assert editor(editing).press(key)
    assert not editor(editing).errors


def test_folding_puts_the_tool_down(editing):
    editor(editing).press("1")
    editing.unfold("results")
    assert editor(editing)._active_effect == ""
    assert not editor(editing)._views_observed


def test_keys_do_nothing_when_no_annotation_is_shown(editing):
    editing.ui.casesTable.selectRow(2)
    assert not editor(editing).press("1")
    editing.ui.annotateButton.click()
    assert editor(editing).press("1")
    assert not editor(editing).errors


def test_keys_do_nothing_in_another_module(editing):
    editing.widget.exit()
    assert not editor(editing).press("1")
    editing.widget.enter()
    assert editor(editing).press("1")


def test_keys_do_nothing_after_the_module_is_gone(editing):
    kept = editor(editing)
    editing.widget.cleanup()
    assert not kept.press("1")
    assert kept.segmentationNode() is None


def test_keys_work_again_after_the_scene_was_closed(editing, mrml, scans):
    mrml.scene.Clear(0)
    assert not editor(editing).press("1")
    editing.panel.data.add_folder(scans)
    editing.ui.casesTable.selectRow(0)
    assert editor(editing).press("1")


def test_ten_strokes_can_be_taken_back(editing):
    assert editor(editing).maximumNumberOfUndoStates >= 10


def test_deleting_the_annotation_leads_to_no_other_scan(editing, mrml):
    """Slicer's editor takes up another segmentation then, and shows the scan of that."""
    import slicer

    view = mrml.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    first, second = editing.work.cases.cases[:2]
    editing.panel.results.overlays.show(first)
    mrml.scene.RemoveNode(first.annotation)
    assert editor(editing).segmentationNode() is None
    assert not editor(editing).press("1")
    assert view.GetBackgroundVolumeID() == first.volume.GetID()
    assert second.annotation is not None
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_no_keys_are_set_up_while_a_scene_closes(editing, mrml, monkeypatch):
    set_up = []
    monkeypatch.setattr(type(editor(editing)), "installKeyboardShortcuts", lambda self: set_up.append(True))
    mrml.scene.Clear(0)
    assert not set_up
