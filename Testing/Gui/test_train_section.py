"""The section Train: settings, trainings that are opened, models; on the real scene, without child processes."""

import pytest
from steps import curve, give_model

from SemiSegLib.config import DEFAULT_METHOD


def test_holding_out_too_many_scans_is_told(with_cases):
    with_cases.ui.validationSpinBox.value = 2
    assert "cannot be kept aside" in with_cases.ui.readyLabel.text
    assert not with_cases.ui.trainButton.enabled
    with_cases.ui.validationSpinBox.value = 1
    assert "Kept aside to measure with: 1." in with_cases.ui.readyLabel.text
    assert with_cases.ui.trainButton.enabled


def test_scans_kept_aside_that_the_model_has_learnt_from_are_told(with_cases):
    """Their DSC would be too good."""
    from SemiSegLib.runs import RunFolder, write_json

    run = RunFolder.create(with_cases.work.folder / "training-1")
    write_json(run.cases_file, {"labelled": [{"name": "scan_001"}, {"name": "scan_002"}]})
    give_model(run, "left atrium")
    with_cases.parameters.modelFile = str(run.last_model)
    with_cases.parameters.validationCases = 1
    assert "That has learnt from 1 of those kept aside" in with_cases.ui.readyLabel.text
    with_cases.ui.continueCheckBox.click()
    assert "learnt from 1 of those" not in with_cases.ui.readyLabel.text
    write_json(run.cases_file, {"labelled": [{"name": "scan_001"}]})
    with_cases.ui.continueCheckBox.click()
    assert with_cases.ui.readyLabel.text.endswith("Starts from the model in use.")


def test_a_study_whose_folder_is_not_here_says_so(with_cases, a_run, mrml, tmp_path):
    """On another computer: that there is no model would be taken for lost work."""
    opened = with_cases
    opened.work.claim_folder()
    run = a_run.path.rename(opened.work.folder / "training-1")
    opened.logic.training.attach(run)
    give_model(opened.logic.training.process.run, "left atrium")
    opened.parameters.modelFile = str(run / "models" / "last.safetensors")
    mrml.save(tmp_path / "study.mrb")
    mrml.scene.Clear(0)
    moved = (tmp_path / "study").rename(tmp_path / "moved")
    mrml.load(tmp_path / "study.mrb")
    for label in (opened.ui.modelLabel, opened.ui.stateLabel):
        assert "is not here: choose the folder of this study in section 1" in label.text
    opened.parameters.studyFolder = moved
    assert opened.logic.training.process.run.path == moved / "training-1"
    assert opened.ui.modelLabel.text.startswith("left atrium; ")


def test_accepted_predictions_are_kept_aside_last(with_prediction):
    """The library does so; what the panel says is what happens."""
    with_prediction.ui.acceptButton.click()
    with_prediction.parameters.validationCases = 2
    names = [case.name for case in with_prediction.logic.training.kept_aside()]
    assert names == ["atrium_001", "atrium_002"]


def test_wrong_settings_start_nothing(with_cases):
    with_cases.parameters.extraSettings = "training.iteration=3"
    with pytest.raises(ValueError, match="Did you mean"):
        with_cases.panel.train.train()
    assert not (with_cases.work.folder).exists()
    assert with_cases.ui.stateLabel.text == "No training yet"


def test_missing_packages_are_asked_for_before_training(with_cases, answers, monkeypatch):
    from SemiSegModuleLib.processes import dependencies

    monkeypatch.delenv("SEMISEG_PYTHON")
    monkeypatch.setattr(dependencies, "missing", lambda: ["no_such_package>=1"])
    answers.yes = False
    with pytest.raises(dependencies.DependencyError, match="no_such_package"):
        with_cases.panel.train.train()
    assert "no_such_package>=1" in answers.asked[0]
    assert with_cases.logic.training.process is None


