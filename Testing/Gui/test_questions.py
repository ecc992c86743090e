"""Questions that are asked before something happens to scans or masks: when, how often, and what each answer does."""

import contextlib
import csv
import math
import os
from pathlib import Path

import pytest


@pytest.fixture
def asked(monkeypatch):
    """Answers the questions with several answers by their keys, the given ones first, then '' (cancel)."""
    from SemiSegModuleLib.panels import dialogs

    class Asked(list):
        answers = ()

        def __call__(self, text, answers):
            self.append(text)
            said, *self.answers = self.answers or [""]
            assert said in ("", *answers)
            return said

    asked = Asked()
    monkeypatch.setattr(dialogs, "choose_answer", asked)
    return asked


def a_new_study(opened):
    """As a scene that nobody has worked in: the folder is a proposal."""
    opened.qt.QSettings().clear()
    opened.parameters.extraSettings = "training.iteration=3"  # no training starts: such a setting does not exist
    return opened


def press_train(opened):
    with pytest.raises(ValueError, match="Did you mean"):
        opened.panel.train.train()


# ---- where copies of the scans go ----------------------------------------------------------------------------


def test_no_copy_is_made_before_its_place_is_agreed_on(with_cases, asked):
    opened = a_new_study(with_cases)
    folder = opened.parameters.studyFolder
    opened.panel.train.train()
    assert len(asked) == 1
    assert str(folder) in asked[0]
    assert "cloud" in asked[0]
    assert not folder.exists()
    opened.work.use_model("left-atrium-lge")
    opened.ui.predictOneButton.click()
    assert len(asked) == 2
    assert not folder.exists()


def test_the_place_is_asked_for_once_in_a_study(with_cases, asked, mrml, tmp_path):
    opened = a_new_study(with_cases)
    asked.answers = ["this"]
    press_train(opened)
    press_train(opened)
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    press_train(opened)
    assert len(asked) == 1


def test_the_place_is_asked_for_again_on_another_computer(with_cases, asked, mrml, tmp_path):
    """The folder is not there: where copies go was agreed on for a disk that this one need not be like."""
    opened = a_new_study(with_cases)
    asked.answers = ["this"]
    press_train(opened)
    mrml.save(tmp_path / "work.mrb")
    opened.qt.QSettings().clear()  # which knows what was agreed on here
    mrml.load(tmp_path / "work.mrb")
    folder = opened.parameters.studyFolder
    opened.panel.train.train()
    assert len(asked) == 2
    assert f"{folder}, which is not on this computer yet" in " ".join(asked[1].split())
    assert not folder.exists()


def test_a_study_that_was_copied_with_its_folder_is_not_asked_about(with_cases, asked, mrml, tmp_path):
    opened = a_new_study(with_cases)
    opened.work.claim_folder()
    mrml.save(tmp_path / "work.mrb")
    opened.qt.QSettings().clear()
    mrml.load(tmp_path / "work.mrb")
    press_train(opened)
    assert not asked


def test_a_folder_of_another_system_is_not_made_somewhere_in_this_one(with_cases, asked, mrml, tmp_path, monkeypatch):
    from SemiSegModuleLib.logic.study import default_study_folder

    monkeypatch.chdir(tmp_path)
    opened = a_new_study(with_cases)
    opened.parameters.studyFolder = Path("C:\\Users\\anna\\study" if Path("/").is_absolute() else "/home/anna/study")
    opened.parameters.exportFolder = opened.parameters.studyFolder / "exports"
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    assert opened.parameters.studyFolder == default_study_folder()
    assert opened.parameters.exportFolder.parent == default_study_folder()
    opened.panel.train.train()
    assert len(asked) == 1
    assert not [path for path in tmp_path.iterdir() if "anna" in path.name]


