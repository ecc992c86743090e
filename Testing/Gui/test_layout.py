"""The panel in the room it gets: a dock of 360 pixels, on a screen that leaves 700 for its height."""

import pytest

WIDTH = 360
SECTIONS = ("data", "annotate", "train", "results", "export")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_is_content_with_the_width_of_the_dock(with_cases, section):
    with_cases.ui.casesTable.selectRow(0)
    with_cases.unfold(section)
    with_cases.parent.show()
    with_cases.qt.QApplication.processEvents()
    needed = with_cases.parent.minimumSizeHint.width()
    assert needed <= WIDTH, widest(with_cases, section)


HEIGHT = 700


@pytest.mark.parametrize(
    ("section", "task"),
    [("data", "cardiac-cine"), ("data", "custom"), *((section, "left-atrium") for section in SECTIONS)],
)
def test_every_section_is_content_with_the_height_of_the_dock(with_prediction, section, task):
    """And nothing in it is squeezed; a model is in use that does not quite suit the scans."""
    with_prediction.choose_task(task)
    with_prediction.work.use_model("left-atrium-lge")
    with_prediction.unfold(section)
    with_prediction.parent.resize(WIDTH, HEIGHT)
    with_prediction.parent.show()
    with_prediction.qt.QApplication.processEvents()
    assert with_prediction.parent.height <= HEIGHT
    qt = with_prediction.qt
    for kind in (qt.QPushButton, qt.QCheckBox, qt.QComboBox, qt.QLabel):
        for widget in with_prediction.parent.findChildren(kind):
            if widget.visible and not (kind is qt.QLabel and not widget.text):
                wanted = widget.heightForWidth(widget.width) if widget.hasHeightForWidth() else _hint(widget).height()
                assert widget.height >= wanted, widget.objectName


@pytest.mark.parametrize("section", SECTIONS)
def test_every_caption_and_hint_can_be_read_to_its_end(with_prediction, section):
    """In the dock, which scrolls, with what is folded in a section unfolded: labels, and what empty fields say."""
    qt, panel = with_prediction.qt, with_prediction.parent
    with_prediction.unfold(section)
    for name in ("advanced", "history", "log"):
        getattr(with_prediction.ui, f"{name}CollapsibleButton").collapsed = section != "train"
    area = qt.QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(panel)
    area.resize(WIDTH + 20, HEIGHT)  # with the scroll bar
    area.show()
    for _ in range(3):  # heights follow widths
        qt.QApplication.processEvents()
    with_prediction.area = area  # the panel is its child: it must live as long
    hints = {}
    for label in panel.findChildren(qt.QLabel):
        if label.visible and label.text and label.objectName and not _is_readable(label, panel):
            hints[label.objectName] = label.text
    for kind, text in ((qt.QLineEdit, "placeholderText"), (qt.QSpinBox, "specialValueText")):
        for field in panel.findChildren(kind):
            hint = getattr(field, text)
            hint = hint() if callable(hint) else hint
            if field.visible and hint and _room(field) < field.fontMetrics().horizontalAdvance(hint):
                hints[field.objectName] = hint
    for field in panel.findChildren(qt.QTextEdit):
        if field.visible and field.placeholderText:
            inside = field.viewport().rect.adjusted(4, 4, -4, -4)
            needed = field.fontMetrics().boundingRect(inside, qt.Qt.TextWordWrap.value, field.placeholderText)
            if needed.height() > inside.height():
                hints[field.objectName] = field.placeholderText
    assert not hints


def _is_readable(label, panel):
    """All of its text is there, inside the panel, and nothing lies over it."""
    if not label.wordWrap and label.width < _hint(label).width():
        return False
    wanted = label.heightForWidth(label.width) if label.wordWrap else _hint(label).height()
    end = label.mapTo(panel, label.rect.bottomRight()).x()
    return label.height >= wanted and end < panel.width


def _room(field):
    """Pixels for text in a line edit, or in that of a spin box."""
    line = field if not hasattr(field, "lineEdit") else field.lineEdit()
    return line.width - 6  # QLineEdit's own margins, left and right, and its cursor


def test_what_has_nothing_to_say_stays_hidden_when_its_section_unfolds(with_cases):
    with_cases.parent.show()
    for section, hidden, shown in (("train", "endNowButton", "stopButton"), ("export", "checksTable", "exportButton")):
        with_cases.unfold(section)
        with_cases.qt.QApplication.processEvents()
        assert getattr(with_cases.ui, shown).visible
        assert not getattr(with_cases.ui, hidden).visible


@pytest.mark.parametrize("task", ["left-atrium", "cardiac-cine"])
def test_the_table_of_labels_is_as_high_as_its_rows(with_cases, task):
    with_cases.choose_task(task)
    with_cases.unfold("data")
    with_cases.parent.resize(WIDTH, HEIGHT)
    with_cases.parent.show()
    with_cases.qt.QApplication.processEvents()
    table = with_cases.ui.labelsTable
    last = table.rowCount - 1
    end = table.rowViewportPosition(last) + table.rowHeight(last)
    assert end <= table.viewport().height <= end + 4
    assert not with_cases.ui.addLabelButton.isVisible()  # these labels are the task's


