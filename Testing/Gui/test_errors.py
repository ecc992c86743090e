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