def test_a_scene_that_is_added_to_this_one_agrees_to_nothing(with_cases, asked, mrml, tmp_path):
    """Its folder comes with it; that is nobody's choice on this computer."""
    opened = a_new_study(with_cases)
    opened.parameters.studyFolder = tmp_path / "theirs"
    mrml.save(tmp_path / "work.mrb")
    opened.parameters.studyFolder = tmp_path / "ours"
    opened.qt.QSettings().clear()
    mrml.add(tmp_path / "work.mrb")
    opened.panel.train.train()
    assert len(asked) == 1


def test_another_place_is_taken(with_cases, asked, monkeypatch, tmp_path):
    from SemiSegModuleLib.panels import dialogs

    opened = a_new_study(with_cases)
    asked.answers = ["other", "other"]
    monkeypatch.setattr(dialogs, "choose_folder", lambda title, start: None)
    opened.panel.train.train()  # thought better of it
    assert not opened.work.folder_is_chosen
    monkeypatch.setattr(dialogs, "choose_folder", lambda title, start: tmp_path / "elsewhere")
    press_train(opened)
    assert opened.work.folder == tmp_path / "elsewhere"
    assert str(tmp_path / "elsewhere") in opened.ui.storageLabel.toolTip
    press_train(opened)
    assert len(asked) == 2


def test_who_names_a_folder_is_not_asked(with_cases, asked, tmp_path):
    opened = a_new_study(with_cases)
    opened.ui.studyFolderPathLineEdit.currentPath = str(tmp_path / "named")
    press_train(opened)
    assert not asked


def test_a_study_of_which_there_are_files_is_not_asked_about(with_cases, asked):
    opened = a_new_study(with_cases)
    opened.work.claim_folder()
    press_train(opened)
    assert not asked


def test_a_script_names_the_folder_and_is_never_asked(with_cases, asked, tmp_path, monkeypatch):
    """What is refused agrees on no folder, neither on the one that was named nor on the one that is proposed."""
    a_new_study(with_cases)
    with pytest.raises(ValueError, match="Did you mean"):
        with_cases.widget.logic.train(folder=tmp_path / "by script")
    assert with_cases.work.folder == tmp_path / "study"
    assert not with_cases.work.folder_is_chosen
    sleeping = tmp_path / "python"
    sleeping.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeping.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(sleeping))
    with_cases.widget.logic.predict(model="left-atrium-lge", folder=tmp_path / "by script")
    assert with_cases.work.folder == tmp_path / "by script"
    assert with_cases.work.folder_is_chosen
    assert not asked


def test_the_folder_that_is_proposed_is_not_one_that_clouds_take(module):
    folder = module.SemiSegModuleLogic().getParameterNode().studyFolder
    assert Path.home() in folder.parents
    assert not {"Documents", "Desktop"} & set(folder.parts)


def test_a_loaded_scene_is_the_study_that_was_saved(with_cases, mrml, tmp_path):
    """Labels and identity are its own, not those of the empty study that the panel shows while no scene is there."""
    opened = with_cases
    opened.choose_task("custom")
    opened.ui.addLabelButton.click()
    labels, identifier = opened.work.cases.labels, opened.work.cases.identifier
    opened.work.claim_folder()
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    assert opened.work.cases.identifier == identifier
    assert opened.work.cases.labels == labels
    assert opened.work.folder == opened.parameters.studyFolder


def test_a_scene_that_is_added_leaves_a_study_with_cases_as_it_is(with_cases, mrml, tmp_path):
    opened = with_cases
    mrml.save(tmp_path / "work.mrb")
    other = opened.work.cases.identifier
    mrml.scene.Clear(0)
    opened.panel.data.add_synthetic()
    identifier = opened.work.cases.identifier
    assert identifier != other
    mrml.add(tmp_path / "work.mrb")
    assert opened.work.cases.identifier == identifier
    assert len(opened.work.cases) == 14


# ---- drawings that nobody has called finished ----------------------------------------------------------------


@pytest.fixture
def with_drawing(with_prediction):
    """A correction was begun and nobody has said that it is done."""
    with_prediction.ui.correctButton.click()
    assert with_prediction.work.case.unfinished
    assert with_prediction.ui.casesTable.item(2, 1).text() == "not done"
    assert with_prediction.ui.resultLabel.text == "atrium_003: not done"
    return with_prediction


