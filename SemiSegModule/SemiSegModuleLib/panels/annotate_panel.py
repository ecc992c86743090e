"""The Annotate section: Slicer's segment editor on the case at hand, its region of interest, and the word "done"."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from ..i18n import _
from ..logic.stopwatch import Stopwatch
from ..logic.study import Study
from ..scene.annotations import add_region, edited_elsewhere, make_annotation
from ..scene.case import Case
from ..scene.records import ORIENTATIONS
from ..scene.region import voxels_outside
from ..signal import Signal
from . import dialogs, texts
from .scrolling import scroll_to

_EDITOR_TAG = "SemiSegEditor"
_UNDO_STATES = 10  # as in Slicer's own Segment Editor
_PAUSE_MILLISECONDS = 300  # after a stroke, before anybody is told of it


class AnnotatePanel:
    """Connects the widgets of the Annotate section and owns the segment editor."""

    def __init__(self, ui: Any, study: Study, stopwatch: Stopwatch) -> None:
        self._ui, self._study, self._stopwatch = ui, study, stopwatch
        self._drawing: tuple[Any, int] | None = None  # the segmentation that is watched, and the observer's tag
        self._timer = qt.QTimer()  # once for all that a stroke of the brush changes
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MILLISECONDS)
        self._timer.connect("timeout()", self._drawn)
        self._scrolling = qt.QTimer()  # once the panel has the heights of what was folded and unfolded
        self._scrolling.setSingleShot(True)
        self._scrolling.setInterval(0)
        self._scrolling.connect("timeout()", lambda: scroll_to(ui.annotateCollapsibleButton))
        self.drawn = Signal()  # somebody has drawn in the annotation that is edited
        self._filling = False
        self._entered = self._tools_are_up = False
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMaximumNumberOfUndoStates(_UNDO_STATES)
        self.editor.setMRMLScene(slicer.mrmlScene)
        for hide in ("setSegmentationNodeSelectorVisible", "setSourceVolumeNodeSelectorVisible"):
            getattr(self.editor, hide)(False)
        self.editor.setSwitchToSegmentationsButtonVisible(False)
        ui.segmentEditorContainer.layout().addWidget(self.editor)
        for text in _partial_choices().values():
            ui.partialComboBox.addItem(text)
        ui.annotateCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self.take_up_or_put_down())
        ui.annotateButton.connect("clicked()", self.annotate)
        ui.addRegionButton.connect("clicked()", self.add_region)
        ui.removeRegionButton.connect("clicked()", self.remove_region)
        ui.doneCheckBox.connect("toggled(bool)", self._done_toggled)
        ui.partialComboBox.connect("currentIndexChanged(int)", self._partial_chosen)
        study.opened.connect(self.update)
        study.cases_changed.connect(self.update)
        study.case_changed.connect(lambda case: case == self._study.case and self.update())
        study.current_changed.connect(self.update)
        study.labels_changed.connect(self.update)

    def use_scene(self) -> None:
        """Give the editor its node in the present scene."""
        node = slicer.mrmlScene.GetSingletonNode(_EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(_EDITOR_TAG)
            node = slicer.mrmlScene.AddNode(node)
        self.editor.setMRMLSegmentEditorNode(node)

    def enter(self) -> None:
        """The module is shown."""
        self._entered = True
        self.take_up_or_put_down()

    def leave(self) -> None:
        """Another module is shown, which must not be drawn in."""
        self._entered = False
        self.take_up_or_put_down()

    def scene_closed(self) -> None:
        """What was edited is gone; the editor notices that only when the scene is closed."""
        self._watch(None)
        self._edit(None)
        self._put_down()

    def close(self) -> None:
        """The window is going."""
        self.leave()
        self._watch(None)
        self._edit(None)
        self._timer.stop()
        self._scrolling.stop()

    def take_up_or_put_down(self) -> None:
        """The editor's keys and tools work in the whole window, so they are there only while the editor is seen."""
        section = self._ui.annotateCollapsibleButton
        hidden = section.isHidden()  # by the review, which counts the time itself
        seen = self._entered and not section.collapsed and not hidden
        if not seen or self.editor.segmentationNode() is None:
            self._put_down()
        elif not self._tools_are_up:
            self._tools_are_up = True
            self.editor.setupViewObservations()
            self.editor.installKeyboardShortcuts()
        if not hidden:
            self._stopwatch.begin(self._study.case if self._tools_are_up else None)

    def _put_down(self) -> None:
        if self._tools_are_up:
            self._tools_are_up = False
            self._stopwatch.end()
            self.editor.setActiveEffectByName("")
            self.editor.uninstallKeyboardShortcuts()
            self.editor.removeViewObservations()

    def update(self) -> None:
        """Show the case at hand."""
        case = self._study.case
        self._filling = True
        try:
            self._ui.annotateLabel.text = _hint(case)
            self._ui.annotateButton.enabled = case is not None
            self._ui.doneCheckBox.checked = case is not None and case.done
            self._ui.doneCheckBox.enabled = case is not None and case.annotation is not None
            self._ui.partialComboBox.enabled = case is not None
            self._ui.partialComboBox.currentIndex = list(_partial_choices()).index(case.partial if case else "")
        finally:
            self._filling = False
        self._show_region(case)
        annotation = case.annotation if case else None
        self._ui.segmentEditorContainer.visible = annotation is not None
        if annotation is None or self.editor.segmentationNode() is not annotation:
            self._edit(case)

    def show(self) -> None:
        """Open the section, and the editor with it, and bring it into view."""
        self._ui.annotateCollapsibleButton.collapsed = False
        self._scrolling.start()

    def annotate(self) -> None:
        """Make the segments for the case at hand and edit them."""
        with slicer.util.tryWithErrorDisplay(_("The scan cannot be annotated."), waitCursor=True):
            case = self._study.case
            if case is not None:
                make_annotation(self._study.cases, case)
                self._edit(case)

    def add_region(self) -> None:
        """Put a box around what is drawn, or around the scan; pressed again, fit it anew."""
        with slicer.util.tryWithErrorDisplay(_("The region of interest cannot be made."), waitCursor=True):
            if self._study.case is not None:
                add_region(self._study.cases, self._study.case)

    def remove_region(self) -> None:
        """The whole scan counts again."""
        case = self._study.case
        question = _(
            "Without its region of interest all of {name} counts as annotated as soon as it is done: as background "
            "wherever nothing is drawn. Remove the region?"
        )
        limited = case is not None and (case.done or case.began_as_prediction)  # nobody may have looked outside
        if case is not None and (not limited or dialogs.confirm(question.format(name=case.name))):
            self._study.cases.remove_region(case)

    def _show_region(self, case: Case | None) -> None:
        region = case.region if case else None
        self._ui.addRegionButton.enabled = case is not None
        self._ui.addRegionButton.text = _("Limit to a box") if region is None else _("Fit the box again")
        self._ui.removeRegionButton.enabled = region is not None
        self._ui.regionLabel.text = _region_text(case, self._study.cases.labels) if region is not None else ""
        self._ui.regionLabel.visible = region is not None

    def _edit(self, case: Case | None) -> None:
        if self.editor.mrmlSegmentEditorNode() is None:
            return
        annotation = case.annotation if case else None
        self.editor.setSegmentationNode(annotation)
        self._watch(annotation)
        self.editor.setSourceVolumeNode(case.volume if annotation is not None else None)
        self.take_up_or_put_down()

    def _watch(self, annotation: Any) -> None:
        """Hear of every stroke in this annotation, and no longer of another's."""
        if self._drawing is not None:
            segmentation, tag = self._drawing
            segmentation.RemoveObserver(tag)
            self._drawing = None
        if annotation is not None:
            segmentation = annotation.GetSegmentation()
            self._drawing = segmentation, segmentation.AddObserver(vtk.vtkCommand.AnyEvent, self._stroke)

    def _stroke(self, _segmentation: Any, event: str) -> None:
        if event != "DeleteEvent":
            self._timer.start()

    def _drawn(self) -> None:
        if self._study.parameters is not None:
            if not self._tools_are_up and edited_elsewhere(self._study.case):
                self._stopwatch.begin(self._study.case)
            self._stopwatch.touch()
            self.drawn.emit()

    def _done_toggled(self, done: bool) -> None:
        case = self._study.case
        if self._filling or case is None:
            return
        try:
            if done:
                dialogs.call_done(case)
            else:
                case.mark_done(False)
        finally:
            self.update()

    def _partial_chosen(self, index: int) -> None:
        case = self._study.case
        if self._filling or case is None:
            return
        with slicer.util.tryWithErrorDisplay(_("The scan cannot be annotated."), waitCursor=True):
            if index and case.annotation is None:  # which is what the choice says something of
                make_annotation(self._study.cases, case)
            case.partial = list(_partial_choices())[index]


