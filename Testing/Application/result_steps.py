"""Steps of the walk that train and predict, and look at what comes of it."""

import numpy as np
import slicer
from hands import Skipped

LEFT_RUNNING = 5000  # iterations: more than are done until the second start looks


class ResultSteps:
    """To be mixed into `Hands`; numbers say the order among all steps."""

    def step_20_a_training_starts_stops_and_goes_on(self):
        self.needs_packages()
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

    def step_21_all_scans_are_predicted(self):
        if self.workbench.study.model is None:
            raise Skipped("no model was trained")
        process = self.logic.predict()
        self.wait_until(lambda: not process.active)
        assert process.state == "finished", process.failure
        assert len(self.with_state("predicted")) == 4

    def predicted(self):
        """Scans with a prediction; skips the step where there are none."""
        if not self.with_state("predicted"):
            raise Skipped("nothing was predicted")
        return self.with_state("predicted")

    def step_22_masks_and_maps_lie_on_their_scans(self):
        """Also on the scan that is turned, and on the one with a box, of which a part was predicted alone."""
        from SemiSegModuleLib.scene import segments, volumes

        for case in self.predicted():
            assert case.prediction.GetParentTransformNode() is case.volume.GetParentTransformNode()
            (part,) = case.predicted_parts
            assert part == case.box(), f"{case.name}: {part}"
            expected = segments.world_matrix(case.volume) @ volumes.ijk_to_ras(case.volume)
            expected[:3, 3] = (expected @ [*part.start, 1.0])[:3]
            for node in (*case.sdms.values(), *case.probabilities.values()):
                place = segments.world_matrix(node) @ volumes.ijk_to_ras(node)
                assert np.allclose(place, expected, atol=1e-3), f"{node.GetName()} lies elsewhere"

    def step_23_a_correction_is_shown_and_exported_once_it_is_done(self):
        case = self.predicted()[0]
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

    def step_24_a_ready_model_says_what_dsc_to_expect(self):
        self.needs_packages()
        process = self.logic.predict(model="left-atrium-lge", wait=True)
        assert process.state == "finished", process.log.tail()
        self.wait_until(lambda: all(case.expected_dsc is not None for case in self.with_state("predicted")))
        expected = [case.expected_dsc for case in self.logic.review() if case.expected_dsc is not None]
        assert expected == sorted(expected)

    def step_25_distances_are_shown_over_the_scan(self):
        from SemiSegModuleLib.scene.overlays import jump_to

        case = next((case for case in self.predicted() if case.sdms and not case.has_drawing), None)
        if case is None:
            raise Skipped("the model makes no distance maps")
        widget = self.slice_widget()
        self.workbench.study.case = case
        self.unfold("results")
        jump_to(case)
        before = self.look(widget.sliceView())
        assert self.ui.showSdmCheckBox.enabled
        self.ui.showSdmCheckBox.click()
        (distances,) = case.sdms.values()
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            assert composite.GetForegroundVolumeID() == distances.GetID()
            assert composite.GetForegroundOpacity() == self.widget._parameterNode.sdmOpacity
        shown = self.look(widget.sliceView())
        assert self.changed(before, shown) > 1000, "no colours are seen"
        assert slicer.modules.colors.logic().GetColorLegendDisplayNode(distances).GetVisibility()
        self.drag(self.ui.sdmOpacitySlider, 0.1)
        assert self.changed(shown, self.look(widget.sliceView())) > 1000, "the slider changes nothing"
        self.drag(self.ui.sdmOpacitySlider, 0.5)

    def step_26_distances_are_put_away(self):
        case = self.workbench.study.case
        if not self.ui.showSdmCheckBox.checked:
            raise Skipped("no distances are shown")
        widget = self.slice_widget()
        shown = self.look(widget.sliceView())
        self.ui.showSdmCheckBox.click()
        (distances,) = case.sdms.values()
        assert all(
            composite.GetForegroundVolumeID() is None
            for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        )
        assert not slicer.modules.colors.logic().GetColorLegendDisplayNode(distances).GetVisibility()
        assert self.changed(shown, self.look(widget.sliceView())) > 1000, "the colours stay"

    def step_27_the_review_shows_name_expected_dsc_and_state(self):
        """In the dock as narrow as it goes."""
        self.predicted()
        self.ui.reviewButton.click()
        try:
            self.wait(0.5)
            table = self.ui.reviewTable
            seen = [column for column in (1, 2) if not table.isColumnHidden(column)]
            for column in seen:
                end = table.columnViewportPosition(column) + table.columnWidth(column)
                assert end <= table.viewport().width, f"column {column} ends at {end} of {table.viewport().width}"
            assert self.below(self.ui.reviewWidget) < 40, f"{self.below(self.ui.reviewWidget)} pixels are left below"
            window = slicer.util.mainWindow()
            if window is not None:
                window.grab().save(str(self.folder / "review.png"))
        finally:
            self.ui.reviewCloseButton.click()

    def step_28_scans_and_slices_to_annotate_next_are_named(self):
        self.needs_packages()
        self.logic.suggest(budget=1, slices=2, wait=True)
        (case,) = self.workbench.suggesting.cases()
        numbers = self.logic.proposeSlices(case, "axial", every=5)
        assert set(case.suggestion.slices) <= set(numbers)
        self.logic.nothingInSlice(case, numbers[0])
        assert case.empty_slices == (numbers[0],)
        case.partial = ""

    def step_29_a_stroke_is_followed_and_taken_back(self):
        self.needs_packages()
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

    def step_31_the_module_is_reloaded_with_its_study(self):
        if not hasattr(getattr(slicer.modules, "semisegmodule", None), "widgetRepresentation"):
            raise Skipped("only the application reloads modules")
        names = [case.name for case in self.cases]
        slicer.util.reloadScriptedModule("SemiSegModule")
        self.take(slicer.modules.SemiSegModuleWidget)
        assert [case.name for case in self.cases] == names

    def step_32_a_training_is_left_running(self):
        """For the second start of Slicer; the scene is saved while it runs."""
        self.needs_packages()
        process = self.logic.train(method="mean-teacher", settings={"training.iterations": LEFT_RUNNING})
        self.wait_until(lambda: process.status.iteration >= 1 or not process.active)
        assert process.active, process.failure
        assert slicer.util.saveScene(str(self.folder / "left.mrb"))
