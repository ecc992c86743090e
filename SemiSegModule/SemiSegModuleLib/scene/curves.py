"""Live curves as tables and charts of the scene, so that Slicer's own plot view shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import slicer
import vtk

from ..i18n import _

LOSS, DSC, MINUTES = "loss", "dsc", "minutes"
_COLOURS = ((0.12, 0.35, 0.75), (0.85, 0.37, 0.1), (0.2, 0.6, 0.25), (0.6, 0.3, 0.65), (0.5, 0.5, 0.5), (0.8, 0.6, 0.1))
_ROLE = "SemiSeg.Curve"
_FEWEST_POINTS = 2
_ROOM_FOR_LEGEND = 1.3  # the x axis is so much longer than the curves: the legend covers the right end of the view


class TrainingCurves:
    """One chart of every loss term and one of the validation DSC of every class, filled from a run's events.

    The nodes are not saved with the scene: they are made again from the run folder.
    """

    def __init__(self, scene: Any = None) -> None:
        scene = scene or slicer.mrmlScene
        self._parts = {
            LOSS: _Chart(scene, LOSS, _("SemiSeg: training loss"), "iteration", _("iteration"), _("loss")),
            DSC: _Chart(scene, DSC, _("SemiSeg: validation DSC"), "iteration", _("iteration"), _("DSC"), markers=True),
        }
        self._parts[DSC].say_while_empty(_("{title} (empty until annotated scans that are kept aside have two scores)"))
        self.charts = {kind: part.node for kind, part in self._parts.items()}

    @property
    def complete(self) -> bool:
        """All nodes are in the scene still."""
        return all(part.complete for part in self._parts.values())

    def clear(self) -> None:
        """Empty charts, for another run."""
        for part in self._parts.values():
            part.clear()

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append what new events say; other events, and iterations that are shown already, are passed over."""
        changed = set()
        for event in events:
            if event["event"] == "iteration":
                kind, values = LOSS, {_("total"): event["total"], **event["losses"]}
            elif event["event"] == "validation":
                per_class = event["per_class"] if len(event["per_class"]) > 1 else {}
                kind, values = DSC, {_("mean DSC"): event["dsc"], **per_class}
            else:
                continue
            if event["iteration"] > self._parts[kind].last_x:
                self._parts[kind].append(event["iteration"], values)
                changed.add(kind)
        for kind in changed:
            self._parts[kind].show_new()

    def show(self, kind: str) -> None:
        """Open a plot view, if the layout has none, and put the chart there."""
        slicer.modules.plots.logic().ShowChartInLayout(self.charts[kind])

    def last(self, kind: str) -> float | None:
        """The latest value of the first curve."""
        table = self._parts[kind].table
        rows = table.GetNumberOfRows()
        return table.GetValue(rows - 1, 1).ToDouble() if rows else None


class MinutesCurve:
    """Accuracy of each round of annotation and training against the minutes that people spent until then."""

    def __init__(self, scene: Any = None) -> None:
        title = _("SemiSeg: accuracy against minutes of annotation")
        scene = scene or slicer.mrmlScene
        self._part = _Chart(scene, MINUTES, title, "minutes", _("minutes"), _("DSC"), markers=True)
        self.chart = self._part.node

    @property
    def complete(self) -> bool:
        """All nodes are in the scene still."""
        return self._part.complete

    def fill(self, points: Iterable[tuple[float, float | None, float | None]]) -> None:
        """Show these: (minutes, validation DSC, expected DSC), the scores None where they are not known.

        Of rounds without a minute between them both are shown: one trained longer than the other.
        """
        self._part.clear()
        for minutes, measured, expected in points:
            self._part.append(minutes, {_("validation DSC"): measured, _("expected DSC"): expected})
        self._part.show_new()

    def show(self) -> None:
        """Open a plot view, if the layout has none, and put the chart there."""
        slicer.modules.plots.logic().ShowChartInLayout(self.chart)