@pytest.mark.parametrize("work", ["train", "predictAll", "judge", "suggest", "refine"])
def test_work_that_does_not_start_leaves_no_copies_of_scans(with_prediction, monkeypatch, tmp_path, work):
    """Cancelled while they are written, or without an interpreter to work with them."""
    opened, written = with_prediction, []
    button = getattr(opened.ui, f"{work}Button")
    opened.parameters.modelFile = "left-atrium-lge"
    opened.select(2 if work == "judge" else 0)
    assert button.enabled
    original = opened.panel.busy._progress

    def cancel_after_the_first(done, count, name):
        if count and done == count:
            written.extend(file for file in opened.work.folder.rglob("images/*") if file.is_file())
            opened.ui.busyCancelButton.click()
        original(done, count, name)

    def folders():
        kinds = ("training-*", "predictions/*", "suggestions/*", "refinements/*")
        return [path for kind in kinds for path in opened.work.folder.glob(kind)]

    monkeypatch.setattr(opened.panel.busy, "_progress", cancel_after_the_first)
    button.click()
    assert written
    assert folders() == []
    monkeypatch.setattr(opened.panel.busy, "_progress", original)
    monkeypatch.setenv("SEMISEG_PYTHON", str(tmp_path / "nowhere"))
    panel = opened.panel
    clicked = {
        "train": panel.train.train,
        "predictAll": panel.results.predict_all,
        "judge": panel.results.judge,
        "suggest": panel.loop.suggest,
        "refine": panel.loop.refine,
    }
    with pytest.raises(OSError, match="nowhere"):
        clicked[work]()
    assert folders() == []
    assert not opened.logic.active


def test_wheels_folder_is_remembered_on_this_computer(opened, tmp_path):
    from SemiSegModuleLib.logic.study import setting

    opened.ui.wheelsPathLineEdit.currentPath = str(tmp_path)
    assert setting("WheelsFolder") == str(tmp_path)


def test_a_training_is_opened_by_its_folder(opened, a_run, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    monkeypatch.setattr(dialogs, "choose_folder", lambda title, start=None: a_run.path)
    opened.ui.openRunButton.click()
    text = "Stopped; it can be resumed, iteration 2 of 4, best validation DSC 0.500"
    assert opened.ui.stateLabel.text == text
    assert opened.ui.resumeButton.enabled
    assert opened.ui.showCurvesButton.enabled
    assert not opened.ui.stopButton.enabled


@pytest.mark.parametrize(("label", "used"), [("left atrium", True), ("pancreas", False)])
def test_the_model_of_a_training_is_used_where_it_fits(with_cases, a_run, label, used):
    give_model(a_run, label)
    with_cases.logic.training.attach(a_run.path)
    assert with_cases.work.model == (a_run.last_model if used else None)
    with_cases.parameters.modelFile = str(a_run.last_model)
    assert ("Starts from the model in use" in with_cases.ui.readyLabel.text) == used
    why = "not used: it segments pancreas; this study wants left atrium"
    assert (why in with_cases.ui.failureLabel.text) != used
    with_cases.ui.continueCheckBox.checked = False
    assert "Starts from" not in with_cases.ui.readyLabel.text


def test_the_model_of_a_training_is_used_though_a_label_was_renamed_meanwhile(with_cases, mrml, tmp_path):
    """Also in the next session, and the next training goes on from it."""
    from SemiSegLib.runs import RunFolder

    opened, run = with_cases, RunFolder.create(with_cases.work.claim_folder() / "training-1")
    with run.lock():
        run.set_status("training", iteration=1, iterations=2)
        opened.logic.training.attach(run.path)
        opened.work.cases.rename_label(1, "LA")
        mrml.save(tmp_path / "work.mrb")
        mrml.scene.Clear(0)
        give_model(run, "left atrium")
        run.set_status("finished", iteration=2, iterations=2)
    mrml.load(tmp_path / "work.mrb")
    assert opened.work.model == run.last_model
    assert "Starts from the model in use" in opened.ui.readyLabel.text
    assert "segments" not in opened.ui.fitLabel.text
    assert opened.ui.failureLabel.text == ""


def test_the_model_that_somebody_chose_after_a_training_is_in_use_when_the_scene_is_opened_again(
    with_cases, a_run, mrml, tmp_path
):
    import shutil

    give_model(a_run, "left atrium")
    with_cases.logic.training.attach(a_run.path)
    chosen = tmp_path / "chosen.safetensors"
    shutil.copyfile(a_run.last_model, chosen)
    with_cases.work.use_model(chosen)
    mrml.save(tmp_path / "work.mrb")
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "work.mrb")
    assert with_cases.logic.training.process.run.path == a_run.path
    assert with_cases.work.model == chosen


