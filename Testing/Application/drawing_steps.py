"""Steps of the walk that draw: the editor, *not sure*, a box, a turned scan, surfaces."""

import math

import numpy as np
import slicer


class DrawingSteps:
    """To be mixed into `Hands`; numbers say the order among all steps."""

    def step_11_the_editor_opens_with_the_segments_of_the_task(self):
        self._annotate(8)
        case = self.workbench.study.case
        assert self.panel.annotate.editor.segmentationNode().GetID() == case.annotation.GetID()
        assert case.annotation.GetSegmentation().GetNthSegment(0).GetName() == "left atrium"

    def _annotate(self, row):
        self.unfold("data")
        self.ui.casesTable.selectRow(row)
        self.unfold("annotate")
        self.ui.annotateButton.click()

    def step_12_strokes_and_doubts_are_painted_and_taken_back(self):
        """Both with the mouse; what is not sure is left out of what is learnt from, and undo takes strokes back."""
        from SemiSegModuleLib.scene import annotations, segments

        self.slice_widget()  # only the application has one
        case, labels, editor = self.workbench.study.case, self.workbench.study.cases.labels, self.panel.annotate.editor
        middle = _middle(case.volume)
        first = case.annotation.GetSegmentation().GetNthSegmentID(0)
        self.paint(first, middle, middle + np.array([12, 0, 0]))
        drawn = sum(segments.voxel_counts(case.annotation, labels).values())
        assert drawn > 0, "the brush drew nothing"
        assert self.ui.casesTable.item(8, 1).text() == "not done"
        self.paint(segments.NOT_SURE, middle + np.array([0, 15, 0]), middle + np.array([12, 15, 0]))
        doubts = int(segments.not_sure_on_grid(case.annotation, case.volume).sum())
        assert doubts > 0, "the brush drew no doubt"
        assert sum(segments.voxel_counts(case.annotation, labels).values()) == drawn, "a doubt is no structure"
        mask = annotations.annotation_mask(case, labels)
        assert (mask == annotations.IGNORE_VALUE).sum() == doubts
        editor.undo()
        assert not segments.not_sure_on_grid(case.annotation, case.volume).any()
        editor.undo()
        assert not case.has_drawing

    def step_13_a_box_limits_a_scan_and_can_be_pulled(self):
        self.ui.casesTable.selectRow(6)
        self.unfold("annotate")
        case = self.workbench.study.case
        self.ui.addRegionButton.click()
        whole = case.box().size
        assert case.region.GetDisplayNode().GetVisibility()
        assert " × ".join(map(str, whole)) in self.ui.regionLabel.text
        case.region.SetSize(*(0.5 * length for length in case.region.GetSize()))
        slicer.app.processEvents()
        self.boxed = case.box().size
        assert all(part < full for part, full in zip(self.boxed, whole, strict=True))
        assert " × ".join(map(str, self.boxed)) in self.ui.regionLabel.text, self.ui.regionLabel.text
        self.ui.removeRegionButton.click()
        assert case.region is None
        self.ui.addRegionButton.click()
        assert case.box().size == whole
        case.region.SetSize(*(0.5 * length for length in case.region.GetSize()))

    def step_14_a_side_of_the_box_is_pulled_with_the_mouse(self):
        widget, case = self.slice_widget(), self.cases[6]
        before = np.array(case.region.GetSize())
        middle = np.array(case.region.GetCenter())
        side = middle + np.array([before[0] / 2, 0, 0])
        self.look_at(middle)
        handle = self.on_view(widget, side)
        outwards = 1 if handle[0] > self.on_view(widget, middle)[0] else -1
        start = handle[0] + 3 * outwards, handle[1]  # on the very line of the box Slicer takes the line, which stays
        self.pull(widget, start, (start[0] + 20 * outwards, start[1]))
        after = np.array(case.region.GetSize())
        assert after[0] > before[0] + 1, f"{before} became {after}"
        case.region.SetCenter(middle)
        case.region.SetSize(*before)

    def look_at(self, place):
        slicer.modules.markups.logic().JumpSlicesToLocation(*place, True)
        self.wait(0.3)

    def step_15_what_is_drawn_on_a_turned_scan_lies_where_the_brush_was(self):
        from SemiSegModuleLib.scene.overlays import middle_of

        case = self.cases[7]
        turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turned")
        turn.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(_turned(20.0, (15.0, -10.0, 8.0))))
        case.volume.SetAndObserveTransformNodeID(turn.GetID())
        self._annotate(7)
        assert case.annotation.GetParentTransformNode() is turn
        self.slice_widget()  # only the application has one
        middle = _middle(case.volume)
        self.look_at(middle)
        self.paint(case.annotation.GetSegmentation().GetNthSegmentID(0), middle, middle)
        assert case.has_drawing, "the brush drew nothing"
        beside = np.linalg.norm(np.array(middle_of(case)) - middle)
        assert beside < 3.0, f"what was drawn lies {beside:.1f} mm beside the brush"
        self.panel.annotate.editor.undo()
        assert not case.has_drawing

    def step_17_surfaces_are_shown_and_put_away(self):
        view, case = self.three_d_view(), self.cases[0]
        self.unfold("data")
        self.ui.casesTable.selectRow(0)
        self.unfold("results")
        self.ui.show3dCheckBox.click()
        assert case.annotation.GetDisplayNode().GetVisibility3D()
        surface = case.annotation.GetClosedSurfaceInternalRepresentation(_first_segment(case.annotation))
        assert surface.GetNumberOfPoints() > 100
        slicer.util.resetThreeDViews()
        shown = self.look(view)
        self.ui.showMaskCheckBox.click()
        assert self.changed(shown, self.look(view)) > 1000, "no surface is seen"
        self.ui.showMaskCheckBox.click()
        self.ui.casesTable.selectRow(1)
        assert not case.annotation.GetDisplayNode().GetVisibility(), "the surface of another scan"
        self.ui.show3dCheckBox.click()
        representations = self.cases[1].annotation.GetSegmentation()
        assert not representations.ContainsRepresentation("Closed surface"), "every stroke would mesh it anew"

    def step_17a_a_removed_scan_comes_back_with_its_annotation(self):
        """And the editor, whose own choice then goes to the next one, to no other scan where somebody deletes that."""
        self._annotate(len(self.cases) - 1)
        case, editor = self.workbench.study.case, self.panel.annotate.editor
        volume, annotation = case.volume, case.annotation
        self.ui.removeCaseButton.click()
        assert case not in self.cases
        assert editor.segmentationNode() is not annotation
        again = self.workbench.study.cases.add_volume(volume)
        self.workbench.study.case = again
        assert again.annotation is annotation
        assert editor.segmentationNode() is annotation
        slicer.mrmlScene.RemoveNode(annotation)
        slicer.app.processEvents()
        assert editor.segmentationNode() is None
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            assert composite.GetBackgroundVolumeID() == volume.GetID()


def _first_segment(node):
    return node.GetSegmentation().GetNthSegmentID(0)


def _middle(volume):
    """The middle of a scan in the world (RAS, mm)."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    return np.array([(bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2, (bounds[4] + bounds[5]) / 2])


def _turned(degrees, shift):
    """4 x 4: a turn about the axis from feet to head, and a shift in mm."""
    matrix, angle = np.eye(4), math.radians(degrees)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:3, 3] = shift
    return matrix
