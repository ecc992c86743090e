"""The harness itself: what PythonQt refuses is refused, what it allows works."""

import pytest


@pytest.fixture
def qt(qt_modules):
    return qt_modules


def test_properties_are_attributes(qt):
    button = qt.QPushButton("one")
    assert button.text == "one"
    button.text = "two"
    assert button.text == "two"
    button.setText("three")
    assert button.text == "three"
    with pytest.raises(TypeError):
        button.text()


def test_unknown_attributes_are_refused(qt):
    label = qt.QLabel()
    with pytest.raises(AttributeError):
        label.txt = "typo"
    with pytest.raises(AttributeError):
        _ = label.txt


def test_read_only_properties_are_refused(qt):
    with pytest.raises(AttributeError):
        qt.QTimer().active = True


def test_signals_connect_by_signature(qt):
    heard = []
    button = qt.QPushButton()
    button.connect("clicked()", lambda: heard.append("plain"))
    button.connect("clicked(bool)", lambda checked: heard.append(checked))
    button.clicked.connect(lambda: heard.append("attribute"))
    button.click()
    assert heard == ["plain", False, "attribute"]


def test_wrong_signatures_are_noticed_though_nothing_is_raised(qt):
    import pythonqt

    for signature in ("pressed(int)", "clickt()", "clicked"):
        assert qt.QPushButton().connect(signature, print) is False
    assert len(pythonqt.warnings) == 3
    pythonqt.warnings.clear()
    with pytest.raises(AttributeError):
        qt.QPushButton().clickt.connect(print)


def test_connections_end(qt):
    heard = []
    button = qt.QPushButton()

    def slot():
        heard.append(1)

    button.connect("clicked()", slot)
    button.disconnect("clicked()", slot)
    button.click()
    assert heard == []


def test_name_is_the_object_name(qt):
    widget = qt.QWidget()
    widget.name = "panel"
    assert widget.objectName == "panel"
    assert widget.className() == "QWidget"


def test_unknown_widgets_of_a_ui_file_are_refused(qt):
    with pytest.raises(RuntimeError, match="qMRMLUnheardOf"):
        qt.QUiLoader().createWidget("qMRMLUnheardOf")


def test_combo_box_of_nodes_follows_the_scene(mrml):
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.noneEnabled = True
    box.setMRMLScene(mrml.scene)
    assert box.currentNode() is None
    node = mrml.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    box.setCurrentNode(node)
    assert box.currentNode() is node
    mrml.scene.RemoveNode(node)
    assert box.currentNode() is None


def test_the_segment_editor_has_the_methods_of_the_real_one(qt_modules):
    import os
    import re
    from pathlib import Path

    source = os.environ.get("SEMISEG_SLICER_SOURCE")
    if not source:
        pytest.skip("compared with a checkout of Slicer named by SEMISEG_SLICER_SOURCE")
    import stand_in_widgets

    header = Path(source) / "Modules" / "Loadable" / "Segmentations" / "Widgets" / "qMRMLSegmentEditorWidget.h"
    real = set(re.findall(r"\b(\w+)\(", header.read_text(encoding="utf-8")))
    ours = vars(stand_in_widgets.qMRMLSegmentEditorWidget)
    assert {name for name, value in ours.items() if callable(value) and not name.startswith("_")} <= real | {"press"}


def test_parameters_that_no_widget_could_show_are_refused(mrml):
    import os

    if os.environ.get("SEMISEG_SLICER_SOURCE"):
        pytest.skip("the real parameterNodeWrapper is in use")
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    with pytest.raises(TypeError, match="wish"):

        @parameterNodeWrapper
        class Odd:
            wish: complex