def test_the_model_of_a_training_that_ended_meanwhile_is_used(with_cases, a_run, mrml, tmp_path):
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        with_cases.logic.training.attach(a_run.path)
        mrml.save(tmp_path / "work.mrb")
        mrml.scene.Clear(0)
        give_model(a_run, "left atrium")
        a_run.set_status("finished", iteration=4, iterations=4)
    mrml.load(tmp_path / "work.mrb")
    assert with_cases.work.model == a_run.last_model


def test_a_training_that_goes_on_shows_what_its_model_has_become(with_cases, a_run):
    """The file of the model keeps its name when the training is resumed."""
    give_model(a_run, "left atrium", iteration=2)
    with_cases.logic.training.attach(a_run.path)
    assert "2 iterations" in with_cases.ui.modelLabel.text
    with a_run.lock():
        a_run.set_status("training", iteration=3, iterations=4)
        with_cases.logic.training.poll()
        give_model(a_run, "left atrium", iteration=4)
        a_run.set_status("finished", iteration=4, iterations=4)
    with_cases.logic.training.poll()
    assert with_cases.logic.training.process.state == "finished"
    assert "4 iterations" in with_cases.ui.modelLabel.text


def test_what_comes_next_is_said_of_one_scan_as_of_several(with_prediction):
    assert with_prediction.ui.guideLabel.text.startswith("1 mask waits: ")


def test_five_minutes_are_offered_where_a_model_is_gone_on_from(with_cases, a_run):
    ui = with_cases.ui
    with_cases.choose(ui.timeComboBox, "about 5 minutes, after corrections")
    assert "choose a longer time" in ui.readyLabel.text
    assert not ui.trainButton.enabled
    give_model(a_run, "left atrium")
    with_cases.logic.training.attach(a_run.path)
    assert "Starts from the model in use" in ui.readyLabel.text
    assert ui.trainButton.enabled
    ui.continueCheckBox.checked = False
    assert not ui.trainButton.enabled
    with_cases.choose(ui.timeComboBox, "about 15 minutes, for a first look")
    assert ui.trainButton.enabled


