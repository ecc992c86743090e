"""Which scan, masks and maps the views show for a case; stepping through the cases.

>>> overlays = Overlays(table)                                          # doctest: +SKIP
>>> overlays.settings.map = "sdm"                                       # doctest: +SKIP
>>> overlays.show(case)                                                 # doctest: +SKIP
>>> overlays.show_next()                                                # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import slicer

from SemiSegLib.errors import SemiSegError

from . import segments
from .case import ANNOTATION_MARK, Case
from .case_table import CaseTable

SDM_COLORS = "SemiSeg signed distance"
PROBABILITY_COLORS = "SemiSeg probability"
UNCERTAINTY_COLORS = "SemiSeg uncertainty"
MAPS = ("none", "sdm", "probability", "uncertainty")
# Diverging: inside (negative) blue, boundary white, outside red; the ends and the middle of ColorBrewer's RdBu.
_DIVERGING = ((0.0, (0.02, 0.19, 0.55)), (0.25, (0.26, 0.58, 0.86)), (0.5, (0.97, 0.97, 0.97)),
              (0.75, (0.94, 0.42, 0.31)), (1.0, (0.55, 0.0, 0.10)))  # fmt: skip
_SEQUENTIAL = ((0.0, (0.0, 0.0, 0.25)), (0.35, (0.45, 0.05, 0.55)), (0.7, (0.93, 0.45, 0.20)), (1.0, (1.0, 0.98, 0.6)))
_WARNING = ((0.0, (0.15, 0.15, 0.15)), (0.4, (0.75, 0.45, 0.0)), (0.7, (1.0, 0.8, 0.1)), (1.0, (1.0, 1.0, 0.85)))
_STEPS = 256
_LINE_PIXELS = 2
_PREDICTED_LINE = (1.0, 0.2, 1.0)
RANGES_MM = (6.0, 10.0, 16.0, 20.0, 30.0)  # our choice; halves are whole numbers, as the legend shows them
_FAINTEST_PROBABILITY = 0.02
_FAINTEST_UNCERTAINTY = 0.1
_DEEPEST_MM = -1e4  # no organ is that thick


@dataclasses.dataclass
class OverlaySettings:
    """What is laid over the scan. Opacities from 0 to 1.

    :param mask_style: 'fill and outline', 'outline', 'fill' or 'hidden'
    :param show_3d: also as surfaces, which takes a moment for every case and every stroke of the brush
    :param map: 'none', 'sdm', 'probability' or 'uncertainty'
    :param label: value of the label whose map is shown; 0: the first there is
    :param sdm_range_mm: the colours reach from minus to plus this distance, farther outside nothing is drawn;
        0: chosen from the depth of the organ
    :param fit: bring the whole scan into view when another case is shown
    """

    mask_style: str = "fill and outline"
    mask_opacity: float = 0.5
    show_annotation: bool = True
    show_prediction: bool = True
    show_3d: bool = False
    map: str = "none"
    map_opacity: float = 0.5
    label: int = 0
    sdm_range_mm: float = 0.0
    legend: bool = True
    fit: bool = True


class Overlays:
    """Shows one case at a time. The settings are read at every `show`."""

    def __init__(self, table: CaseTable, settings: OverlaySettings | None = None) -> None:
        self.table = table
        self.settings = settings or OverlaySettings()
        self.current: Case | None = None

    def show(self, case: Case | None) -> None:
        """Show the case's scan with its masks and the chosen map; what belongs to other cases is hidden."""
        moved = case != self.current
        self.current = case
        self._hide_others(case)
        if case is None:
            return
        map_node = self._map_node(case)
        self._show_masks(case, beside_map=map_node is not None)
        set_slice_layers(self.table.scene, case.volume, map_node, self.settings.map_opacity)
        self._show_map(map_node)  # after the layers: a view draws the legend of what it shows at that moment
        if moved:  # later the user decides, in the Data or Markups module
            show_region(case.region, True)
        if moved and self.settings.fit:
            fit_views()

    def show_next(self, step: int = 1) -> Case | None:
        """Go `step` cases further, round the end; returns the case shown, None without cases."""
        case = self.table.next(self.current, step)
        if case is not None:
            self.show(case)
        return case

    def update(self) -> None:
        """Apply changed settings to the case shown, if it is still there."""
        if self.current is not None and self.current in self.table.cases:
            self.show(self.current)

    def _hide_others(self, shown: Case | None) -> None:
        self._hide_segmentations(shown)
        for case in self.table:
            if case == shown:
                continue
            show_region(case.region, False)
            for node in _maps_of(case):
                _hide_legend(node)

    def _hide_segmentations(self, shown: Case | None) -> None:
        """Of other cases, and of those that have left the table, whose annotations are still in the scene."""
        kept = {node.GetID() for node in (shown.annotation, shown.prediction) if node is not None} if shown else set()
        own = [node for case in self.table for node in (case.annotation, case.prediction) if node is not None]
        former = [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode", self.table.scene)
                  if node.GetAttribute(ANNOTATION_MARK)]  # fmt: skip
        for node in (*own, *former):
            if node.GetID() not in kept and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(False)

    def _show_masks(self, case: Case, beside_map: bool) -> None:
        settings = self.settings
        if beside_map and settings.mask_style == "fill and outline":  # a fill would hide the colours of the map
            settings = dataclasses.replace(settings, mask_style="outline")
        both = settings.show_annotation and settings.show_prediction and case.has_drawing and case.prediction
        if case.annotation is not None:
            show_mask(case.annotation, settings if settings.show_annotation else None)
        if case.prediction is not None:
            # Beside a human's filled mask the prediction is a thin line of another colour: what the brush changed
            # can be seen.
            style = "outline" if both and settings.mask_style != "hidden" else settings.mask_style
            wanted = dataclasses.replace(settings, mask_style=style, show_3d=settings.show_3d and not both)
            show_mask(case.prediction, wanted if settings.show_prediction else None)
            _set_apart(case.prediction, bool(both))

    def _map_node(self, case: Case):
        maps = case.maps(self.settings.map) if self.settings.map != "none" else {}
        return maps.get(self.settings.label) or next(iter(maps.values()), None)

    def _show_map(self, map_node) -> None:
        case = self.current
        for node in _maps_of(case):
            if map_node is None or node.GetID() != map_node.GetID():
                _hide_legend(node)
        if map_node is None:
            return
        if self.settings.map == "sdm":
            style_sdm(map_node, self.settings.sdm_range_mm or depth_range_mm(map_node))
            legend = "Distance\n[mm]", "%+.3g"
        elif self.settings.map == "uncertainty":
            style_uncertainty(map_node)
            legend = "Uncertainty", "%.2f"
        else:
            style_probability(map_node)
            legend = "Probability", "%.2f"
        if self.settings.legend:
            show_legend(map_node, *legend)
        else:
            _hide_legend(map_node)


