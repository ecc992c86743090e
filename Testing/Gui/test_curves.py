"""Loss and DSC curves of a training, in Slicer's tables and charts."""

import pytest
from steps import curve


def test_curves_show_what_counts(opened, a_run):
    opened.logic.training.attach(a_run.path)
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)]
    consistency = curve(opened, "loss", "consistency")
    assert consistency[1] == (2.0, 0.5)
    assert consistency[0][1] != consistency[0][1]  # not a number: this term came later
    a_run.event("validation", iteration=4, dsc=0.6, per_class={"left atrium": 0.6}, cases={})
    opened.logic.training.poll()
    assert curve(opened, "dsc", "mean DSC") == [(2.0, 0.5), (4.0, 0.6)]


def test_an_empty_chart_says_why_it_is_empty(opened, a_run):
    opened.logic.training.attach(a_run.path)  # with one score so far
    charts = opened.logic.training.curves.charts
    assert "kept aside" in charts["dsc"].GetTitle()
    assert charts["loss"].GetTitle() == "SemiSeg: training loss"
    a_run.event("validation", iteration=4, dsc=0.6, per_class={"left atrium": 0.6}, cases={})
    opened.logic.training.poll()
    assert charts["dsc"].GetTitle() == "SemiSeg: validation DSC"


def test_a_curve_is_shown_from_its_second_point_on(opened, a_run):
    """Slicer's plot view prints an error at every render of a line of one point."""
    opened.logic.training.attach(a_run.path)
    chart = opened.logic.training.curves.charts["dsc"]
    assert chart.GetNumberOfPlotSeriesNodes() == 0
    a_run.event("validation", iteration=4, dsc=0.6, per_class={"left atrium": 0.6}, cases={})
    opened.logic.training.poll()
    assert chart.GetNumberOfPlotSeriesNodes() == 1


def test_the_legend_has_room_beside_the_curves(opened, a_run):
    """Slicer puts it into the upper right corner of the view."""
    opened.logic.training.attach(a_run.path)
    for chart in opened.logic.training.curves.charts.values():
        assert not chart.GetXAxisRangeAuto()
        assert chart.GetXAxisRange() == (0.0, pytest.approx(2 * 1.3))


def test_curves_are_not_doubled_by_entering_again(opened, a_run):
    opened.logic.training.attach(a_run.path)
    opened.widget.exit()
    opened.widget.enter()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)]


def test_curves_go_on_while_events_come(opened, a_run):
    opened.logic.training.attach(a_run.path)
    a_run.event("iteration", iteration=3, total=1.5, losses={"dice": 0.5, "consistency": 0.2})
    opened.logic.training.poll()
    assert curve(opened, "loss", "total")[-1] == (3.0, 1.5)
    a_run.event("resumed", iteration=2)
    a_run.event("iteration", iteration=3, total=1.4, losses={"dice": 0.4, "consistency": 0.2})
    opened.logic.training.poll()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.4)]


def test_plot_view_shows_the_chosen_curve(opened, a_run, mrml):
    view = mrml.scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    opened.logic.training.attach(a_run.path)
    opened.ui.showCurvesButton.click()
    assert view.GetPlotChartNodeID() == opened.logic.training.curves.charts["loss"].GetID()
    opened.ui.curveComboBox.setCurrentIndex(1)
    opened.ui.curveComboBox.activated.emit(1)
    assert view.GetPlotChartNodeID() == opened.logic.training.curves.charts["dsc"].GetID()


def test_curves_are_not_saved_but_drawn_again(opened, a_run, mrml, tmp_path):
    opened.logic.training.attach(a_run.path)
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)]
    assert mrml.scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 2


def test_curves_that_somebody_deleted_are_drawn_again(opened, a_run, mrml):
    import slicer

    opened.logic.training.attach(a_run.path)
    for kind in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):
        for node in slicer.util.getNodesByClass(kind):
            mrml.scene.RemoveNode(node)
        assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0)], kind
        assert opened.logic.training.curves.charts["loss"].GetScene() is not None
    a_run.event("iteration", iteration=3, total=1.5, losses={})
    opened.logic.training.poll()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.5)]