def test_a_loaded_model_brings_its_labels(opened, a_run, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    give_model(a_run, "pancreas")
    monkeypatch.setattr(dialogs, "choose_model", lambda: a_run.last_model)
    opened.ui.loadModelButton.click()
    assert opened.ui.modelLabel.text.startswith(f"pancreas; {DEFAULT_METHOD}, 2 iterations")
    assert [label.name for label in opened.work.cases.labels] == ["pancreas"]


def test_a_loaded_model_brings_its_task(opened, scans):
    """Else its masks, corrected, would be learnt from through the window of gray values of another task."""
    from SemiSegModuleLib.logic.run_settings import complete_settings, run_settings

    opened.choose_task("pancreas")
    opened.logic.add_cases(sorted((scans / "images").iterdir())[:2])
    opened.panel.results._use_model("left-atrium-lge")
    assert opened.ui.taskComboBox.currentText.startswith("Left atrium")
    settings = complete_settings(run_settings(opened.parameters, opened.work.cases.labels))
    assert (settings.preset, settings.data.window) == ("left-atrium", None)
    assert [label.name for label in opened.work.cases.labels] == ["left atrium"]


@pytest.mark.parametrize("annotated", [True, False])
def test_a_model_of_these_labels_or_beside_annotations_changes_no_task(opened, a_run, scans, annotated):
    """A training of a task without a preset of its own segments the same."""
    give_model(a_run, "left auricle" if annotated else "left atrium")  # 'custom'
    opened.logic.add_cases(scans if annotated else sorted((scans / "images").iterdir())[2:])
    opened.work.use_model(a_run.last_model)
    assert opened.parameters.task.value == "left-atrium"
    assert ("this study wants left atrium" in opened.ui.fitLabel.text) == annotated


def test_a_model_that_comes_with_semiseg_is_chosen_by_name(with_cases, a_run, tmp_path, monkeypatch):
    """The scene keeps the name: in another Slicer the file lies elsewhere."""
    give_model(a_run, "left atrium")
    monkeypatch.setenv("SEMISEG_MODELS", str(a_run.last_model.parent))
    with_cases.close()
    with_cases.__init__(with_cases.qt, with_cases.module)
    assert with_cases.work.model is None
    actions = {action.text: action for action in with_cases.ui.namedModelButton.menu().actions()}
    actions["last"].trigger()
    assert with_cases.parameters.modelFile == "last"
    assert with_cases.work.model == a_run.last_model
    assert with_cases.ui.modelLabel.text.startswith(f"left atrium; {DEFAULT_METHOD}, 2 iterations")
    assert "Starts from the model in use" in with_cases.ui.readyLabel.text
    elsewhere = a_run.last_model.parent.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("SEMISEG_MODELS", str(elsewhere))
    assert with_cases.work.model == elsewhere / "last.safetensors"


@pytest.mark.parametrize("button", ["resumeButton", "checkInstallationButton"])
def test_nothing_can_be_pressed_while_packages_are_installed(opened, a_run, answers, monkeypatch, button):
    """The window lives meanwhile: a second click would start a second installation."""
    from SemiSegModuleLib.processes import dependencies

    ui, done, enabled = opened.ui, [], []
    sections = ui.dataCollapsibleButton, ui.trainCollapsibleButton, ui.resultsCollapsibleButton

    def pip(arguments):
        enabled.extend(section.enabled for section in sections)
        assert ui.busyWidget.isVisibleTo(opened.parent)
        if cancelled:
            ui.busyCancelButton.click()

    monkeypatch.delenv("SEMISEG_PYTHON")
    monkeypatch.setattr(dependencies, "missing", lambda: ["some-package>=1"])
    monkeypatch.setattr(dependencies, "is_installed", lambda requirement: True)
    monkeypatch.setattr(dependencies, "pip_in_child", pip)
    opened.logic.training.attach(a_run.path)
    monkeypatch.setattr(opened.logic.training, "resume", lambda: done.append("resumed"))
    monkeypatch.setattr(opened.logic.installation, "look_for_device", lambda device: done.append("looked"))
    for cancelled in (True, False):
        getattr(ui, button).click()
        assert enabled == [False] * 3
        assert len(done) == (not cancelled)
        assert all(section.enabled for section in sections)
        enabled.clear()


def test_memory_of_the_graphics_card_is_told_while_it_is_used(opened, a_run):
    """The trainer's own status file; a trainer holds the lock."""
    with a_run.lock():
        memory = {"device_memory": int(5.1 * 2**30), "device_memory_total": 8 * 2**30}
        a_run.set_status("training", iteration=2, iterations=4, eta_seconds=3.0, **memory)
        opened.logic.training.attach(a_run.path)
        assert ", GPU memory 5.1 of 8.0 GB" in opened.ui.stateLabel.text
        a_run.set_status("training", iteration=3, iterations=4)  # on the CPU
        opened.logic.training.poll()
        assert "GPU" not in opened.ui.stateLabel.text
        a_run.set_status("stopped", iteration=4, iterations=4, **memory)
    opened.logic.training.poll()
    assert "GPU" not in opened.ui.stateLabel.text


def test_the_training_of_a_saved_study_is_found(opened, a_run, mrml, tmp_path):
    opened.logic.training.attach(a_run.path)
    mrml.save(tmp_path / "work.mrb")
    opened.close()
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "work.mrb")
    opened.__init__(opened.qt, opened.module)
    assert opened.ui.stateLabel.text.startswith("Stopped; it can be resumed")


@pytest.mark.parametrize("separator", ["/", "\\"], ids=["of this system", "of Windows"])
def test_a_study_that_was_moved_with_its_folder_has_its_training_and_its_model(with_cases, mrml, tmp_path, separator):
    from SemiSegLib.runs import RunFolder

    opened, run = with_cases, RunFolder.create(with_cases.work.claim_folder() / "training-1")
    give_model(run, "left atrium")
    run.cases_file.write_text("{}")
    run.set_status("stopped", iteration=2, iterations=4)
    opened.logic.training.attach(run.path)
    assert opened.work.model == run.last_model
    if separator != "/":
        opened.parameters.modelFile = r"C:\study\training-1\models\last.safetensors"
        opened.work.cases.run_folder = r"C:\study\training-1"
    mrml.save(tmp_path / "study" / "work.mrb")
    mrml.scene.Clear(0)
    moved = (tmp_path / "study").rename(tmp_path / "moved")
    mrml.load(moved / "work.mrb")
    assert opened.work.model is None
    assert opened.logic.training.process is None
    opened.ui.studyFolderPathLineEdit.currentPath = str(moved)
    assert opened.work.model == moved / "training-1" / "models" / "last.safetensors"
    assert opened.ui.modelLabel.text.startswith("left atrium;")
    assert "Starts from the model in use" in opened.ui.readyLabel.text
    assert opened.logic.training.process.run.path == moved / "training-1"
    assert opened.ui.stateLabel.text.startswith("Stopped; it can be resumed")
    assert opened.ui.resumeButton.enabled