def _maps_of(case: Case) -> list:
    return [node for kind in MAPS[1:] for node in case.maps(kind).values()]


def set_slice_layers(scene, background, foreground=None, foreground_opacity: float = 0.5) -> None:
    """Put volumes into all slice views; the label layer is emptied. Works with and without the application."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene):
        composite.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(foreground_opacity if foreground is not None else 0.0)
        composite.SetLabelVolumeID(None)


def fit_views() -> None:
    """Bring the background volume into view where there are views of the application."""
    application = getattr(slicer, "app", None)
    manager = application.layoutManager() if application is not None else None
    if manager is None:
        return
    logics = manager.mrmlSliceLogics()
    for number in range(logics.GetNumberOfItems()):
        logics.GetItemAsObject(number).FitSliceToBackground()
    slicer.util.resetThreeDViews()


def jump_to(case: Case, place: Sequence[float] | None = None) -> None:
    """Move all slice views to a place in the world (RAS, mm); without one, to the middle of what is drawn."""
    place = middle_of(case) if place is None else place
    if place is not None:
        slicer.modules.markups.logic().JumpSlicesToLocation(*place, True)


def middle_of(case: Case) -> tuple[float, float, float] | None:
    """The middle of the slice with most of the case's mask, in the world (RAS, mm); None where nothing is drawn."""
    node = case.shown_segmentation()
    try:
        place = segments.middle(node) if node is not None else None
        to_world = segments.world_matrix(node) if place is not None else None
    except SemiSegError:  # below a non-linear transform
        return None
    return None if place is None else tuple(float(part) for part in (to_world @ [*place, 1.0])[:3])


def show_mask(segmentation_node, settings: OverlaySettings | None) -> None:
    """Show a segmentation as the settings say, or hide it when they are None."""
    segmentation_node.CreateDefaultDisplayNodes()
    display = segmentation_node.GetDisplayNode()
    visible = settings is not None and settings.mask_style != "hidden"
    display.SetVisibility(visible)
    if not visible:
        return
    display.SetVisibility2DFill("fill" in settings.mask_style)
    display.SetVisibility2DOutline("outline" in settings.mask_style)
    display.SetOpacity2DFill(settings.mask_opacity)
    display.SetOpacity2DOutline(1.0)
    display.SetSliceIntersectionThickness(_LINE_PIXELS)
    display.SetVisibility3D(settings.show_3d)
    if settings.show_3d:
        segmentation_node.CreateClosedSurfaceRepresentation()
    elif segmentation_node.GetSegmentation().GetSourceRepresentationName() == segments.BINARY:
        segmentation_node.RemoveClosedSurfaceRepresentation()  # which every stroke would make anew


