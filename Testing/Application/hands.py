"""Hands and eyes of the walk: buttons, sliders, keys, the mouse in a view, and what a view shows."""

import json
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

SMALL = {
    "training.iterations": 4,
    "training.labelled_batch": 1,
    "training.unlabelled_batch": 1,
    "training.patch_size": "32,32,32",
    "training.precision": "fp32",
    "data.spacing": "4,4,4",
}
SECTIONS = ("data", "annotate", "train", "results", "export")
_DIFFERENT = 20  # grey levels of 255


class Skipped(Exception):
    """A step that cannot be done here, and why."""


class Hands:
    """Does every method `step_…` in the order of their names, and writes down how each went."""

    def __init__(self, widget, folder, seconds=900.0):
        """:param seconds: the longest that a training or prediction may take"""
        self.folder, self.seconds = Path(folder), seconds
        self.report = []
        self.take(widget)

    def take(self, widget):
        """Work with this panel from now on."""
        self.widget, self.ui, self.panel = widget, widget.ui, widget.panel
        self.logic, self.workbench = widget.logic, widget.logic.workbench

    def run(self, report, picture=lambda name: None):
        """All steps; one that fails does not keep the others from being done. Returns how many failed."""
        for name in [name for name in dir(self) if name.startswith("step_")]:
            outcome, words = "passed", ""
            try:
                getattr(self, name)()
            except Skipped as reason:
                outcome, words = "skipped", str(reason)
            except Exception:
                outcome, words = "failed", traceback.format_exc()
            picture(name)
            self.report.append({"step": name.removeprefix("step_"), "outcome": outcome, "words": words})
            (self.folder / report).write_text(json.dumps(self.report, indent=1), encoding="utf-8")
        return sum(entry["outcome"] == "failed" for entry in self.report)

    # ---- time ------------------------------------------------------------------------------------------------

    def wait_until(self, condition):
        """Let the window live until the condition holds."""
        end = time.monotonic() + self.seconds
        while not condition():
            assert time.monotonic() < end, "nothing happened for too long"
            slicer.app.processEvents()
            time.sleep(0.02)

    def wait(self, seconds):
        """Let the window live for a moment: views are drawn, timers run."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.02)

    # ---- panel -----------------------------------------------------------------------------------------------

    def unfold(self, section):
        """Open one section and close the others."""
        for name in SECTIONS:
            getattr(self.ui, f"{name}CollapsibleButton").collapsed = name != section
        slicer.app.processEvents()

    def press(self, widget, text):
        """Press keys in a widget, one after the other."""
        for letter in text:
            for kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
                qt.QApplication.sendEvent(widget, qt.QKeyEvent(kind, 0, qt.Qt.NoModifier, letter))

    def choose(self, box, index):
        """Choose an entry of a combo box: its signals in their order."""
        box.setCurrentIndex(index)
        box.activated.emit(index)

    def drag(self, slider, share):
        """Pull the handle of a slider to a share of its way."""
        handle = slider.findChild(qt.QSlider)
        handle.setSliderDown(True)
        handle.setSliderPosition(round(handle.minimum + share * (handle.maximum - handle.minimum)))
        handle.setSliderDown(False)

    def below(self, widget):
        """Pixels of the dock that are left below a widget of the panel."""
        area = widget.parentWidget()
        while not isinstance(area, qt.QScrollArea):
            area = area.parentWidget()
        return area.viewport().height - widget.mapTo(area.viewport(), qt.QPoint(0, widget.height)).y()

    @contextmanager
    def answer(self, button):
        """Click this button of the question that comes up meanwhile."""
        timer = qt.QTimer()

        def click():
            box = qt.QApplication.activeModalWidget()
            if box is not None:
                timer.stop()
                box.button(button).click()

        timer.connect("timeout()", click)
        timer.start(50)
        try:
            yield
        finally:
            timer.stop()

    # ---- study -----------------------------------------------------------------------------------------------

    @property
    def cases(self):
        return self.workbench.study.cases.cases

    def labels(self):
        return [label.name for label in self.workbench.study.cases.labels]

    def with_state(self, state):
        return [case for case in self.cases if case.state.value == state]

    def needs_packages(self):
        """Skip a step that trains or predicts where that is not possible."""
        missing = self.workbench.installation.missing()
        if missing:
            raise Skipped(f"not installed: {', '.join(missing)}")

    # ---- views -----------------------------------------------------------------------------------------------

    def slice_widget(self, name="Red"):
        """A slice view of the application; there is none in a stand-in."""
        manager = slicer.app.layoutManager()
        if manager is None:
            raise Skipped("only the application has views")
        return manager.sliceWidget(name)

    def three_d_view(self):
        self.slice_widget()
        return slicer.app.layoutManager().threeDWidget(0).threeDView()

    def look(self, view):
        """The pixels of a view."""
        self.wait(0.5)
        view.forceRender()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(view.renderWindow())
        grab.ReadFrontBufferOff()
        grab.Update()
        return vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).astype(int)

    def changed(self, before, after):
        """How many pixels of a view look different."""
        return int((np.abs(before - after).max(axis=1) > _DIFFERENT).sum())

    def on_view(self, widget, place):
        """The pixel of a slice view where a place in the world (RAS, mm) is seen."""
        to_view = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(widget.mrmlSliceNode().GetXYToRAS(), to_view)
        return tuple(round(part) for part in to_view.MultiplyPoint((*place, 1.0))[:2])

    def pull(self, widget, start, end):
        """Press the left button in a view, move, let go."""
        slicer.util.clickAndDrag(widget, button="None", start=start, end=start)
        slicer.util.clickAndDrag(widget, start=start, end=end)
        self.wait(0.5)

    def paint(self, segment, start, end, millimetres=6.0):
        """A stroke of the brush from one place (RAS, mm) to another in the axial view."""
        widget, editor = self.slice_widget(), self.panel.annotate.editor
        editor.setCurrentSegmentID(segment)
        editor.setActiveEffectByName("Paint")
        effect = editor.activeEffect()
        effect.setCommonParameter("BrushUseAbsoluteSize", 1)
        effect.setCommonParameter("BrushAbsoluteDiameter", millimetres)
        self.wait(0.5)  # the tool's options widen the dock, and the views move
        self.pull(widget, self.on_view(widget, start), self.on_view(widget, end))
        editor.setActiveEffectByName("")
