"""The review mode: one list of all predicted scans as high as the panel, keys, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from ..i18n import _
from ..logic.workbench import Workbench
from ..scene.overlays import jump_to
from ..signal import Signal
from . import dialogs
from .case_rows import REVIEW_COLUMNS, CaseRows

_KEYS = {"N": "next", "Down": "next", "Right": "next", "P": "previous", "Up": "previous", "Left": "previous"}
_KEYS |= {"A": "accept", "C": "correct"}
_ORDERS = ("name", "expected", "state", "confidence", "dsc")  # of the columns


class ReviewPanel:
    """Shown instead of the sections while `active`; it works on the logic's review."""

    def __init__(self, ui: Any, logic: Workbench, others: list[Any], edit: Callable[[], None]) -> None:
        """:param others: widgets that make room; :param edit: shows the Segment Editor on the case at hand"""
        self._ui, self._study, self._review, self._edit = ui, logic.study, logic.review, edit
        self._others, self._stopwatch = others, logic.stopwatch
        self.active = False
        self.shown = Signal()  # it is shown instead of the sections, or they are again
        self._shortcuts: list[Any] = []
        self.rows = CaseRows(ui.reviewTable, logic.study, REVIEW_COLUMNS)
        ui.reviewWidget.visible = False
        ui.reviewButton.connect("clicked()", self.begin)
        ui.reviewCloseButton.connect("clicked()", self.end)
        ui.reviewAcceptButton.connect("clicked()", self.accept)
        ui.reviewCorrectButton.connect("clicked()", self.correct)
        ui.reviewPreviousButton.connect("clicked()", self.previous)
        ui.reviewNextButton.connect("clicked()", self.next)
        ui.reviewUndoButton.connect("clicked()", self.undo)
        ui.reviewTable.connect("itemSelectionChanged()", self._row_selected)
        ui.reviewTable.horizontalHeader().connect("sectionClicked(int)", self._sort)
        self._review.sorted.connect(self._fill)
        self._review.undo.changed.connect(self._show_buttons)
        self._study.cases_changed.connect(self._fill)
        self._study.case_changed.connect(self._case_changed)
        self._study.current_changed.connect(self._show_current)

    # ---- the mode --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make room for the list and show the scan that needs a look most."""
        if self.active:
            return
        self.active = True
        for widget in self._others:
            widget.visible = False
        self._ui.reviewWidget.visible = True
        self.shown.emit()
        self._make_shortcuts()
        self._review.begin()
        self._show_current()

    def end(self) -> None:
        """Bring the sections back."""
        if not self.active:
            return
        self.active = False
        self._stopwatch.end()
        self._remove_shortcuts()
        self._ui.reviewWidget.visible = False
        for widget in self._others:
            widget.visible = True
        self.shown.emit()

    def close(self) -> None:
        """The window is going."""
        self.end()
        self.rows.close()

    def _make_shortcuts(self) -> None:
        """Keys work wherever in the window the mouse is, but only while the list is shown."""
        parent = slicer.util.mainWindow() or self._ui.reviewWidget
        for key, name in _KEYS.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
            shortcut.autoRepeat = name in ("next", "previous")  # a key held down decides on one scan only
            shortcut.connect("activated()", getattr(self, name))
            self._shortcuts.append(shortcut)

    def _remove_shortcuts(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.enabled = False
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    # ---- clicks and keys -------------------------------------------------------------------------------------

    def next(self) -> None:
        """The scan below."""
        self._review.step(1)

    def previous(self) -> None:
        """The scan above."""
        self._review.step(-1)

    def accept(self) -> None:
        """The mask is right; the next one, please."""
        case = self._study.case
        if case is None or case.prediction is None or not dialogs.may_replace(case):
            return
        with slicer.util.tryWithErrorDisplay(_("The prediction cannot be taken over."), waitCursor=True):
            self._study.case = case  # a suggestion may have taken another one to hand while it was asked
            self._review.accept_and_go_on(overwrite=case.has_work)

    def correct(self) -> None:
        """Edit a copy of the mask, in the section Annotate."""
        case = self._study.case
        if case is None or case.prediction is None or not dialogs.may_replace(case):
            return
        with slicer.util.tryWithErrorDisplay(_("The prediction cannot be taken over."), waitCursor=True):
            self._study.case = case
            self._review.correct(overwrite=case.has_work)
            self.end()
            self._edit()

    def undo(self) -> None:
        """Take the last decision back."""
        if not dialogs.may_take_back(self._review):
            return
        with slicer.util.tryWithErrorDisplay(_("The step cannot be taken back."), waitCursor=True):
            self._review.take_back()

    # ---- showing ---------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        if self.active:
            self.rows.fill(self._review.cases)
            self._show_buttons()

    def _case_changed(self, case: Any) -> None:
        if self.active:
            if case in self.rows.cases or case.prediction is None:
                self.rows.update(case)
            else:
                self._fill()
            self._show_buttons()

    def _show_current(self) -> None:
        if self.active:
            case = self._study.case
            self.rows.select(case)
            self._show_buttons()
            self._stopwatch.begin(case)
            if case is not None:
                jump_to(case)

    def _show_buttons(self) -> None:
        if not self.active:
            return
        case, every = self._study.case, self._review.cases
        decided = len(every) - len(self._review.open())
        text = _("{done} of {count} scans decided") if every else _("Nothing is predicted yet.")
        self._ui.reviewLabel.text = text.format(done=decided, count=len(every))
        reviewable = case is not None and case.prediction is not None
        self._ui.reviewAcceptButton.enabled = reviewable
        self._ui.reviewCorrectButton.enabled = reviewable
        self._ui.reviewUndoButton.enabled = bool(self._review.undo.text)
        self._ui.reviewUndoButton.toolTip = _("Take back: {step}").format(step=self._review.undo.text)

    def _row_selected(self) -> None:
        if not self.rows.filling and self.active:
            self._study.case = self.rows.selected()

    def _sort(self, column: int) -> None:
        order = _ORDERS[column]
        self._review.sort(order, not self._review.descending if self._review.order == order else False)