def _set_apart(segmentation_node, apart: bool) -> None:
    """Draw the outline of a mask thin and in a colour that no label has by default, or as always."""
    display = segmentation_node.GetDisplayNode()
    for identifier in segmentation_node.GetSegmentation().GetSegmentIDs():
        if apart:
            display.SetSegmentOverrideColor(identifier, *_PREDICTED_LINE)
        else:
            display.UnsetSegmentOverrideColor(identifier)
    display.SetSliceIntersectionThickness(1 if apart else _LINE_PIXELS)


def show_region(roi_node, visible: bool) -> None:
    """Show or hide a region of interest, if there is one."""
    if roi_node is not None and roi_node.GetDisplayNode() is not None:
        roi_node.GetDisplayNode().SetVisibility(visible)


def style_sdm(volume_node, range_mm: float) -> None:
    """Colours of a signed distance map: white at 0 mm, equally far to both sides, transparent farther outside."""
    display = _display_of(volume_node)
    display.SetAndObserveColorNodeID(_color_table(volume_node.GetScene(), SDM_COLORS, _DIVERGING).GetID())
    _set_range(display, -range_mm, range_mm, faintest=_DEEPEST_MM, strongest=range_mm)


def style_probability(volume_node) -> None:
    """Colours of a probability map from 0 to 1; transparent where it is next to nothing."""
    display = _display_of(volume_node)
    display.SetAndObserveColorNodeID(_color_table(volume_node.GetScene(), PROBABILITY_COLORS, _SEQUENTIAL).GetID())
    _set_range(display, 0.0, 1.0, faintest=_FAINTEST_PROBABILITY, strongest=1.0)


def style_uncertainty(volume_node) -> None:
    """Colours of an uncertainty map from 0 (certain) to 1 (no idea); transparent where the network is sure."""
    display = _display_of(volume_node)
    display.SetAndObserveColorNodeID(_color_table(volume_node.GetScene(), UNCERTAINTY_COLORS, _WARNING).GetID())
    _set_range(display, 0.0, 1.0, faintest=_FAINTEST_UNCERTAINTY, strongest=1.0)


def depth_range_mm(volume_node) -> float:
    """A range for `style_sdm` that holds the organ's depth, among `RANGES_MM`."""
    depth = -float(np.nanmin(slicer.util.arrayFromVolume(volume_node)))
    return next((reach for reach in RANGES_MM if reach >= depth), RANGES_MM[-1])


def show_legend(volume_node, title: str, label_format: str) -> None:
    """A colour legend in the slice views."""
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volume_node)
    legend.SetTitleText(title)
    legend.SetLabelFormat(label_format)
    legend.SetNumberOfLabels(5)
    legend.SetSize(0.12, 0.5)
    legend.SetPosition(0.97, 0.5)
    legend.SetVisibility(True)
    legend.Modified()  # the views look again, even if nothing about the legend itself is new


def _hide_legend(volume_node) -> None:
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(volume_node)
    if legend is not None:
        legend.SetVisibility(False)


def _display_of(volume_node):
    volume_node.CreateDefaultDisplayNodes()
    return volume_node.GetDisplayNode()


def _set_range(display, low: float, high: float, faintest: float, strongest: float) -> None:
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, high)
    display.AutoThresholdOff()
    display.SetThreshold(faintest, strongest)
    display.ApplyThresholdOn()
    display.InterpolateOn()


def _color_table(scene, name: str, stops: Sequence[tuple[float, tuple[float, float, float]]]):
    """The colour table of this name, made once in a scene and saved with it."""
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode", scene):
        if node.GetAttribute("SemiSeg.Colors") == name:
            return node
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetAttribute("SemiSeg.Colors", name)
    node.SetNumberOfColors(_STEPS)
    positions, colors = [stop[0] for stop in stops], np.array([stop[1] for stop in stops])
    for number in range(_STEPS):
        rgb = [np.interp(number / (_STEPS - 1), positions, colors[:, part]) for part in range(3)]
        node.SetColor(number, f"{number}", *(float(part) for part in rgb), 1.0)
    return scene.AddNode(node)