def exported(folder):
    return sorted(path.name for path in folder.glob("*.seg.nrrd"))


OTHERS = ["atrium_001.seg.nrrd", "atrium_002.seg.nrrd"]


@pytest.mark.parametrize(
    ("answer", "files", "state"),
    [
        ("", [], "not done"),
        ("without", OTHERS, "not done"),
        ("done", [*OTHERS, "atrium_003.seg.nrrd"], "corrected"),
    ],
)
def test_a_drawing_is_exported_once_it_is_done(with_drawing, asked, tmp_path, answer, files, state):
    asked.answers = [answer]
    with_drawing.ui.exportButton.click()
    assert "atrium_003" in asked[0]
    assert exported(tmp_path / "exports") == files
    assert with_drawing.ui.casesTable.item(2, 1).text() == state


@pytest.mark.parametrize("answer", ["without", "done"])
def test_a_drawing_is_measured_once_it_is_done(with_drawing, asked, tmp_path, answer):
    asked.answers = [answer]
    with_drawing.ui.exportVolumesButton.click()
    with (tmp_path / "exports" / "volumes.csv").open(encoding="utf-8-sig", newline="") as stream:
        row = list(csv.DictReader(stream))[2]
    voxels = 1000 * math.prod(with_drawing.work.case.volume.GetSpacing()) / 1000
    measured = row["left atrium [ml]"]
    assert float(measured) == pytest.approx(voxels, abs=1e-3) if answer == "done" else measured == ""


@pytest.mark.parametrize(("answer", "trains"), [("", False), ("without", False), ("done", True)])
def test_a_drawing_is_learnt_from_once_it_is_done(with_drawing, asked, answer, trains):
    with_drawing.parameters.extraSettings = "training.iteration=3"  # no training starts
    asked.answers = [answer]
    press_train(with_drawing) if answer else with_drawing.panel.train.train()
    assert "atrium_003" in asked[0]
    assert with_drawing.logic.training.counts() == (2 + trains, 0, 2 - trains)


def test_nobody_is_asked_about_a_drawing_in_a_scan_that_is_left_out(with_drawing, asked):
    with_drawing.parameters.extraSettings = "training.iteration=3"
    with_drawing.ui.excludeCaseButton.click()
    press_train(with_drawing)
    assert not asked


@pytest.mark.parametrize(("press", "key"), [("Yes, please", "yes"), ("No, thanks", "no"), ("Cancel", "")])
def test_each_button_is_an_answer(opened, monkeypatch, press, key):
    import slicer
    from SemiSegModuleLib.panels import dialogs

    qt = opened.qt
    monkeypatch.setattr(type(slicer.app), "testingEnabled", lambda self: False)
    timer = qt.QTimer()
    timer.setSingleShot(True)

    def click():
        box = qt.QApplication.activeModalWidget()
        next(button for button in box.buttons() if button.text.replace("&", "") == press).click()

    timer.connect("timeout()", click)
    timer.start(0)
    assert dialogs.choose_answer("Really?", {"yes": "Yes, please", "no": "No, thanks"}) == key


# ---- masks of other structures -------------------------------------------------------------------------------


def labels_shown(opened):
    return [opened.ui.casesTable.item(row, 2).text() for row in range(opened.ui.casesTable.rowCount)]


@pytest.mark.parametrize("agreed", [True, False])
def test_another_task_does_not_rename_masks_unasked(with_cases, monkeypatch, agreed):
    """A turn of the mouse wheel over the box is enough to choose one."""
    from SemiSegModuleLib.panels import dialogs

    questions = []
    monkeypatch.setattr(dialogs, "confirm", lambda text: questions.append(text) or agreed)
    with_cases.choose_task("pancreas")
    assert "2 scans have masks of left atrium. With this task they count as pancreas" in questions[0]
    wanted = "pancreas" if agreed else "left atrium"
    assert labels_shown(with_cases)[:2] == [wanted, wanted]
    assert with_cases.parameters.task.value == ("pancreas" if agreed else "left-atrium")
    assert with_cases.ui.taskComboBox.currentText.casefold().startswith(wanted)
    with_cases.choose_task("left-atrium")
    assert len(questions) == (2 if agreed else 1)


