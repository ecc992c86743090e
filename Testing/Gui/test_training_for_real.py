"""The panel with real child processes that really train: started, stopped, resumed, finished, predicted, failing.

Where $SEMISEG_TEST_PYTHON (or this Python) has torch; each training takes seconds.
"""

import builtins
import os
import signal
import sys

import numpy as np
import pytest

SMALL = """\
training.labelled_batch=1
training.unlabelled_batch=1
training.log_every=1
training.threads=1
training.precision=fp32"""


@pytest.fixture
def barred(monkeypatch):
    """Which of these are imported into Slicer's process: none may be, they have crashed it."""
    original, asked_for = builtins.__import__, []

    def importing(name, *arguments, **named):
        if name.split(".")[0] in ("torch", "torchvision", "monai"):
            asked_for.append(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    return asked_for


@pytest.fixture
def ready(barred, with_cases, training_python_with_torch):
    """Everything set for a training of a few seconds."""
    parameters = with_cases.parameters
    parameters.method = with_cases.module.Method.MEAN_TEACHER  # the fastest with unlabelled scans
    parameters.iterations = 4
    parameters.spacing = "4"
    parameters.patchSize = "32"
    parameters.extraSettings = SMALL
    parameters.device = with_cases.module.Device.CPU
    return with_cases


def wait_for_the_end(opened):
    opened.wait_until(lambda: not opened.logic.training.process.active, 600)


def wait_for_iteration(opened, number):
    training = opened.logic.training.process
    opened.wait_until(lambda: training.status.iteration >= number or not training.active, 600)
    assert training.active, training.log.tail()


def wrap_python(opened, monkeypatch, folder, first):
    """Child processes run these lines of shell first."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\n{first}\nexec "{os.environ["SEMISEG_PYTHON"]}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(script))


def annotate(opened, row):
    """Draw into the annotation that the editor shows; returns the whole mask, (k, j, i).

    Nearly everything is drawn: so much is learnt in a few iterations, and then something is predicted.
    """
    from SemiSegModuleLib.scene import segments, volumes

    opened.ui.casesTable.selectRow(row)
    opened.ui.doneCheckBox.click()  # no longer done
    opened.ui.annotateButton.click()
    node, case, labels = opened.panel.annotate.editor.segmentationNode(), opened.work.case, opened.work.cases.labels
    mask = segments.voxels_on_grid(node, case.volume, labels)
    mask[2:31, 1:30, 3:32] = 1
    segments.set_voxels(node, mask, volumes.ijk_to_ras(case.volume), labels)
    opened.ui.doneCheckBox.click()
    assert case.state.value == "annotated"
    return mask


def overlay_in_the_view(opened, mrml, case, path):
    """Share of the pixels of Slicer's own slice view that the distance map colours; the picture goes to `path`."""
    from offscreen_views import SliceView

    view = SliceView(mrml, "Red", "Axial", size=(240, 240))
    opened.work.case = case
    view.fit()
    plain = view.array().astype(int)
    opened.ui.showSdmCheckBox.click()
    view.save(path)
    return (abs(view.array() - plain).max(axis=2) > 20).mean()


def test_the_whole_workflow(ready, mrml, barred, tmp_path, monkeypatch):
    """Annotate, train with SimCVD, predict, look, accept, train on from the last model, export, load the model.

    One scan is limited to a box: it is learnt from and predicted there, and its mask is exported on the whole scan.
    """
    import SimpleITK as sitk
    from drawing import corner_points, same_points, world_points
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import segments

    from SemiSegLib.data.segnrrd import read_segments

    drawn = [annotate(ready, row) for row in (0, 1)]
    ready.ui.casesTable.selectRow(2)
    ready.ui.addRegionButton.click()
    limited = ready.work.case
    limited.region.SetSize(*(24 * part for part in limited.volume.GetSpacing()))
    ready.parameters.method = ready.module.Method.SIMCVD
    ready.parameters.iterations = 8
    ready.ui.trainButton.click()
    assert ready.ui.stateLabel.text.startswith("Starting")
    assert not ready.ui.trainButton.enabled
    assert ready.ui.stopButton.enabled
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith("Finished, iteration 8 of 8")
    assert ready.ui.trainingProgressBar.value == ready.ui.trainingProgressBar.maximum == 8
    assert ready.logic.training.curves.last("loss") > 0
    assert "left atrium; simcvd, 8 iterations" in ready.ui.modelLabel.text
    assert "iteration 8/8" in ready.ui.logTextEdit.toPlainText()

    ready.ui.predictAllButton.click()
    assert ready.ui.cancelPredictionButton.enabled
    prediction = ready.logic.predicting.process
    ready.wait_until(lambda: not prediction.active, 600)
    assert ready.ui.predictionLabel.text == "Predicted 2 of 2 scans"
    predicted = [case for case in ready.work.cases if case.prediction is not None]
    assert [case.name for case in predicted] == ["atrium_003", "atrium_004"]
    assert all(case.sdms and case.probabilities for case in predicted)
    scans = ready.logic.training.process.run.path / "data" / "images"
    sizes = {name: sitk.ReadImage(str(scans / f"{name}.nrrd")).GetSize()[0] for name in ("scan_003", "scan_004")}
    assert sizes == {"scan_003": 24, "scan_004": 32}
    assert [box.size for box in limited.predicted_parts] == [(24, 24, 24)]
    assert limited.sdms[1].GetImageData().GetDimensions() == (24, 24, 24)

    assert overlay_in_the_view(ready, mrml, predicted[1], tmp_path / "view.png") > 0.1

    ready.work.case = predicted[0]
    ready.ui.acceptButton.click()
    assert "3 annotated and 1 unlabeled scans. Starts from the model in use." in ready.ui.readyLabel.text
    first_run = ready.logic.training.process.run.path
    first_model = ready.work.model
    ready.parameters.iterations = 4
    ready.ui.trainButton.click()
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith("Finished")
    assert ready.logic.training.process.run.path != first_run
    assert ready.work.model != first_model

    ready.ui.exportButton.click()
    assert ready.ui.exportLabel.text.startswith("4 files written to")
    masks = {path.name: sitk.ReadImage(str(path)).GetSize() for path in (tmp_path / "exports").glob("*.nrrd")}
    assert masks == {f"atrium_00{number}.seg.nrrd": (32, 32, 32) for number in (1, 2, 3, 4)}
    for number, mask in ((1, drawn[0]), (2, drawn[1]), (4, None)):
        case, file = ready.work.cases.cases[number - 1], tmp_path / "exports" / f"atrium_00{number}.seg.nrrd"
        if mask is None:
            mask = segments.voxels_on_grid(case.prediction, case.volume, ready.work.cases.labels)
        assert same_points(world_points(file, 1), corner_points(case.volume, np.argwhere(mask)))
        assert [segment.label.name for segment in read_segments(file)] == ["left atrium"]
    shared = tmp_path / "shared.safetensors"
    monkeypatch.setattr(dialogs, "choose_model_to_write", lambda start: shared)
    ready.ui.exportModelButton.click()
    assert shared.read_bytes() == ready.work.model.read_bytes()
    monkeypatch.setattr(dialogs, "choose_model", lambda: shared)
    ready.ui.loadModelButton.click()
    assert ready.work.model == shared
    assert barred == []


def test_validation_scans_give_a_dsc_curve(ready):
    ready.parameters.validationCases = 1
    ready.ui.trainButton.click()
    wait_for_the_end(ready)
    assert "best validation DSC" in ready.ui.stateLabel.text
    assert 0 <= ready.logic.training.curves.last("dsc") <= 1
    assert ready.work.model.name == "last.safetensors"


def test_stopped_and_resumed(ready):
    ready.parameters.iterations = 40
    ready.ui.trainButton.click()
    wait_for_iteration(ready, 1)
    assert "left" in ready.ui.stateLabel.text
    ready.ui.stopButton.click()
    assert ready.ui.stateLabel.text.startswith("Stopping")
    assert not ready.ui.stopButton.enabled
    wait_for_the_end(ready)
    training = ready.logic.training.process
    assert training.state == "stopped"
    assert training.run.checkpoint.exists()
    stopped_at = training.status.iteration
    assert 1 <= stopped_at < 40
    assert ready.ui.resumeButton.enabled
    ready.ui.resumeButton.click()
    wait_for_iteration(ready, stopped_at + 1)
    ready.ui.stopButton.click()
    wait_for_the_end(ready)
    assert any(event["event"] == "resumed" for event in training.run.events())


def test_stopped_while_it_starts_and_resumed(ready, monkeypatch, tmp_path):
    """The folder of the run is not made yet, and holds the request already."""
    wrap_python(ready, monkeypatch, tmp_path, "sleep 1")
    ready.ui.trainButton.click()
    training = ready.logic.training.process
    for click in (lambda: None, ready.ui.resumeButton.click):
        click()
        assert ready.ui.stateLabel.text == "Starting"
        ready.ui.stopButton.click()
        wait_for_the_end(ready)
        assert training.state == "stopped", training.log.tail()
        assert ready.ui.stateLabel.text.startswith("Stopped; it can be resumed")
        assert ready.ui.failureLabel.text == ""
    ready.ui.resumeButton.click()
    wait_for_the_end(ready)
    assert training.state == "finished", training.log.tail()


def test_stop_does_not_turn_into_something_worse_under_the_cursor(ready, monkeypatch):
    """A second press does nothing; ending at once is another button, elsewhere, and it asks."""
    from SemiSegModuleLib.panels import dialogs

    asked = []
    monkeypatch.setattr(dialogs, "confirm", lambda text: asked.append(text) or len(asked) > 1)
    ready.parameters.iterations = 1000
    ready.unfold("train")
    ready.ui.trainButton.click()
    wait_for_iteration(ready, 1)
    section = ready.ui.trainCollapsibleButton
    assert not ready.ui.endNowButton.isVisibleTo(section)
    ready.logic.training.process._grace = 600
    ready.ui.stopButton.click()
    ready.ui.stopButton.click()
    assert ready.ui.endNowButton.isVisibleTo(section)
    ready.parent.resize(360, 900)
    ready.parent.show()
    ready.qt.QApplication.processEvents()
    assert not ready.ui.stopButton.geometry.intersects(ready.ui.endNowButton.geometry)
    ready.ui.endNowButton.click()
    assert "is lost" in asked[0]
    assert ready.logic.training.active
    ready.ui.endNowButton.click()
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith(("Interrupted", "Stopped"))
    assert not ready.logic.training.process.run.is_locked()


def test_killed_from_outside_and_resumed(ready):
    ready.parameters.iterations = 8
    ready.ui.trainButton.click()
    wait_for_iteration(ready, 2)
    os.kill(ready.logic.training.process.status.pid, signal.SIGKILL)
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith("Failed")
    assert "ended from outside" in ready.ui.failureLabel.text
    ready.ui.resumeButton.click()
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith("Finished")
    assert ready.ui.failureLabel.text == ""


def test_a_damaged_file_is_named(ready, monkeypatch, tmp_path):
    damage = f'for scan in "{tmp_path}"/study/training-*/data/images/scan_003.nrrd; do echo rubbish > "$scan"; done'
    wrap_python(ready, monkeypatch, tmp_path, damage)
    ready.ui.trainButton.click()
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith("Failed")
    assert ready.ui.failureLabel.text.startswith("'atrium_003': cannot be read")
    assert ready.ui.failureLabel.text.endswith(". Leave that scan out (section 1) to train without it.")
    ready.ui.copyLogButton.click()
    assert "scan_003.nrrd" in ready.qt.QApplication.clipboard().text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by ulimit")
def test_lack_of_memory_is_told(ready, monkeypatch, tmp_path):
    wrap_python(ready, monkeypatch, tmp_path, "ulimit -v 3000000")
    ready.parameters.patchSize = "160"
    ready.parameters.spacing = "0.7"
    ready.ui.trainButton.click()
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith("Failed")
    assert ready.logic.training.process.failure.kind == "memory", ready.logic.training.process.log.tail()
    assert "smaller patch size" in ready.ui.failureLabel.text


def test_a_running_training_is_found_after_a_restart(ready, mrml, tmp_path):
    """The scene is saved and opened again, and the panel made anew; the training goes on meanwhile."""
    ready.parameters.iterations = 1000
    ready.ui.trainButton.click()
    wait_for_iteration(ready, 1)
    folder = ready.logic.training.process.run.path
    mrml.save(tmp_path / "work.mrb")
    ready.close()
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "work.mrb")
    ready.__init__(ready.qt, ready.module)
    assert ready.logic.training.process.run.path == folder
    assert ready.ui.stateLabel.text.startswith("Training, iteration")
    assert ready.ui.stopButton.enabled
    assert ready.logic.training.curves.last("loss") > 0
    ready.ui.stopButton.click()
    wait_for_the_end(ready)
    assert ready.ui.stateLabel.text.startswith("Stopped")
    assert ready.work.model == folder / "models" / "last.safetensors"


