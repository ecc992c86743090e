"""A table of cases, one row each, with a small picture: a row is made anew only when its case looks different.

>>> rows = CaseRows(ui.casesTable, study)                               # doctest: +SKIP
>>> rows.fill(study.cases.cases)                                        # doctest: +SKIP
>>> rows.update(case)                                                   # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import qt

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from ..i18n import _
from ..logic.study import Study
from ..scene.case import Case
from ..scene.records import State
from . import texts, thumbnails

_STATE_COLORS = {
    State.ANNOTATED: (46, 139, 87),
    State.CORRECTED: (32, 110, 160),
    State.PREDICTED: (222, 160, 40),
    State.UNLABELLED: (160, 160, 160),
    State.EXCLUDED: (230, 230, 230),
}
COLUMNS = ("scan", "state", "labels", "volume", "confidence", "dsc")
REVIEW_COLUMNS = ("scan", "expected", "state", "confidence", "dsc")
_NAME_WIDTH = 150  # pixels: picture and name stay readable in a narrow dock, the rest can be scrolled to
_LEAST_NAME_WIDTH = 85  # where what stands up to the state needs the room
_DRAWING_SECONDS = 0.03  # of pictures at a time, so that the window never waits for a long table


class CaseRows:
    """Fills a QTableWidget; `cases` are those of its rows, from top to bottom."""

    def __init__(self, table: Any, study: Study, columns: Sequence[str] = COLUMNS) -> None:
        self._table, self._study, self._columns = table, study, columns
        self.cases: list[Case] = []
        self._numbers: dict[str, int] = {}  # of the rows, by the IDs of their cases, like the following
        self._made: dict[str, tuple[tuple, dict[str, str]]] = {}  # what a row looks like, and its texts
        self._pictures: dict[str, Any] = {}  # of rows that still look so
        self._undrawn: dict[str, Case] = {}  # in the order in which they are drawn
        self._dots: dict[State, Any] = {}
        self.filling = False
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._draw_some)
        table.setHorizontalHeaderLabels([_headings()[column] for column in columns])
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setIconSize(qt.QSize(thumbnails.PIXELS, thumbnails.PIXELS))
        table.verticalHeader().setDefaultSectionSize(thumbnails.PIXELS + 4)
        table.verticalHeader().setVisible(False)
        table.setTextElideMode(qt.Qt.ElideMiddle)  # names of one study differ at their ends
        table.horizontalHeader().connect("geometriesChanged()", self._fit_name)

    def fill(self, cases: Sequence[Case]) -> None:
        """These cases in this order; rows whose case is the same as before stay, and nothing is made twice."""
        labels = self._study.cases.labels
        before, self.cases = list(self._numbers), list(cases)
        self._numbers = {case.id: number for number, case in enumerate(cases)}
        for kept in (self._made, self._pictures, self._undrawn):
            for identifier in kept.keys() - self._numbers.keys():
                del kept[identifier]
        self.filling = True
        try:
            self._table.setRowCount(len(cases))
            for number, case in enumerate(cases):
                moved = number >= len(before) or before[number] != case.id
                self._fill_row(number, case, labels, moved)
        finally:
            self.filling = False
        self.select(self._study.case)
        self._fit_columns()

    def update(self, case: Case) -> None:
        """This case may look different."""
        if case.id in self._numbers:
            self.filling = True
            try:
                if self._fill_row(self._numbers[case.id], case, self._study.cases.labels, moved=False):
                    self._fit_columns()
            finally:
                self.filling = False

    def select(self, case: Case | None) -> None:
        """Mark the row of the case at hand, and bring it into view."""
        self.filling = True
        try:
            if case is not None and case.id in self._numbers:
                number = self._numbers[case.id]
                if self._table.currentRow() != number or not self._table.selectedItems():
                    self._table.selectRow(number)
                self._table.scrollToItem(self._table.item(number, 0))
            else:
                self._table.clearSelection()
        finally:
            self.filling = False

    def selected(self) -> Case | None:
        """The case whose row is marked."""
        row = self._table.currentRow()
        return self.cases[row] if 0 <= row < len(self.cases) else None

    def draw_pictures(self) -> None:
        """Draw the pictures that are still missing, now."""
        while self._undrawn:
            self._draw_next()
        self._timer.stop()

    def close(self) -> None:
        """The window is going: no picture is drawn into a table that is gone."""
        self._timer.stop()
        self._undrawn.clear()
        self._table.horizontalHeader().disconnect("geometriesChanged()", self._fit_name)

    def _fill_row(self, number: int, case: Case, labels: list[Label], moved: bool) -> bool:
        """Make a row anew if need be; returns whether it was."""
        look = _look(case, labels)
        before, cells = self._made.get(case.id, ((), {}))
        if look != before:
            cells = _texts(case, labels)
            self._made[case.id] = look, cells
            self._pictures.pop(case.id, None)
            self._undrawn[case.id] = case
            self._timer.start()
        elif not moved:
            return False
        if "expected" in self._columns:  # which needs the room; the tool tip says what is next
            cells["state"] = texts.bare_state(case)
        for column, name in enumerate(self._columns):
            self._table.setItem(number, column, qt.QTableWidgetItem(cells[name]))
        self._table.item(number, 0).setToolTip(f"{case.name} ({case.file_name})")
        for column in [name for name in ("expected", "confidence") if name in self._columns]:
            self._table.item(number, self._columns.index(column)).setToolTip(texts.quality(case))
        if "labels" in self._columns:
            self._table.item(number, self._columns.index("labels")).setToolTip(cells["problem"])
        state = self._table.item(number, self._columns.index("state"))
        state.setToolTip(texts.suggestion(case))
        state.setIcon(self._dot(case.state))
        if case.id in self._pictures:
            self._table.item(number, 0).setIcon(self._pictures[case.id])
        return True

    def _dot(self, state: State) -> Any:
        if state not in self._dots:
            pixmap = qt.QPixmap(12, 12)
            pixmap.fill(qt.QColor(*_STATE_COLORS[state]))
            self._dots[state] = qt.QIcon(pixmap)
        return self._dots[state]

    def _fit_columns(self) -> None:
        if "expected" in self._columns:  # no room for what is known of none
            known = any(case.expected_dsc is not None for case in self.cases)
            self._table.setColumnHidden(self._columns.index("expected"), not known)
        for column in range(1, len(self._columns)):
            self._table.resizeColumnToContents(column)
        self._fit_name()

    def _fit_name(self) -> None:
        """The name takes the room that is left, and gives way to what stands up to the state, not to the rest."""
        widths = [self._table.columnWidth(column) for column in range(1, len(self._columns))]
        room, seen = self._table.viewport().width, sum(widths[: self._columns.index("state")])
        least = min(_NAME_WIDTH, max(_LEAST_NAME_WIDTH, room - seen))
        self._table.setColumnWidth(0, max(least, room - sum(widths)))

    def _draw_some(self) -> None:
        end = time.monotonic() + _DRAWING_SECONDS
        while self._undrawn and time.monotonic() < end:
            self._draw_next()
        if not self._undrawn:
            self._timer.stop()

    def _draw_next(self) -> None:
        identifier = next(iter(self._undrawn))
        case = self._undrawn.pop(identifier)
        if case.volume is not None:
            self._pictures[identifier] = thumbnails.icon(case, self._study.cases.labels)
            self._table.item(self._numbers[identifier], 0).setIcon(self._pictures[identifier])


def _headings() -> dict[str, str]:
    return {
        "scan": _("Scan"),
        "state": _("State"),
        "labels": _("Labels"),
        "volume": _("Volume"),
        "expected": _("Expected\nDSC"),
        "confidence": _("Confidence"),
        "dsc": _("DSC"),
    }


def _texts(case: Case, labels: list[Label]) -> dict[str, str]:
    names = volume = problem = ""
    try:
        names = ", ".join(label.name for label in case.labels_present(labels))
        volume = ", ".join(_("{amount:.1f} ml").format(amount=ml) for ml in case.volumes_ml(labels).values())
    except SemiSegError as error:  # two segments for one label, or a transform that bends the voxels
        names, problem = names or _("not clear"), str(error)
    return {
        "scan": case.name,
        "state": texts.case_state(case),
        "labels": names,
        "volume": volume,
        "problem": problem,
        "expected": texts.expected_below(case.quality.whole) if case.quality is not None else "",
        "confidence": "" if case.confidence is None else f"{case.confidence:.2f}",
        "dsc": "" if case.dsc is None else f"{case.dsc:.2f}",
    }


def _look(case: Case, labels: list[Label]) -> tuple:
    """What a row depends on; counting voxels takes long, so a row is only made when this changes."""
    drawn = tuple(
        (node.GetID(), node.GetSegmentation().GetMTime())
        for node in (case.annotation, case.prediction)
        if node is not None
    )
    image = case.volume.GetImageData()
    figures = case.confidence, case.dsc, texts.quality(case)
    voxels = image.GetMTime() if image else 0
    return case.identifier, case.name, texts.case_state(case), *figures, drawn, tuple(labels), voxels