def _hint(widget):
    """PythonQt's attribute, or the method that some classes of PySide6 keep."""
    return widget.sizeHint() if callable(widget.sizeHint) else widget.sizeHint


def widest(opened, section):
    """What asks for so much, to find it."""
    found = {}
    for child in getattr(opened.ui, f"{section}CollapsibleButton").findChildren(opened.qt.QWidget):
        hint = child.minimumSizeHint
        width = (hint() if callable(hint) else hint).width()
        if width > 150 and child.objectName:
            found[child.objectName] = width
    return found


def test_done_is_seen_without_scrolling_past_the_tall_editor(with_cases):
    with_cases.ui.casesTable.selectRow(0)
    with_cases.unfold("annotate")
    with_cases.parent.resize(WIDTH, 700)
    with_cases.parent.show()
    with_cases.qt.QApplication.processEvents()
    done, editor = with_cases.ui.doneCheckBox, with_cases.ui.segmentEditorContainer
    assert done.mapTo(with_cases.parent, done.rect.topLeft()).y() < 700
    assert done.y < editor.y


def test_nothing_lies_over_the_table_of_scans(with_cases):
    """At the least width as well, in the scroll area that Slicer puts a module's panel into."""
    with_cases.unfold("data")
    area = with_cases.qt.QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(with_cases.parent)
    for width in (WIDTH + 20, 600):
        area.resize(width, 700)
        area.show()
        with_cases.qt.QApplication.processEvents()
        ui = with_cases.ui
        for name in ("caption4", "volumeComboBox", "addFilesButton", "removeCaseButton"):
            assert getattr(ui, name).y >= ui.casesTable.y + ui.casesTable.height, name
    with_cases.area = area  # the panel is its child: it must live as long


def test_the_names_of_the_scans_are_readable_in_a_narrow_dock(with_cases):
    with_cases.unfold("data")
    with_cases.parent.resize(WIDTH, 700)
    with_cases.parent.show()
    with_cases.qt.QApplication.processEvents()
    assert with_cases.ui.casesTable.columnWidth(0) >= 150


def test_what_a_method_is_can_be_read_to_its_end(with_cases):
    with_cases.unfold("train")
    label, choice = with_cases.ui.methodLabel, with_cases.ui.methodComboBox
    for index in range(choice.count):
        name = choice.itemText(index)
        choice.setCurrentIndex(index)
        assert label.heightForWidth(WIDTH - 80) <= label.minimumHeight, name


def in_a_dock(window, height):
    """The scroll area of Slicer's panel for modules, which has a spacer of its own below the module."""
    qt, panel = window.qt, window.parent
    contents, area = qt.QWidget(), qt.QScrollArea()
    layout = qt.QVBoxLayout(contents)
    layout.addWidget(panel, 1)  # as qSlicerModulePanel::addModule does
    layout.addItem(qt.QSpacerItem(0, 0, qt.QSizePolicy.Minimum, qt.QSizePolicy.MinimumExpanding))
    area.setWidgetResizable(True)
    area.setWidget(contents)
    window.area = area  # the panel is its child: it must live as long
    area.resize(WIDTH + 20, height)
    area.show()
    return area


@pytest.mark.parametrize("button", ["correctButton", "reviewCorrectButton"])
def test_correct_brings_the_editor_into_view(with_prediction, button):
    """Other sections are open, and the panel is scrolled to where the button is."""
    qt, ui = with_prediction.qt, with_prediction.ui
    area = in_a_dock(with_prediction, HEIGHT)
    for name in SECTIONS:
        getattr(ui, f"{name}CollapsibleButton").collapsed = name not in ("data", "train", "results")
    qt.QApplication.processEvents()
    area.verticalScrollBar().value = area.verticalScrollBar().maximum
    if button == "reviewCorrectButton":
        ui.reviewButton.click()
        qt.QApplication.processEvents()
    getattr(ui, button).click()
    qt.QApplication.processEvents()
    for widget in (ui.annotateLabel, ui.doneCheckBox):
        assert 0 <= widget.mapTo(area.viewport(), qt.QPoint(0, 0)).y() < HEIGHT / 3, widget.objectName
    assert ui.segmentEditorContainer.mapTo(area.viewport(), qt.QPoint(0, 0)).y() < HEIGHT / 2


def test_the_list_of_the_review_is_as_high_as_the_dock(with_prediction):
    qt, area = with_prediction.qt, in_a_dock(with_prediction, 1000)
    with_prediction.ui.reviewButton.click()
    qt.QApplication.processEvents()
    review = with_prediction.ui.reviewWidget
    end = review.mapTo(area.widget(), qt.QPoint(0, review.height)).y()
    assert area.viewport().height - end < 40
    assert with_prediction.ui.reviewTable.height > 700