def test_a_prediction_is_cancelled_and_what_is_done_is_kept(ready, tmp_path, monkeypatch):
    ready.ui.trainButton.click()
    wait_for_the_end(ready)
    wrap_python(ready, monkeypatch, tmp_path, "sleep 60")
    ready.ui.predictAllButton.click()
    ready.ui.cancelPredictionButton.click()
    assert ready.ui.predictionLabel.text == "Cancelled after 0 of 2 scans"
    assert ready.ui.predictAllButton.enabled


def test_window_stays_alive_while_training(ready):
    """Other timers of the window go on in every state of the training: nothing waits for the child."""
    seen = set()
    timer = ready.qt.QTimer()
    timer.setInterval(5)
    timer.connect("timeout()", lambda: seen.add(ready.logic.training.process.state))
    timer.start()
    ready.ui.trainButton.click()
    wait_for_the_end(ready)
    timer.stop()
    assert {"starting", "training"} <= seen


def test_device_is_found_when_the_section_is_opened(ready):
    ready.unfold("train")
    assert ready.ui.deviceLabel.text == "looking …"
    ready.wait_until(lambda: ready.logic.installation.report.done)
    assert "CPU: as asked for (PyTorch" in ready.ui.deviceLabel.text


def test_a_scan_that_cannot_be_used_is_called_as_the_table_calls_it(ready):
    """Copies of scans have numbers for names, which say nothing to anybody."""
    import slicer

    flat = slicer.util.addVolumeFromArray(np.full((32, 32, 32), 7, np.int16), name="flat/CT")
    ready.work.cases.add_volume(flat)
    ready.ui.trainButton.click()
    wait_for_the_end(ready)
    assert ready.ui.failureLabel.text.startswith("'flat/CT': all voxels have the same intensity")
    ready.parameters.hideNames = True
    ready.panel.train.update()
    assert ready.ui.failureLabel.text.startswith("'Scan 5': all voxels")
    ready.logic.study.use_model("left-atrium-lge")
    ready.logic.predicting.start([ready.work.cases.case_of(flat)])
    ready.wait_until(lambda: not ready.logic.predicting.active)
    assert "'Scan 5': all voxels" in ready.ui.predictionLabel.text


def test_a_study_folder_that_goes_while_scans_are_predicted_is_named(ready):
    """A drive was unplugged; the log that would have said why is gone with it."""
    import shutil

    ready.logic.study.use_model("left-atrium-lge")
    ready.ui.predictAllButton.click()
    folder = ready.logic.predicting.process.output
    shutil.rmtree(ready.work.folder)
    ready.wait_until(lambda: not ready.logic.predicting.active)
    assert ready.ui.predictionLabel.text.startswith(f"What was in the folder {folder} is not there any more.")
    ready.ui.predictAllButton.click()
    ready.wait_until(lambda: not ready.logic.predicting.active)
    assert ready.states() == ["annotated", "annotated", "predicted", "predicted"]