def test_a_new_study_takes_nothing_over_from_another_one(with_cases, a_run, mrml, scans):
    """Neither its training nor its model, though both are of this computer and the labels are the same."""
    give_model(a_run, "left atrium")
    with_cases.logic.training.attach(a_run.path)
    assert "Starts from the model in use" in with_cases.ui.readyLabel.text
    with_cases.close()
    mrml.scene.Clear(0)
    with_cases.__init__(with_cases.qt, with_cases.module)
    with_cases.panel.data.add_folder(scans)
    assert with_cases.ui.stateLabel.text == "No training yet"
    assert with_cases.work.model is None
    assert "Starts from" not in with_cases.ui.readyLabel.text


def test_a_training_of_another_study_that_runs_is_named(opened, a_run, mrml):
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        opened.logic.training.attach(a_run.path)
        opened.close()
        mrml.scene.Clear(0)
        opened.__init__(opened.qt, opened.module)
        assert opened.logic.training.process is None
        assert str(a_run.path) in opened.ui.stateLabel.text
        assert not opened.ui.stopButton.enabled


def test_the_page_of_a_training_is_opened(opened, a_run, monkeypatch):
    opened.logic.training.attach(a_run.path)
    assert not opened.ui.reportButton.enabled
    a_run.report.mkdir()
    (a_run.report / "index.html").write_text("<html></html>")
    opened.logic.training.poll()
    shown = []
    monkeypatch.setattr(opened.qt.QDesktopServices, "openUrl", lambda url: shown.append(url.toLocalFile()))
    opened.ui.reportButton.click()
    assert shown == [str(a_run.report / "index.html")]


def test_no_other_training_is_opened_while_one_runs(opened, a_run, tmp_path):
    """Nobody would watch the one that runs, and Train would start a second one beside it."""
    from SemiSegLib.runs import RunFolder

    other = RunFolder.create(tmp_path / "other")
    other.set_status("stopped", iteration=2, iterations=4)
    opened.logic.training.attach(a_run.path)
    opened.logic.training.process.state = "training"
    with pytest.raises(ValueError, match="A training runs"):
        opened.logic.training.attach(other.path)
    assert opened.logic.training.process.run.path == a_run.path
    assert opened.work.cases.run_folder == a_run.path


def test_a_folder_that_is_no_training_is_told(opened, tmp_path, monkeypatch):
    from SemiSegModuleLib.panels import dialogs

    monkeypatch.setattr(dialogs, "choose_folder", lambda title, start=None: tmp_path)
    with pytest.raises(ValueError, match="is not a run folder"):
        opened.panel.train.open_run()


@pytest.mark.parametrize(("state", "iteration"), [("reporting", 4), ("preparing", 0), ("training", 4)])
def test_no_speed_is_told_where_there_is_none(opened, a_run, state, iteration):
    with a_run.lock():
        a_run.set_status(state, iteration=iteration, iterations=4, eta_seconds=0.0)
        opened.logic.training.attach(a_run.path)
        assert "each" not in opened.ui.stateLabel.text
        assert "left" not in opened.ui.stateLabel.text


def test_closing_the_scene_from_another_module_disturbs_nothing(opened, a_run, mrml, tmp_path):
    opened.logic.training.attach(a_run.path)
    mrml.save(tmp_path / "work.mrb")
    opened.widget.exit()
    opened.parent.__dict__["isEntered"] = False
    mrml.scene.Clear(0)
    a_run.event("iteration", iteration=3, total=1.5, losses={})
    opened.logic.training.poll()
    assert mrml.scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 0
    mrml.load(tmp_path / "work.mrb")
    opened.parent.__dict__["isEntered"] = True
    opened.widget.enter()
    opened.logic.training.poll()
    assert curve(opened, "loss", "total") == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.5)]


