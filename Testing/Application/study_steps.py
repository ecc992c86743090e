"""Steps of the walk that need no training: the panel, a study, and its scene."""

import sys

import qt
import slicer
from hands import SECTIONS, SMALL, Skipped

DOCK_WIDTH = 360
SMALL_WINDOW = 1280, 720


class StudySteps:
    """To be mixed into `Hands`; numbers say the order among all steps."""

    def step_01_torch_is_not_in_this_process(self):
        assert "torch" not in sys.modules

    def step_02_a_python_to_train_with_is_found(self):
        from SemiSegModuleLib import paths

        assert paths.training_python().is_file()

    def step_03_the_self_test_passes(self):
        from SemiSegModule import SemiSegModuleTest

        SemiSegModuleTest().runTest()
        slicer.mrmlScene.Clear(0)

    def step_04_labels_follow_the_task(self):
        for index, expected in ((1, "pancreas"), (2, "right ventricle"), (0, "left atrium")):
            self.choose(self.ui.taskComboBox, index)
            assert self.labels()[0] == expected

    def step_05_a_synthetic_study_is_made_and_loaded(self):
        self.widget._parameterNode.studyFolder = self.folder / "study"
        self.panel.data.add_synthetic()
        assert (len(self.with_state("annotated")), len(self.with_state("unlabelled"))) == (6, 4)

    def step_06_only_one_scan_is_drawn(self):
        self.ui.casesTable.selectRow(1)
        drawn = [case for case in self.cases if case.annotation and case.annotation.GetDisplayNode().GetVisibility()]
        assert drawn == [self.cases[1]]

    def step_07_every_section_is_content_with_the_dock(self):
        for section in SECTIONS:
            self.unfold(section)
            needed = getattr(self.ui, f"{section}CollapsibleButton").minimumSizeHint.width()
            assert needed <= DOCK_WIDTH, f"{section} asks for {needed} pixels"

    def step_08_nothing_is_cut_off_in_a_small_window(self):
        window = slicer.util.mainWindow()
        if window is None:
            raise Skipped("only the application has a window")
        before = window.size
        try:
            window.resize(*SMALL_WINDOW)
            for section in SECTIONS:
                self.unfold(section)
                self.wait(0.3)
                assert (window.width, window.height) == SMALL_WINDOW, f"{section}: {window.width} x {window.height}"
                self._assert_nothing_is_cut_off(section)
                window.grab().save(str(self.folder / f"small-window-{section}.png"))
        finally:
            window.resize(before)

    def _assert_nothing_is_cut_off(self, section):
        """All widgets of the panel lie inside what can be scrolled to: there is no scroll bar sideways."""
        panel = self.ui.dataCollapsibleButton.parentWidget()
        area = panel
        while not isinstance(area, qt.QScrollArea):
            area = area.parentWidget()
        room, content = area.viewport(), area.widget()
        assert content.width <= room.width, f"{section}: {content.width} of {room.width} pixels are seen"
        assert content.height <= room.height or area.verticalScrollBar().visible, section
        for child in panel.findChildren(qt.QWidget):
            parent = child.parentWidget()
            if child.objectName and child.isVisible() and parent.parentWidget() is not None:
                end = child.mapTo(panel, qt.QPoint(child.width, 0)).x()
                assert end <= panel.width or _scrolls(child, panel), f"{section}: {child.objectName} ends at {end}"

    def step_09_settings_are_typed_forwards(self):
        self.unfold("train")
        self.ui.advancedCollapsibleButton.collapsed = False
        field = self.ui.extraSettingsTextEdit
        field.setPlainText("")
        self.press(field, "training.seed=1")
        assert field.toPlainText() == "training.seed=1", field.toPlainText()
        field.setPlainText("\n".join(f"{name}={value}" for name, value in SMALL.items()))

    def step_10_an_opacity_is_dragged_anywhere(self):
        self.unfold("results")
        for share in (0.25, 0.6, 0.75):
            self.drag(self.ui.maskOpacitySlider, share)
            assert abs(self.widget._parameterNode.maskOpacity - share) < 0.02

    def step_16_frames_of_a_sequence_become_scans(self):
        sequence, browser, show = self._make_sequence([case.volume for case in self.cases[4:6]])
        show(1)
        slicer.app.processEvents()
        box = self.ui.volumeComboBox
        texts = [box.itemText(number) for number in range(box.count)]
        assert texts == ["cine: all 2 frames", "cine: the frame shown"], texts
        self.choose(box, 0)
        self.ui.addVolumeButton.click()
        frames = [case for case in self.cases if case.frame is not None]
        assert [case.name for case in frames] == ["cine_frame01", "cine_frame02"], [case.name for case in frames]
        assert len({case.patient_key for case in frames}) == 1
        show(0)
        assert frames[1].volume.GetImageData() is sequence.GetNthDataNode(1).GetImageData()
        for case in frames:  # the study is the former one again
            volume = case.volume
            self.workbench.study.case = case
            self.ui.removeCaseButton.click()
            slicer.mrmlScene.RemoveNode(volume)
        for node in (browser.GetProxyNode(sequence), browser, sequence):
            slicer.mrmlScene.RemoveNode(node)
        assert len(self.cases) == 10

    def _make_sequence(self, volumes):
        """A sequence of copies of these volumes, what plays it, and a function that shows a frame of it."""
        logic = _sequences_logic()
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
        for number, volume in enumerate(volumes):
            sequence.SetDataNodeAtValue(volume, str(0.05 * number))
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "cine browser")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())

        def show(number):
            browser.SetSelectedItemNumber(number)
            logic.UpdateProxyNodesFromSequences(browser)

        return sequence, browser, show

    def step_18_a_scene_is_saved_closed_and_loaded(self):
        path = self.folder / "work.mrb"
        typed = self.ui.extraSettingsTextEdit.toPlainText()
        assert slicer.util.saveScene(str(path))
        slicer.mrmlScene.Clear(0)
        assert len(self.cases) == 0
        slicer.util.loadScene(str(path))
        self.widget.enter()
        assert len(self.with_state("annotated")) == 6
        assert self.ui.extraSettingsTextEdit.toPlainText() == typed
        assert self.cases[6].box().size == self.boxed, "the box came back with its scan"
        assert self.cases[7].volume.GetParentTransformNode() is not None, "the scan is turned still"

    def step_19_masks_count_as_something_else_only_when_asked(self):
        declined, agreed = qt.QMessageBox.Cancel, qt.QMessageBox.Ok
        with self.answer(declined):
            self.choose(self.ui.taskComboBox, 1)
        assert self.labels()[0] == "left atrium", "the task was changed all the same"
        assert self.widget._parameterNode.task.value == "left-atrium"
        if slicer.util.mainWindow() is None:
            raise Skipped("declined unseen; only the application shows questions")
        for index, expected in ((1, "pancreas"), (0, "left atrium")):
            with self.answer(agreed):
                self.choose(self.ui.taskComboBox, index)
            assert self.labels()[0] == expected

    def step_30_torch_is_still_not_in_this_process(self):
        self.step_01_torch_is_not_in_this_process()


def _scrolls(widget, panel):
    """The widget lies in a table or list of the panel, which scrolls by itself."""
    while widget is not panel:
        widget = widget.parentWidget()
        if isinstance(widget, qt.QAbstractScrollArea):
            return True
    return False


def _sequences_logic():
    """That of Slicer's module; one of our own where the module is not built in."""
    if hasattr(slicer.modules, "sequences"):
        return slicer.modules.sequences.logic()
    if not hasattr(slicer, "vtkSlicerSequencesLogic"):
        raise Skipped("this Slicer has no sequences")
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    return logic
