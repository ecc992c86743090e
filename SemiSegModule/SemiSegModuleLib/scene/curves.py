"""The live curves of a training, as tables and charts of the scene, so that Slicer's own plot view shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import slicer
import vtk

from ..i18n import _

LOSS, DSC = "loss", "dsc"
_COLOURS = ((0.12, 0.35, 0.75), (0.85, 0.37, 0.1), (0.2, 0.6, 0.25), (0.6, 0.3, 0.65), (0.5, 0.5, 0.5), (0.8, 0.6, 0.1))
_ROLE = "SemiSeg.Curve"
_FEWEST_POINTS = 2
_ROOM_FOR_LEGEND = 1.3  # the x axis is so much longer than the training: the legend covers the right end of the view


class TrainingCurves:
    """One chart of every loss term and one of the validation DSC of every class, filled from a run's events.

    The nodes are not saved with the scene: they are made again from the run folder.
    """

    def __init__(self, scene: Any = None) -> None:
        self._scene = scene or slicer.mrmlScene
        self.charts = {
            LOSS: self._chart(LOSS, _("SemiSeg: training loss"), _("loss")),
            DSC: self._chart(DSC, _("SemiSeg: validation DSC"), _("DSC")),
        }
        self._series: dict[str, list[str]] = {LOSS: [], DSC: []}  # those that wait for their second point
        self._tables = {kind: self._node(f"{kind}.table", "vtkMRMLTableNode") for kind in (LOSS, DSC)}
        self.clear()

    def clear(self) -> None:
        """Empty charts, for another run."""
        for kind, table in self._tables.items():
            self.charts[kind].RemoveAllPlotSeriesNodeIDs()
            self._series[kind].clear()
            table.RemoveAllColumns()

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append what new events say; other events, and iterations that are shown already, are passed over."""
        changed = set()
        for event in events:
            if event["event"] == "iteration":
                self._append(LOSS, event["iteration"], {_("total"): event["total"], **event["losses"]})
                changed.add(LOSS)
            elif event["event"] == "validation":
                per_class = event["per_class"] if len(event["per_class"]) > 1 else {}
                self._append(DSC, event["iteration"], {_("mean DSC"): event["dsc"], **per_class})
                changed.add(DSC)
        for kind in changed:
            table = self._tables[kind].GetTable()
            table.Modified()
            last = table.GetValueByName(table.GetNumberOfRows() - 1, "iteration").ToDouble()
            self._show_lines(kind)
            self.charts[kind].XAxisRangeAutoOff()
            self.charts[kind].SetXAxisRange(0.0, last * _ROOM_FOR_LEGEND)
            self._tables[kind].Modified()

    def show(self, kind: str) -> None:
        """Open a plot view, if the layout has none, and put the chart there."""
        slicer.modules.plots.logic().ShowChartInLayout(self.charts[kind])

    def last(self, kind: str) -> float | None:
        """The latest value of the first curve."""
        table = self._tables[kind].GetTable()
        rows = table.GetNumberOfRows()
        return table.GetValue(rows - 1, 1).ToDouble() if rows else None

    def _append(self, kind: str, iteration: int, values: Mapping[str, float | None]) -> None:
        table = self._tables[kind].GetTable()
        self._column(kind, "iteration")
        rows = table.GetNumberOfRows()
        if rows and table.GetValueByName(rows - 1, "iteration").ToDouble() >= iteration:
            return
        for name in values:
            self._column(kind, name)
        row = table.InsertNextBlankRow(float("nan"))
        table.SetValueByName(row, "iteration", vtk.vtkVariant(float(iteration)))
        for name, value in values.items():
            if value is not None:
                table.SetValueByName(row, name, vtk.vtkVariant(float(value)))

    def _column(self, kind: str, name: str) -> None:
        table = self._tables[kind].GetTable()
        if table.GetColumnByName(name) is not None:
            return
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        column.SetNumberOfTuples(table.GetNumberOfRows())
        column.Fill(float("nan"))
        table.AddColumn(column)
        if name != "iteration":
            self._add_series(kind, name)

    def _add_series(self, kind: str, name: str) -> None:
        number = self._tables[kind].GetTable().GetNumberOfColumns() - 2
        series = self._node(f"{kind}.{name}", "vtkMRMLPlotSeriesNode")
        series.SetName(name)
        series.SetAndObserveTableNodeID(self._tables[kind].GetID())
        series.SetXColumnName("iteration")
        series.SetYColumnName(name)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(
            slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle
            if kind == DSC
            else slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
        )
        series.SetColor(*_COLOURS[number % len(_COLOURS)])
        series.SetLineWidth(3 if number == 0 else 1.5)
        self._series[kind].append(series.GetID())

    def _show_lines(self, kind: str) -> None:
        """From the second point on: of a line of one point the views print an error at every render."""
        if self._tables[kind].GetTable().GetNumberOfRows() < _FEWEST_POINTS:
            return
        for identifier in self._series[kind]:
            self.charts[kind].AddAndObservePlotSeriesNodeID(identifier)
        self._series[kind].clear()

    def _chart(self, kind: str, title: str, y_axis: str) -> Any:
        chart = self._node(kind, "vtkMRMLPlotChartNode")
        chart.SetName(title)
        chart.SetTitle(title)
        chart.SetXAxisTitle(_("iteration"))
        chart.SetYAxisTitle(y_axis)
        return chart

    def _node(self, role: str, class_name: str) -> Any:
        """The node with this role: found again after a module reload, else made."""
        for node in slicer.util.getNodesByClass(class_name, self._scene):
            if node.GetAttribute(_ROLE) == role:
                return node
        node = self._scene.AddNewNodeByClass(class_name, f"SemiSeg {role}")
        node.SetAttribute(_ROLE, role)
        node.SetSaveWithScene(False)
        return node