@pytest.mark.parametrize("agreed", [True, False])
def test_a_model_of_other_structures_does_not_rename_predictions(opened, scans, monkeypatch, tmp_path, agreed):
    import numpy as np
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    opened.choose_task("pancreas")
    opened.logic.add_cases(sorted((scans / "images").iterdir())[:2])
    case = opened.work.cases.cases[0]
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[10:20, 8:22, 8:22] = 1
    volumes.write_image(volumes.world_image(case.volume, mask), tmp_path / "mask.nrrd")
    load_prediction(opened.work.cases, case, tmp_path / "mask.nrrd")
    questions = []
    monkeypatch.setattr(dialogs, "confirm", lambda text: questions.append(text) or agreed)
    opened.panel.results._use_model("left-atrium-lge")
    assert "the masks of 1 scans show" in questions[0]
    assert labels_shown(opened) == (["", ""] if agreed else ["pancreas", ""])
    assert (case.prediction is None) == agreed
    assert (opened.work.model is not None) == agreed


def test_a_prediction_that_somebody_changed_does_not_go_unnamed(opened, scans, monkeypatch, tmp_path):
    """By a script, which is asked nothing, not at all."""
    import numpy as np
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    opened.choose_task("pancreas")
    opened.logic.add_cases(sorted((scans / "images").iterdir())[:2])
    case, labels = opened.work.cases.cases[0], opened.work.cases.labels
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[10:20, 8:22, 8:22] = 1
    volumes.write_image(volumes.world_image(case.volume, mask), tmp_path / "mask.nrrd")
    load_prediction(opened.work.cases, case, tmp_path / "mask.nrrd")
    mask[5] = 1
    segments.set_voxels(case.prediction, mask, volumes.ijk_to_ras(case.volume), labels)
    with pytest.raises(ValueError, match=f"changed by hand: {case.name}"):
        opened.widget.logic.predict(model="left-atrium-lge")
    assert case.prediction_edited
    questions = []
    monkeypatch.setattr(dialogs, "confirm", lambda text: questions.append(text) or True)
    opened.panel.results._use_model("left-atrium-lge")
    assert questions[0].endswith(f"Somebody has changed these:\n\n{case.name}")
    assert case.prediction is None
    assert opened.work.model is not None


# ---- folders that nobody else may look into ------------------------------------------------------------------


@pytest.fixture
def somebody_else(tmp_path):
    """Within it, nobody may look into `tmp_path / "home"`, not even whoever runs the tests as root."""
    home = tmp_path / "home"
    home.mkdir()

    @contextlib.contextmanager
    def as_somebody_else():
        mode, root = home.stat().st_mode, os.geteuid() == 0
        home.chmod(0)
        if root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)
            home.chmod(mode)

    return as_somebody_else


@pytest.mark.skipif(os.name == "nt", reason="the rights of POSIX")
def test_the_study_of_somebody_whose_home_is_closed_is_opened(with_cases, asked, somebody_else, tmp_path):
    from SemiSegModuleLib.panels import dialogs

    home = tmp_path / "home"
    with_cases.parameters.studyFolder = home / "study"
    with_cases.parameters.modelFile = str(home / "model.safetensors")
    with_cases.work.cases.run_folder = home / "study" / "training-1"
    with_cases.qt.QSettings().clear()
    with somebody_else():
        with_cases.widget.enter()
        assert with_cases.work.model is None
        for label in (with_cases.ui.modelLabel, with_cases.ui.stateLabel):
            assert "is not here: choose the folder of this study" in label.text
        with_cases.ui.nextCaseButton.click()
        assert "atrium_002" in with_cases.ui.resultLabel.text
        dialogs.may_copy_scans(with_cases.work)
    assert "which is not on this computer yet" in asked[0]