def _partial_choices() -> dict[str, str]:
    """Values of `Case.partial` and what they are called."""
    slices = {
        "axial": _("only the axial slices with something drawn"),
        "coronal": _("only the coronal slices with something drawn"),
        "sagittal": _("only the sagittal slices with something drawn"),
    }
    return {"": _("the whole scan"), **{orientation: slices[orientation] for orientation in ORIENTATIONS}}


def _region_text(case: Case, labels: list[Label]) -> str:
    """What a region of interest does, or why it is of no use."""
    try:
        box = case.box()
        unseen = voxels_outside(case.annotation, case.volume, box, labels) if case.annotation is not None else 0
    except SemiSegError as error:
        return str(error)
    whole = case.volume.GetImageData().GetDimensions()
    parts = [
        _("Training and prediction use {part} of {whole} voxels.").format(
            part=" × ".join(map(str, box.size)), whole=" × ".join(map(str, whole))
        )
    ]
    if unseen:
        parts.append(
            _("{count} annotated voxels lie outside: they are kept, but training does not see them.").format(
                count=unseen
            )
        )
    if case.predicted_elsewhere:
        parts.append(_("The prediction was made for another part of the scan; predict again to cover this one."))
    return " ".join(parts)


def _hint(case: Case | None) -> str:
    if case is None:
        return _("Select a scan in the table above.")
    if case.annotation is None:
        return " ".join([_("{name} has no annotation yet.").format(name=case.name), texts.suggestion(case)]).strip()
    if case.done:
        return _("{name} is done. Change it here whenever you like.").format(name=case.name)
    text = _("Draw on {name}, then say that it is done.").format(name=case.name)
    return " ".join([text, texts.suggestion(case)]).strip()
