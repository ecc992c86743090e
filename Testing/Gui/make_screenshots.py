"""Pictures of the panel in each stage of a real piece of work: pytest Testing/Gui/make_screenshots.py

Needs what test_training_for_real.py needs; takes some minutes and writes Resources/Screenshots/panel-*.png.
"""

import shutil
import tempfile
from pathlib import Path

import pytest

PICTURES = Path(__file__).resolve().parent.parent.parent / "Resources" / "Screenshots"


@pytest.fixture
def study(opened, training_python_with_torch, tmp_path):
    """A synthetic study with settings for a short training."""
    from SemiSegLib.synthetic import make_dataset

    scans = make_dataset(tmp_path / "scans", cases=10, labelled=6, validation=0, size=(96, 96, 48))
    opened.panel.data.add_folder(scans)
    parameters = opened.parameters
    folder = Path(tempfile.gettempdir()) / "left-atrium-study"
    shutil.rmtree(folder, ignore_errors=True)
    parameters.studyFolder = folder
    parameters.exportFolder = folder / "exports"
    parameters.iterations = 200
    parameters.spacing = "4"
    parameters.patchSize = "32"
    parameters.validationCases = 3  # so many calibrate the model
    yield opened
    shutil.rmtree(folder)


def draw_chart(chart, path):
    """A MRML plot chart drawn by VTK's own chart, which Slicer's plot view also uses."""
    import vtk

    view = vtk.vtkContextView()
    view.GetRenderWindow().SetOffScreenRendering(1)
    view.GetRenderWindow().SetSize(760, 420)
    view.GetRenderer().SetBackground(1, 1, 1)
    drawn = vtk.vtkChartXY()
    drawn.SetShowLegend(True)
    drawn.SetTitle(chart.GetTitle())
    drawn.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart.GetXAxisTitle())
    drawn.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart.GetYAxisTitle())
    drawn.GetAxis(vtk.vtkAxis.BOTTOM).SetBehavior(vtk.vtkAxis.FIXED)
    drawn.GetAxis(vtk.vtkAxis.BOTTOM).SetRange(*chart.GetXAxisRange())
    for number in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(number)
        line = drawn.AddPlot(vtk.vtkChart.LINE)
        line.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        line.SetColorF(*series.GetColor())
        line.SetWidth(series.GetLineWidth())
        line.SetMarkerStyle(series.GetMarkerStyle())
        line.SetMarkerSize(series.GetMarkerSize())
    view.GetScene().AddItem(drawn)
    view.GetRenderWindow().Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.GetRenderWindow())
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(grab.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()


def refine(study):
    """A stroke on the prediction that is corrected, which the mask follows."""
    from SemiSegModuleLib.scene import segments, volumes

    case, labels = study.work.case, study.work.cases.labels
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    middle = mask.shape[0] // 2
    mask[middle, 40:44, 20:70] = 1 - mask[middle, 40:44, 20:70]
    segments.replace_voxels(case.annotation, mask, volumes.ijk_to_ras(case.volume), labels)
    case.seconds += 60  # as a person would have taken
    study.panel.loop.update()
    study.ui.refineButton.click()
    study.wait_until(lambda: not study.logic.refining.active, 300)


def shoot(opened, name):
    opened.picture(PICTURES / f"panel-{name}.png")


def test_pictures(study):
    from SemiSegModuleLib.scene.curves import MinutesCurve

    study.ui.casesTable.selectRow(1)
    study.ui.addRegionButton.click()
    study.unfold("annotate")
    shoot(study, "annotate")
    study.ui.suggestButton.click()
    study.wait_until(lambda: not study.logic.suggesting.active, 300)
    study.ui.annotateButton.click()
    study.choose(study.ui.partialComboBox, "only the axial slices with something drawn")
    study.ui.proposeSlicesButton.click()
    study.ui.emptySliceCheckBox.click()
    study.ui.nextSliceButton.click()
    shoot(study, "slices")
    study.panel.annotate.editor.segmentationNode().GetScene().RemoveNode(study.work.case.annotation)

    study.unfold("train")
    study.wait_until(lambda: study.logic.installation.report.done, 300)
    study.ui.trainButton.click()
    training = study.logic.training.process
    study.wait_until(lambda: training.status.iteration >= 120, 3000)
    study.ui.advancedCollapsibleButton.collapsed = False
    study.ui.logCollapsibleButton.collapsed = False
    shoot(study, "train")
    study.ui.advancedCollapsibleButton.collapsed = True
    study.ui.logCollapsibleButton.collapsed = True
    study.wait_until(lambda: not training.active, 3000)
    draw_chart(study.logic.training.curves.charts["dsc"], PICTURES / "curves-dsc.png")

    study.unfold("results")
    study.ui.predictAllButton.click()
    prediction = study.logic.predicting.process
    study.wait_until(lambda: not prediction.active, 1000)
    study.wait_until(lambda: not study.logic.judging.active, 1000)
    study.work.case = study.work.cases.by_file_name("scan_008")
    study.ui.showUncertaintyCheckBox.click()
    shoot(study, "results")
    study.ui.reviewButton.click()
    study.panel.review.rows.draw_pictures()
    study.ui.reviewAcceptButton.click()
    shoot(study, "review")
    study.ui.reviewCorrectButton.click()
    refine(study)
    shoot(study, "refine")
    study.unfold("train")
    study.ui.historyCollapsibleButton.collapsed = False
    study.ui.trainButton.click()
    study.wait_until(lambda: not study.logic.training.active, 3000)
    study.unfold("train")  # its end unfolds the results
    shoot(study, "rounds")
    curve = MinutesCurve()
    curve.fill((each.minutes, each.validation_dsc, each.expected_dsc) for each in study.logic.rounds.all())
    draw_chart(curve.chart, PICTURES / "curves-minutes.png")

    study.unfold("export")
    study.ui.exportVolumesButton.click()
    study.ui.exportButton.click()
    study.ui.checkMasksButton.click()
    shoot(study, "export")
    study.ui.casesTable.selectRow(5)
    study.unfold("data")
    study.panel.data.rows.draw_pictures()
    shoot(study, "data")
