"""What a person does with the module, done by a script in the real application, in five minutes.

    Slicer --ignore-slicerrc --additional-module-path SemiSegModule --python-script Testing/Application/walk.py FOLDER

FOLDER, which must not be there yet, gets report.json (each step, and what went wrong), a picture of the window after
each step, and the study. Slicer ends by itself; its exit code is the number of steps that failed. Steps that train need
the packages of the panel's *Check installation*, or SEMISEG_PYTHON; they are reported as skipped without.
"""

import json
import sys
import time
import traceback
from pathlib import Path

import qt
import slicer

SMALL = "\n".join(
    [
        "training.iterations=4",
        "training.labelled_batch=1",
        "training.unlabelled_batch=1",
        "training.patch_size=32,32,32",
        "training.precision=fp32",
        "data.spacing=4,4,4",
    ]
)
DOCK_WIDTH = 360
WINDOW = 1280, 900  # of the pictures


class Skipped(Exception):
    """A step that cannot be done here, and why."""


class Walk:
    """Steps in their order: every method `step_…`, named after what must be true."""

    def __init__(self, widget, folder, seconds=900.0):
        """:param seconds: the longest that a training or prediction may take"""
        self.widget, self.ui, self.panel = widget, widget.ui, widget.panel
        self.logic, self.workbench = widget.logic, widget.logic.workbench
        self.folder, self.seconds = Path(folder), seconds
        self.report = []
        self.folder.mkdir(parents=True)

    def run(self, picture=lambda name: None):
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
            (self.folder / "report.json").write_text(json.dumps(self.report, indent=1), encoding="utf-8")
        return sum(entry["outcome"] == "failed" for entry in self.report)

    # ---- hands -------------------------------------------------------------------------------------------------

    def wait_until(self, condition):
        """Let the window live until the condition holds."""
        end = time.monotonic() + self.seconds
        while not condition():
            assert time.monotonic() < end, "nothing happened for too long"
            slicer.app.processEvents()
            time.sleep(0.02)

    def unfold(self, section):
        """Open one section and close the others."""
        for name in ("data", "annotate", "train", "results", "export"):
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

    def labels(self):
        return [label.name for label in self.workbench.study.cases.labels]

    def with_state(self, state):
        return [case for case in self.workbench.study.cases if case.state.value == state]

    # ---- steps: nothing is trained ---------------------------------------------------------------------------

    def step_01_torch_is_not_in_this_process(self):
        assert "torch" not in sys.modules

    def step_02_a_python_to_train_with_is_found(self):
        from SemiSegModuleLib import paths

        assert paths.training_python().is_file()

    def step_03_a_synthetic_study_is_made_and_loaded(self):
        self.widget._parameterNode.studyFolder = self.folder / "study"
        self.panel.data.add_synthetic()
        assert (len(self.with_state("annotated")), len(self.with_state("unlabelled"))) == (4, 6)

    def step_04_only_one_scan_is_drawn(self):
        cases = self.workbench.study.cases.cases
        self.ui.casesTable.selectRow(1)
        drawn = [case for case in cases if case.annotation and case.annotation.GetDisplayNode().GetVisibility()]
        assert drawn == [cases[1]]

    def step_05_labels_follow_the_task(self):
        for index, expected in ((1, "pancreas"), (2, "right ventricle"), (0, "left atrium")):
            self.choose(self.ui.taskComboBox, index)
            assert self.labels()[0] == expected

    def step_06_every_section_is_content_with_the_dock(self):
        for section in ("data", "annotate", "train", "results", "export"):
            self.unfold(section)
            needed = getattr(self.ui, f"{section}CollapsibleButton").minimumSizeHint.width()
            assert needed <= DOCK_WIDTH, f"{section} asks for {needed} pixels"

    def step_07_settings_are_typed_forwards(self):
        self.unfold("train")
        self.ui.advancedCollapsibleButton.collapsed = False
        field = self.ui.extraSettingsTextEdit
        field.setPlainText("")
        self.press(field, "training.seed=1")
        assert field.toPlainText() == "training.seed=1", field.toPlainText()
        field.setPlainText(SMALL)

    def step_08_an_opacity_is_dragged_anywhere(self):
        self.unfold("results")
        for share in (0.25, 0.6, 0.75):
            self.drag(self.ui.maskOpacitySlider, share)
            assert abs(self.widget._parameterNode.maskOpacity - share) < 0.02

    def step_09_the_editor_opens_with_the_segments_of_the_task(self):
        self.ui.casesTable.selectRow(5)
        self.unfold("annotate")
        self.ui.annotateButton.click()
        case = self.workbench.study.case
        assert self.panel.annotate.editor.segmentationNode().GetID() == case.annotation.GetID()
        assert case.annotation.GetSegmentation().GetNthSegment(0).GetName() == "left atrium"

    def step_10_a_scene_is_saved_closed_and_loaded(self):
        path = self.folder / "work.mrb"
        assert slicer.util.saveScene(str(path))
        slicer.mrmlScene.Clear(0)
        assert len(self.workbench.study.cases) == 0
        slicer.util.loadScene(str(path))
        self.widget.enter()
        assert len(self.with_state("annotated")) == 4
        assert self.ui.extraSettingsTextEdit.toPlainText() == SMALL

    # ---- steps: trained and predicted ------------------------------------------------------------------------

    def step_11_a_training_starts_stops_and_goes_on(self):
        missing = self.workbench.installation.missing()
        if missing:
            raise Skipped(f"not installed: {', '.join(missing)}")
        training = self.workbench.training
        process = self.logic.train(method="mean-teacher")
        self.wait_until(lambda: process.status.iteration >= 1 or not process.active)
        training.stop()
        self.wait_until(lambda: not process.active)
        assert process.state in ("stopped", "finished"), process.failure
        if process.resumable:
            training.resume()
            self.wait_until(lambda: not training.active)
        assert training.process.state == "finished", training.process.failure

    def step_12_all_scans_are_predicted(self):
        if self.workbench.study.model is None:
            raise Skipped("no model was trained")
        process = self.logic.predict()
        self.wait_until(lambda: not process.active)
        assert process.state == "finished", process.failure
        assert len(self.with_state("predicted")) == 6

    def step_13_a_correction_is_shown_and_exported_once_it_is_done(self):
        predicted = self.with_state("predicted")
        if not predicted:
            raise Skipped("nothing was predicted")
        case = predicted[0]
        self.logic.correctPrediction(case)
        if not case.has_drawing:
            raise Skipped("nothing was learnt in so short a training")
        assert not case.prediction.GetDisplayNode().GetVisibility2DFill()
        import SimpleITK as sitk
        from SemiSegModuleLib.exports.choice import ExportError
        from SemiSegModuleLib.scene import segments

        try:
            self.logic.exportMasks(self.folder / "masks", ".nrrd", [case])
        except ExportError:
            pass  # nobody has said yet that the correction is done
        else:
            raise AssertionError("a correction that is not done was exported")
        case.mark_done()
        (path,) = self.logic.exportMasks(self.folder / "masks", ".nrrd", [case])
        counted = int((sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0).sum())
        assert counted == sum(segments.voxel_counts(case.annotation, self.workbench.study.cases.labels).values())

    def step_14_a_ready_model_says_what_dsc_to_expect(self):
        if self.workbench.installation.missing():
            raise Skipped("nothing can be predicted")
        process = self.logic.predict(model="left-atrium-lge", wait=True)
        assert process.state == "finished", process.log.tail()
        self.wait_until(lambda: all(case.expected_dsc is not None for case in self.with_state("predicted")))
        expected = [case.expected_dsc for case in self.logic.review() if case.expected_dsc is not None]
        assert expected == sorted(expected)

    def step_15_scans_and_slices_to_annotate_next_are_named(self):
        if self.workbench.installation.missing():
            raise Skipped("nothing can be suggested")
        self.logic.suggest(budget=1, slices=2, wait=True)
        (case,) = self.workbench.suggesting.cases()
        numbers = self.logic.proposeSlices(case, "axial", every=5)
        assert set(case.suggestion.slices) <= set(numbers)
        self.logic.nothingInSlice(case, numbers[0])
        assert case.empty_slices == (numbers[0],)
        case.partial = ""

    def step_16_a_stroke_is_followed_and_taken_back(self):
        if self.workbench.installation.missing():
            raise Skipped("nothing can be refined")
        from SemiSegModuleLib.scene import segments, volumes

        case, labels = self.with_state("predicted")[-1], self.workbench.study.cases.labels
        self.workbench.refining.seconds = 5.0
        node = self.logic.correctPrediction(case)
        drawn = segments.voxels_on_grid(node, case.volume, labels)
        middle = drawn.shape[0] // 2
        drawn[middle, 2:12, 2:12] = 1
        segments.replace_voxels(node, drawn, volumes.ijk_to_ras(case.volume), labels)
        process = self.logic.refine(case, wait=True)
        assert process.state == "finished", process.log.tail()
        assert (segments.voxels_on_grid(node, case.volume, labels)[middle, 2:12, 2:12] == 1).all()
        self.logic.undo()
        assert (segments.voxels_on_grid(node, case.volume, labels) == drawn).all()

    def step_17_torch_is_still_not_in_this_process(self):
        self.step_01_torch_is_not_in_this_process()

    def step_18_the_module_is_reloaded_with_its_study(self):
        if not hasattr(getattr(slicer.modules, "semisegmodule", None), "widgetRepresentation"):
            raise Skipped("only the application reloads modules")
        names = [case.name for case in self.workbench.study.cases]
        slicer.util.reloadScriptedModule("SemiSegModule")
        self.widget = slicer.modules.SemiSegModuleWidget
        self.ui, self.panel, self.logic = self.widget.ui, self.widget.panel, self.widget.logic
        self.workbench = self.logic.workbench
        assert [case.name for case in self.workbench.study.cases] == names


def main():
    """In Slicer: open the module, walk, end; also where the module cannot even be opened."""
    folder = Path(sys.argv[-1])
    window = slicer.util.mainWindow()

    def picture(name):
        slicer.app.processEvents()
        window.grab().save(str(folder / f"{name}.png"))

    failed = 1
    try:
        window.resize(*WINDOW)
        slicer.util.selectModule("SemiSegModule")
        slicer.app.processEvents()
        failed = Walk(slicer.modules.semisegmodule.widgetRepresentation().self(), folder).run(picture)
    finally:
        slicer.util.exit(failed)


if __name__ == "__main__":
    main()