class _Chart:
    """A chart with its table: one column for x, one for every curve."""

    def __init__(
        self, scene: Any, kind: str, title: str, x_column: str, x_axis: str, y_axis: str, markers: bool = False
    ) -> None:
        self._scene, self._kind, self._x_column, self._markers = scene, kind, x_column, markers
        self.node = self._node(kind, "vtkMRMLPlotChartNode")
        self.node.SetName(title)
        self.node.SetTitle(title)
        self.node.SetXAxisTitle(x_axis)
        self.node.SetYAxisTitle(y_axis)
        self._table = self._node(f"{kind}.table", "vtkMRMLTableNode")
        self._title, self._empty_title = title, title
        self._series: list[Any] = []
        self.last_x = -math.inf  # how far the curves reach
        self._waiting: list[str] = []  # series that wait for their second point
        self.clear()

    @property
    def complete(self) -> bool:
        """All nodes are in the scene still."""
        return all(node.GetScene() is not None for node in (self.node, self._table, *self._series))

    @property
    def table(self) -> Any:
        """The vtkTable."""
        return self._table.GetTable()

    def say_while_empty(self, text: str) -> None:
        """Explain in the title why there is no curve, while there is none."""
        self._empty_title = text.format(title=self._title)
        self._show_title()

    def _show_title(self) -> None:
        self.node.SetTitle(self._title if self.node.GetNumberOfPlotSeriesNodes() else self._empty_title)

    def clear(self) -> None:
        """No curves."""
        self.node.RemoveAllPlotSeriesNodeIDs()
        self._series.clear()
        self.last_x = -math.inf
        self._waiting.clear()
        self._table.RemoveAllColumns()
        self._show_title()

    def append(self, x: float, values: Mapping[str, float | None]) -> None:
        """A point of each curve."""
        self.last_x = max(self.last_x, x)
        self._column(self._x_column)
        for name in values:
            self._column(name)
        row = self.table.InsertNextBlankRow(float("nan"))
        self.table.SetValueByName(row, self._x_column, vtk.vtkVariant(float(x)))
        for name, value in values.items():
            if value is not None:
                self.table.SetValueByName(row, name, vtk.vtkVariant(float(value)))

    def show_new(self) -> None:
        """Let the views know of what was appended."""
        rows = self.table.GetNumberOfRows()
        self.table.Modified()
        if rows >= _FEWEST_POINTS:  # of a line of one point the views print an error at every render
            for identifier in self._waiting:
                self.node.AddAndObservePlotSeriesNodeID(identifier)
            self._waiting.clear()
        self._show_title()
        if rows:
            self.node.XAxisRangeAutoOff()
            self.node.SetXAxisRange(0.0, self.last_x * _ROOM_FOR_LEGEND)
        self._table.Modified()

    def _column(self, name: str) -> None:
        if self.table.GetColumnByName(name) is not None:
            return
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        column.SetNumberOfTuples(self.table.GetNumberOfRows())
        column.Fill(float("nan"))
        self.table.AddColumn(column)
        if name != self._x_column:
            self._add_series(name)

    def _add_series(self, name: str) -> None:
        number = self.table.GetNumberOfColumns() - 2
        plot = slicer.vtkMRMLPlotSeriesNode
        series = self._node(f"{self._kind}.{name}", "vtkMRMLPlotSeriesNode")
        series.SetName(name)
        series.SetAndObserveTableNodeID(self._table.GetID())
        series.SetXColumnName(self._x_column)
        series.SetYColumnName(name)
        series.SetPlotType(plot.PlotTypeScatter)
        series.SetMarkerStyle(plot.MarkerStyleCircle if self._markers else plot.MarkerStyleNone)
        series.SetColor(*_COLOURS[number % len(_COLOURS)])
        series.SetLineWidth(3 if number == 0 else 1.5)
        self._series.append(series)
        self._waiting.append(series.GetID())

    def _node(self, role: str, class_name: str) -> Any:
        """The node with this role: found again after a module reload, else made."""
        for node in slicer.util.getNodesByClass(class_name, self._scene):
            if node.GetAttribute(_ROLE) == role:
                return node
        node = self._scene.AddNewNodeByClass(class_name, f"SemiSeg {role}")
        node.SetAttribute(_ROLE, role)
        node.SetSaveWithScene(False)
        return node