def test_a_training_whose_study_was_closed_gives_the_next_one_no_model(opened, a_run, mrml, scans):
    """It goes on and is named; the new study has the same labels and knows nothing of its model."""
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        opened.logic.training.attach(a_run.path)
        mrml.scene.Clear(0)
        opened.panel.data.add_folder(scans)
        assert opened.ui.stateLabel.text.endswith(f"Open training… shows it: {a_run.path}")
        assert not opened.ui.stopButton.enabled
        assert opened.ui.trainButton.enabled
    give_model(a_run, "left atrium")
    a_run.set_status("finished", iteration=4, iterations=4)
    opened.logic.training.poll()
    assert opened.work.model is None


@pytest.mark.parametrize("with_a_run", [False, True], ids=["a new study", "a study with a training of its own"])
def test_no_training_is_started_beside_that_of_a_closed_study(
    with_cases, a_run, mrml, scans, tmp_path, monkeypatch, with_a_run
):
    """Not even while that one starts and its folder says nothing yet."""
    opened, training = with_cases, with_cases.logic.training
    if with_a_run:
        training.attach(a_run.path)
    mrml.save(tmp_path / "other.mrb")
    mrml.scene.Clear(0)
    opened.panel.data.add_folder(scans)
    opened.parameters.studyFolder = tmp_path / "first"
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(script))
    opened.ui.trainButton.click()
    first = training.process
    mrml.load(tmp_path / "other.mrb")
    try:
        assert training.process is not first
        for start in (training.start, training.resume) if with_a_run else (training.start,):
            with pytest.raises(ValueError, match=f"of another study runs on this computer: {first.run.path}"):
                start()
        assert not list(opened.work.folder.glob("training-*"))
    finally:
        first.end_now()
    opened.wait_until(lambda: not first._child or not first._child.running, 10)
    opened.ui.trainButton.click()
    assert training.process.run.path.parent == opened.work.folder


def test_a_training_that_ended_does_not_make_the_one_that_runs_forgotten(opened, a_run, mrml, tmp_path):
    """Slicer was started anew, and a study with a training of its own was opened first."""
    from SemiSegLib.runs import RunFolder

    running = RunFolder.create(tmp_path / "running")
    with running.lock():
        running.set_status("training", iteration=2, iterations=4)
        opened.logic.training.attach(running.path)
        opened.close()
        mrml.scene.Clear(0)
        opened.__init__(opened.qt, opened.module)
        opened.logic.training.attach(a_run.path)
        with pytest.raises(ValueError, match=f"runs on this computer: {running.path}"):
            opened.logic.training.resume()


def test_a_training_that_began_after_the_scene_was_saved_is_found(with_cases, a_run, mrml, tmp_path):
    """Slicer crashed, and the scene of this morning is opened."""
    import shutil

    from SemiSegLib.runs import RunFolder

    opened, training = with_cases, with_cases.logic.training
    opened.work.claim_folder()
    for name in ("training-1", "training-2"):
        shutil.copytree(a_run.path, opened.work.folder / name)
    earlier, running = (RunFolder.open(opened.work.folder / name) for name in ("training-1", "training-2"))
    training.attach(earlier.path)
    mrml.save(tmp_path / "morning.mrb")
    with running.lock():
        running.set_status("training", iteration=2, iterations=4)
        training.attach(running.path)
        opened.close()
        mrml.scene.Clear(0)
        opened.__init__(opened.qt, opened.module)
        mrml.load(tmp_path / "morning.mrb")
        assert opened.logic.training.process.run.path == running.path
        assert opened.ui.stateLabel.text.startswith("Training, iteration 2 of 4")
        assert not opened.ui.trainButton.enabled


def test_a_training_on_a_disk_that_was_away_is_watched_again(opened, a_run):
    with a_run.lock():
        a_run.set_status("training", iteration=2, iterations=4)
        opened.logic.training.attach(a_run.path)
        away = a_run.path.rename(a_run.path.with_name("away"))
        opened.logic.training.poll()
        assert not opened.ui.stopButton.enabled
        away.rename(a_run.path)
        opened.widget.exit()
        opened.widget.enter()
        opened.wait_until(lambda: opened.ui.stateLabel.text.startswith("Training, iteration 2 of 4"), 20)


def test_a_supervised_training_is_not_said_to_learn_from_unlabeled_scans(with_cases):
    with_cases.parameters.method = type(with_cases.parameters.method)("supervised")
    assert with_cases.ui.readyLabel.text.startswith("Learns from 2 annotated scans alone.")
