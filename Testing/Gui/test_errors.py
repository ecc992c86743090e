"""Errors while timers run: Slicer's message box is modal, and timers go on behind it."""

import numpy as np
import pytest


@pytest.fixture
def boxes(opened, monkeypatch):
    """Message boxes as Slicer shows them: each lives for a while, and so do the timers."""
    import slicer

    shown = []

    def show(text, *_arguments, **_named):
        shown.append(text)
        loop, timer = opened.qt.QEventLoop(), opened.qt.QTimer()
        timer.setSingleShot(True)
        timer.setInterval(150)
        timer.connect("timeout()", loop.quit)
        timer.start()
        if len(shown) < 5:  # else this would go on for ever
            loop.exec()

    monkeypatch.setattr(slicer.util, "errorDisplay", show)
    monkeypatch.setattr(type(slicer.app), "testingEnabled", lambda self: False)
    return shown


def test_an_error_while_watching_a_training_is_told_once(opened, boxes, monkeypatch):
    training = opened.logic.training
    monkeypatch.setattr(training._poller, "_look", lambda: 1 / 0)
    training._poller._timer.setInterval(20)
    told = []
    training.failed.connect(told.append)
    training._poller.start()
    loop, timer = opened.qt.QEventLoop(), opened.qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(400)
    timer.connect("timeout()", loop.quit)
    timer.start()
    loop.exec()
    assert len(told) == 1
    assert len(boxes) <= 1
    assert "division by zero" in opened.ui.failureLabel.text
    assert not training._poller._timer.active


def test_an_error_of_one_prediction_does_not_keep_the_others_from_coming(opened, boxes, monkeypatch):
    """What follows an error in a step is still done: the state is shown, and the end is told."""
    predicting = opened.logic.predicting
    ended = []
    predicting.ended.connect(ended.append)

    class Ended:
        """A prediction whose last scan cannot be loaded."""

        active, failure, state, index, count, eta_seconds = False, None, "finished", 1, 1, None

        def poll(self):
            return ["nowhere"]

        def cancel(self):
            pass

    predicting.process = Ended()
    monkeypatch.setattr(predicting, "_load", lambda name: 1 / 0)
    predicting._poller.start()
    predicting.poll()
    assert len(ended) == 1
    assert len(boxes) <= 1
    assert not predicting._poller._timer.active


def test_no_picture_is_drawn_after_the_window_has_gone(opened, mrml, qt_modules):
    """The application destroys the tables; a timer that goes on then prints an error for each of them."""
    import slicer

    slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.int16), name="scan")
    opened.ui.addAllVolumesButton.click()
    opened.panel.review.begin()
    tables = opened.panel.data.rows, opened.panel.review.rows
    assert tables[0]._undrawn
    opened.widget.cleanup()
    drawn = []
    for rows in tables:
        rows._draw = drawn.append
    for _ in range(20):
        qt_modules.QApplication.processEvents()
    assert drawn == []


def name_twice(case):
    """A second segment of the same name, as copied in Slicer's module Segmentations."""
    import slicer

    segmentation = case.annotation.GetSegmentation()
    copy = slicer.vtkSegment()
    copy.DeepCopy(segmentation.GetNthSegment(0))
    segmentation.AddSegment(copy, "Segment_1")


def test_two_segments_for_one_label_are_told_and_stepping_goes_on(with_cases):
    with_cases.ui.casesTable.selectRow(0)
    case = with_cases.work.case
    name_twice(case)
    with_cases.ui.nextCaseButton.click()
    assert "atrium_002" in with_cases.ui.annotateLabel.text
    assert "atrium_002" in with_cases.ui.resultLabel.text
    assert with_cases.ui.casesTable.currentRow() == 1
    assert with_cases.ui.casesTable.item(0, 2).text() == "not clear"
    assert "two segments for 'left atrium'" in with_cases.ui.casesTable.item(0, 2).toolTip()
    case.partial = "axial"
    with_cases.ui.previousCaseButton.click()
    assert "two segments for 'left atrium'" in with_cases.ui.slicesLabel.text
    assert "atrium_001" in with_cases.ui.resultLabel.text


def test_a_scene_that_is_closed_while_scans_are_loaded_stays_empty(opened, scans, mrml, monkeypatch):
    """The window lives while they are: its menus, too."""
    import slicer

    looks = []

    def process_events(_application, *_flags):
        looks.append(len(opened.work.cases))
        if looks[-1] == 2:
            mrml.scene.Clear(0)

    monkeypatch.setattr(type(slicer.app), "processEvents", process_events)
    opened.panel.data.add_folder(scans)
    assert 2 in looks
    assert len(opened.work.cases) == 0
    assert opened.ui.dataCollapsibleButton.enabled


def test_nothing_else_is_begun_while_scans_are_prepared(opened):
    buttons = opened.ui.startSegmentButton, opened.ui.startTrainButton, opened.ui.trainButton
    with opened.panel.busy("Preparing the scans"):
        assert not any(button.isEnabledTo(opened.parent) for button in buttons)
    assert opened.ui.startTrainButton.isEnabledTo(opened.parent)
