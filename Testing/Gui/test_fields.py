"""Fields of the panel under a person's hands: keys are pressed, sliders dragged, entries chosen."""

import pytest


@pytest.fixture
def shown(opened):
    """The module in a window, so that keys reach its fields."""
    opened.unfold("data", "train", "results", "export")
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.parent.show()
    opened.qt.QApplication.processEvents()
    yield opened
    opened.parent.hide()


def drag(opened, slider, share):
    """Pull the handle to a share of its way, as a mouse does."""
    handle = slider.findChild(opened.qt.QSlider)
    handle.setSliderDown(True)
    handle.setSliderPosition(round(handle.minimum + share * (handle.maximum - handle.minimum)))
    handle.setSliderDown(False)


def type_keys(opened, field, text):
    opened.qt.QTest.keyClicks(field, text)


def labels(opened):
    return [label.name for label in opened.work.cases.labels]


@pytest.mark.parametrize("name", ["mask", "sdm", "probability"])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.6, 0.75, 0.98])
def test_an_opacity_is_dragged_to_any_value(shown, name, share):
    drag(shown, getattr(shown.ui, f"{name}OpacitySlider"), share)
    assert getattr(shown.parameters, f"{name}Opacity") == pytest.approx(share, abs=0.011)


def test_settings_are_typed_forwards(shown):
    field = shown.ui.extraSettingsTextEdit
    type_keys(shown, field, "training.seed=1")
    assert field.toPlainText() == "training.seed=1"
    assert shown.parameters.extraSettings == "training.seed=1"


def test_settings_of_another_scene_are_shown(shown):
    shown.parameters.extraSettings = "training.seed=2"
    assert shown.ui.extraSettingsTextEdit.toPlainText() == "training.seed=2"


@pytest.mark.parametrize("name", ["studyFolder", "exportFolder"])
def test_a_folder_is_typed_part_by_part(shown, name):
    field = getattr(shown.ui, f"{name}PathLineEdit")
    field.currentPath = ""
    assert field.currentPath == ""
    type_keys(shown, field.findChild(shown.qt.QLineEdit), "/data/a study")
    assert field.currentPath == "/data/a study"
    assert getattr(shown.parameters, name).as_posix() == "/data/a study"


def test_a_folder_is_corrected_in_its_middle(shown):
    field = shown.ui.studyFolderPathLineEdit
    field.currentPath = "/dta/study"
    line = field.findChild(shown.qt.QLineEdit)
    line.setCursorPosition(2)
    type_keys(shown, line, "a")
    type_keys(shown, line, "_")
    assert field.currentPath == "/da_ta/study"


def test_a_learning_rate_is_typed(shown):
    field = shown.ui.learningRateSpinBox
    field.selectAll()
    type_keys(shown, field, "0.0015")
    field.interpretText()
    assert shown.parameters.learningRate == pytest.approx(0.0015)


def test_labels_follow_the_task_that_is_chosen(shown):
    for task, expected in (
        ("pancreas", ["pancreas"]),
        (
            "abdomen-ct",
            ["spleen", "right kidney", "left kidney", "gallbladder", "liver", "stomach", "aorta", "pancreas"],
        ),
        ("cardiac-cine", ["right ventricle", "myocardium", "left ventricle"]),
        ("left-atrium", ["left atrium"]),
    ):
        shown.choose_task(task)
        assert labels(shown) == expected
        assert [shown.ui.labelsTable.item(row, 0).text() for row in range(len(expected))] == expected


def test_labels_of_a_loaded_model_stay(shown):
    """Leaving the module and coming back fills the choice of tasks anew; so does adding scans change nothing."""
    from SemiSegLib.config import Label

    model = [Label(1, "spleen", (1, 2, 3))]
    shown.work.cases.labels = model
    shown.widget.exit()
    shown.widget.enter()
    assert shown.work.cases.labels == model


def test_labels_of_a_loaded_model_stay_while_scans_are_added(shown, scans):
    from SemiSegLib.config import Label

    model = [Label(1, "spleen", (1, 2, 3))]
    shown.work.cases.labels = model
    shown.panel.data.add_folder(scans)
    assert shown.work.cases.labels == model
