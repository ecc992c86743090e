"""Errors while timers run: Slicer's message box is modal, and timers go on behind it."""

import json
import sys
import time

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
    from SemiSegModuleLib.logic import poller

    training = opened.logic.training
    monkeypatch.setattr(poller, "PATIENCE", 5)
    monkeypatch.setattr(training._poller, "_look", lambda: 1 / 0)
    training._poller._timer.setInterval(20)
    told = []
    training.failed.connect(told.append)
    training._poller.start()
    opened.wait_until(lambda: not training._poller.running, 60)  # it is given up after so many looks
    assert len(told) == 1
    assert len(boxes) <= 1
    assert "division by zero" in opened.ui.failureLabel.text


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
    monkeypatch.setattr(predicting, "_keep", lambda name: 1 / 0)
    predicting._poller.start()
    predicting.poll()
    assert len(ended) == 1
    assert len(boxes) <= 1
    assert not predicting._poller._timer.active


def run_instead(monkeypatch, folder, program):
    """Child processes run these lines of Python."""
    (folder / "child.py").write_text(program)
    script = folder / "python"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' -u '{folder / 'child.py'}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(script))


def predict_block(opened, case, folder):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    block = np.zeros((32, 32, 32), np.uint8)
    block[10:20, 8:22, 8:22] = 1
    volumes.write_image(volumes.world_image(case.volume, block), folder / "mask.nrrd")
    load_prediction(opened.work.cases, case, folder / "mask.nrrd")


def test_a_map_that_cannot_be_read_does_not_keep_the_other_scans_from_being_judged(with_cases, tmp_path, monkeypatch):
    opened, judging = with_cases, with_cases.logic.judging
    opened.work.use_model("left-atrium-lge")
    cases = opened.work.cases.cases[2:]
    for case in cases:
        predict_block(opened, case, tmp_path)

    def event(index, uncertainty):
        figures = {"expected_dsc": 0.9, "low": 0.8, "high": 0.95, "empty": False, "classes": {}}
        name = cases[index - 1].file_name
        return json.dumps({"event": "case", "name": name, "index": index, "count": 2, **figures, **uncertainty})

    gone = {"uncertainty": str(tmp_path / "gone.nrrd")}
    program = f"import time\nprint({event(1, gone)!r})\ntime.sleep(1.5)\nprint({event(2, {})!r})\n"
    run_instead(monkeypatch, tmp_path, program)
    opened.ui.judgeButton.click()
    opened.wait_until(lambda: judging.process.index == 1, 20)
    assert "gone.nrrd" in opened.ui.qualityLabel.text
    opened.wait_until(lambda: not judging.active, 20)
    assert judging.process.state == "finished"
    assert [case.quality is not None for case in cases] == [False, True]
    assert "gone.nrrd" in opened.ui.qualityLabel.text
    assert opened.ui.judgeButton.enabled


def test_memory_that_runs_out_for_one_mask_does_not_keep_the_others_from_coming(with_cases, tmp_path, monkeypatch):
    opened, predicting, tried = with_cases, with_cases.logic.predicting, []
    opened.work.use_model("left-atrium-lge")

    def load(name):
        tried.append(name)
        raise MemoryError

    monkeypatch.setattr(predicting, "_keep", load)
    events = [json.dumps({"event": "case", "name": name, "index": 1, "count": 2}) for name in ("one", "two")]
    run_instead(monkeypatch, tmp_path, f"import time\nprint({events[0]!r})\ntime.sleep(1.5)\nprint({events[1]!r})\n")
    opened.ui.predictAllButton.click()
    assert opened.widget.logic.wait(20)
    assert tried == ["one", "two"]
    assert opened.ui.predictionLabel.text.count("MemoryError") == 1
    assert opened.ui.predictAllButton.enabled


def test_nobody_waits_for_a_training_whose_scene_was_closed(with_cases, tmp_path, mrml, monkeypatch):
    """From another module: it goes on, and is looked at again when this one is opened."""
    run_instead(monkeypatch, tmp_path, "import time\ntime.sleep(60)")
    with_cases.ui.trainButton.click()
    with_cases.widget.exit()
    with_cases.parent.__dict__["isEntered"] = False
    mrml.scene.Clear(0)
    began = time.monotonic()
    assert not with_cases.widget.logic.wait(30)
    assert time.monotonic() - began < 10


def test_a_training_on_a_drive_that_was_away_for_a_moment_is_heard_of(with_cases, a_run, monkeypatch):
    training, opened = with_cases.logic.training, with_cases
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        training.attach(a_run.path)
        status = a_run.status_file.read_text()
        a_run.status_file.write_text("{")
        training.poll()
        assert "cannot be watched" in opened.ui.failureLabel.text
        a_run.status_file.write_text(status)
        a_run.set_status("stopped", iteration=3, iterations=4)
    opened.wait_until(lambda: not training.active, 20)
    assert opened.ui.stateLabel.text.startswith("Stopped")
    assert opened.ui.failureLabel.text == ""


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
