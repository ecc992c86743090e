"""What each round of annotating and training brought: a table, and the curve of accuracy against minutes."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..i18n import _
from ..logic.rounds import Round
from ..logic.workbench import Workbench
from ..scene.curves import MinutesCurve

_COLUMNS = 4


class HistoryPanel:
    """Shows the rounds of the study at hand."""

    def __init__(self, ui: Any, logic: Workbench) -> None:
        self._ui, self._rounds = ui, logic.rounds
        self._curve: MinutesCurve | None = None
        ui.roundsTable.setHorizontalHeaderLabels([_("Round"), _("Minutes"), _("DSC"), _("Masks")])
        ui.roundsTable.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        ui.roundsTable.verticalHeader().setVisible(False)
        ui.minutesCurveButton.connect("clicked()", self.show_curve)
        self._rounds.changed.connect(self.update)

    def scene_closed(self) -> None:
        """The nodes of the curve are gone."""
        self._curve = None

    def update(self) -> None:
        """Show the rounds as they are."""
        rounds, table = self._rounds.all(), self._ui.roundsTable
        table.setRowCount(len(rounds))
        for row, each in enumerate(rounds):
            for column, text in enumerate((str(row + 1), f"{each.minutes:.1f}", _scores(each), _masks(each))):
                table.setItem(row, column, qt.QTableWidgetItem(text))
            table.item(row, 0).setToolTip(f"{each.run}, {each.started}: {_masks(each)}")
        for column in range(_COLUMNS):
            table.resizeColumnToContents(column)
        scored = [each for each in rounds if each.validation_dsc is not None or each.expected_dsc is not None]
        self._ui.minutesCurveButton.enabled = len(scored) > 1
        if self._curve is not None:
            self._fill_curve()

    def show_curve(self) -> None:
        """Open Slicer's plot view on it."""
        with slicer.util.tryWithErrorDisplay(_("The curve cannot be shown.")):
            if self._curve is None or not self._curve.complete:  # none yet, or somebody deleted it
                self._curve = MinutesCurve()
            self._fill_curve()
            self._curve.show()

    def _fill_curve(self) -> None:
        self._curve.fill((each.minutes, each.validation_dsc, each.expected_dsc) for each in self._rounds.all())


def _masks(each: Round) -> str:
    parts = [
        _("{count} drawn").format(count=each.count("drawn")),
        _("{count} corrected").format(count=each.count("corrected")),
        _("{count} accepted").format(count=each.count("accepted")),
    ]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def _scores(each: Round) -> str:
    parts = []
    if each.validation_dsc is not None:
        parts.append(f"{each.validation_dsc:.3f}")
    if each.expected_dsc is not None:
        parts.append(_("{dsc:.2f} expected").format(dsc=each.expected_dsc))
    return ", ".join(parts) or (_("failed") if each.state == "failed" else "")
