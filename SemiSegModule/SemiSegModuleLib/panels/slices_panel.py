"""The slices of a scan that are to be annotated: proposed, shown with what is done, stepped through."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from SemiSegLib.errors import SemiSegError

from ..i18n import _
from ..logic.study import Study
from ..scene import slices
from ..scene.case import Case
from ..scene.overlays import jump_to
from ..scene.volumes import slice_axis

_DONE = (46, 139, 87)
_TO_DO = (120, 120, 120)


class SlicesPanel:
    """Shown while only slices of the case at hand count (`Case.partial`)."""

    def __init__(self, ui: Any, study: Study) -> None:
        self._ui, self._study = ui, study
        self._filling = False
        self._numbers: list[int] = []  # of the entries of the list
        ui.slicesList.setFlow(qt.QListView.LeftToRight)
        ui.slicesList.setWrapping(True)
        ui.slicesList.setResizeMode(qt.QListView.Adjust)
        ui.proposeSlicesButton.connect("clicked()", self.propose)
        ui.nextSliceButton.connect("clicked()", self.next)
        ui.emptySliceCheckBox.connect("toggled(bool)", self._empty_toggled)
        ui.slicesList.connect("currentRowChanged(int)", self._row_chosen)
        ui.annotateCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self.update())
        for signal in (study.opened, study.current_changed, study.labels_changed):
            signal.connect(self.update)
        study.case_changed.connect(lambda case: case == self._study.case and self.update())

    def propose(self) -> None:
        """Plan slices of the orientation that counts, the suggested ones first, and show the first."""
        case = self._study.case
        if case is not None and case.partial:
            with slicer.util.tryWithErrorDisplay(_("No slices can be proposed.")):
                slices.propose(self._study.cases, case, case.partial, self._ui.everySpinBox.value)
                self.next()

    def next(self) -> None:
        """Show the next slice that is not done."""
        case = self._study.case
        number = slices.following(case, self._study.cases.labels, self._current()) if case is not None else None
        if number is not None:
            self._ui.slicesList.setCurrentRow(self._numbers.index(number))

    def _current(self) -> int | None:
        row = self._ui.slicesList.currentRow
        return self._numbers[row] if 0 <= row < len(self._numbers) else None

    def _row_chosen(self, row: int) -> None:
        case, number = self._study.case, self._current()
        if self._filling or case is None or number is None:
            return
        with slicer.util.tryWithErrorDisplay(_("The slice cannot be shown.")):
            jump_to(case, slices.place_of(case, slice_axis(case.volume, case.partial), number))
        self._show_empty(case)

    def _empty_toggled(self, empty: bool) -> None:
        case, number = self._study.case, self._current()
        if not self._filling and case is not None and number is not None:
            with slicer.util.tryWithErrorDisplay(_("The slice cannot be marked.")):
                slices.mark_empty(case, number, empty)

    # ---- showing ---------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show the plan of the case at hand; called again while somebody draws."""
        case = self._study.case
        partial = bool(case and case.partial)
        self._ui.slicesWidget.visible = partial
        if not partial:
            return
        plan, ready, problem = case.slice_plan, set(), ""
        try:
            ready = slices.done(case, self._study.cases.labels)
        except SemiSegError as error:  # two segments for one label
            problem = str(error)
        proposed = list(plan.proposed) if plan is not None and not problem else []
        self._filling = True
        try:
            self._fill(proposed)
            for row, number in enumerate(proposed):
                self._show(row, number, number in ready, number in plan.suggested)
        finally:
            self._filling = False
        finished = sum(number in ready for number in proposed)
        text = _("{done} of {count} slices done") if proposed else _("Propose slices, or draw in those of your choice.")
        self._ui.slicesLabel.text = problem or text.format(done=finished, count=len(proposed))
        self._ui.nextSliceButton.enabled = finished < len(proposed)
        self._show_empty(case)

    def _fill(self, proposed: list[int]) -> None:
        """Entries anew, only when others are proposed: the current one must not run away."""
        box, current = self._ui.slicesList, self._current()
        if proposed != self._numbers:
            box.clear()
            self._numbers = proposed
            for _number in proposed:
                box.addItem("")
            box.setCurrentRow(proposed.index(current) if current in proposed else -1)

    def _show(self, row: int, number: int, ready: bool, suggested: bool) -> None:
        item = self._ui.slicesList.item(row)
        text = f"{'★ ' if suggested else ''}{number}{' ✓' if ready else ''}"
        if item.text() != text:
            item.setText(text)
            item.setForeground(qt.QBrush(qt.QColor(*(_DONE if ready else _TO_DO))))
            item.setToolTip(_("suggested: here the model is least sure") if suggested else "")

    def _show_empty(self, case: Case) -> None:
        number = self._current()
        self._filling = True
        self._ui.emptySliceCheckBox.enabled = number is not None
        self._ui.emptySliceCheckBox.checked = number is not None and number in case.empty_slices
        self._filling = False
