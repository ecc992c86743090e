"""What the views show for a case, looked at in pictures that Slicer's own displayable managers draw."""

import numpy as np
import pytest
from drawing import draw, write_prediction

slicer = pytest.importorskip("slicer", reason="needs Slicer's libraries: pip install slicer-core==5.12.4.0")

SHAPE = (24, 48, 48)
BALL = sum((axis - 0.5 * n) ** 2 / s**2 for axis, n, s in zip(np.indices(SHAPE), SHAPE, (8, 14, 14), strict=True)) < 1


@pytest.fixture
def two_cases(table, add_volume, tmp_path):
    """Two cases at the same place with a ball predicted, with maps; the first also has a human annotation."""
    from SemiSegModuleLib.scene.predictions import load_predictions
    from SemiSegModuleLib.scene.training_files import export_cases

    flat = {"spacing": (1.0, 1.0, 2.0), "origin": (0, 0, 0), "shape": SHAPE}
    cases = [table.add_volume(add_volume(name, **flat)) for name in ("first", "second")]
    for case in cases:
        slicer.util.updateVolumeFromArray(case.volume, np.full(SHAPE, 100, np.int16))
        case.volume.CreateDefaultDisplayNodes()
        case.volume.GetDisplayNode().AutoWindowLevelOff()
        case.volume.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    export = export_cases(table, tmp_path / "data")
    for case in cases:
        image = export.images / f"{case.file_name}.nrrd"
        write_prediction(tmp_path / "out", image, BALL * 1, table.labels[:1], maps=("sdm", "probabilities"))
    load_predictions(table, tmp_path / "out")
    return cases


@pytest.fixture
def view(application):
    from offscreen_views import SliceView

    return SliceView(application, "Red", "Axial", size=(240, 240))


@pytest.fixture
def overlays(table, view):
    from SemiSegModuleLib.scene.overlays import Overlays

    return Overlays(table)


def looked_at(view, overlays, case, **settings):
    for name, value in settings.items():
        assert hasattr(overlays.settings, name)
        setattr(overlays.settings, name, value)
    overlays.show(case)
    view.fit(1.2)
    view.move_to((24, 24, 24))
    picture = view.array().astype(int)
    return picture[120, 120], picture[40, 40]


def is_grey(colour):
    return np.ptp(colour) <= 2


def test_a_mask_is_drawn_in_its_colour_over_the_scan(view, overlays, two_cases):
    inside, outside = looked_at(view, overlays, two_cases[1], mask_opacity=0.5)
    assert is_grey(outside)
    assert outside[0] > 100
    expected = 0.5 * outside + 0.5 * np.array([152, 55, 13])
    assert np.abs(inside - expected).max() < 12


def test_outline_style_leaves_the_inside_free(view, overlays, two_cases):
    inside, _ = looked_at(view, overlays, two_cases[1], mask_style="outline")
    assert is_grey(inside)
    picture = view.array().astype(int)
    assert (np.ptp(picture, axis=2) > 50).sum() > 50, "a line is drawn"


def test_hidden_masks_are_not_drawn(view, overlays, two_cases):
    looked_at(view, overlays, two_cases[1], mask_style="hidden")
    assert np.ptp(view.array().astype(int), axis=2).max() <= 2


def test_distance_map_is_blue_inside_red_outside_and_absent_far_away(view, overlays, two_cases):
    inside, outside = looked_at(
        view, overlays, two_cases[1], map="sdm", mask_style="hidden", map_opacity=1.0, sdm_range_mm=10.0, legend=False
    )
    assert inside[2] > inside[0] + 60
    assert is_grey(outside), "farther than the range: transparent"
    row = view.array().astype(int)[120]
    assert (row[:, 0] > row[:, 2] + 60).any(), "red just outside"


def test_distance_colours_are_symmetric_about_zero(overlays, two_cases):
    from SemiSegModuleLib.scene.overlays import style_sdm

    (sdm,) = two_cases[0].sdms.values()
    style_sdm(sdm, 12.0)
    display = sdm.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-12.0, 12.0)
    table = display.GetColorNode().GetLookupTable()
    middle = np.array(table.GetTableValue(127)[:3])
    assert middle.min() > 0.93, "white at 0 mm"
    first, last = np.array(table.GetTableValue(0)), np.array(table.GetTableValue(255))
    assert first[2] > 2 * first[0]
    assert last[0] > 2 * last[2]


def test_distance_range_follows_the_depth_of_the_organ(overlays, two_cases):
    from SemiSegModuleLib.scene.overlays import depth_range_mm

    (sdm,) = two_cases[0].sdms.values()
    depth = -slicer.util.arrayFromVolume(sdm).min()
    assert 10 < depth <= 15
    assert depth_range_mm(sdm) == 16.0
    slicer.util.arrayFromVolume(sdm)[:] += 20
    assert depth_range_mm(sdm) == 6.0


def test_legend_names_the_unit_and_goes_with_the_map(view, overlays, two_cases):
    settings = {"map": "sdm", "mask_style": "hidden", "map_opacity": 0.0, "sdm_range_mm": 10.0}
    looked_at(view, overlays, two_cases[1], legend=False, **settings)
    without = view.array()
    looked_at(view, overlays, two_cases[1], legend=True, **settings)
    with_legend = view.array()
    changed = np.argwhere((with_legend != without).any(axis=2))
    assert len(changed) > 500
    assert changed[:, 1].min() > 100, "on the right hand side"
    (legend,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert "mm" in legend.GetTitleText()

    view.logic.GetSliceCompositeNode().SetForegroundVolumeID(None)  # the user looks at something else
    (legend,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    legend.Modified()
    assert np.array_equal(view.array(), without)
    overlays.show(two_cases[1])
    assert np.array_equal(view.array(), with_legend), "shown again together with the map"
    looked_at(view, overlays, two_cases[1], map="none")
    assert np.ptp(view.array().astype(int), axis=2).max() <= 2


def test_probability_is_transparent_where_there_is_none(view, overlays, two_cases):
    inside, outside = looked_at(
        view, overlays, two_cases[1], map="probability", mask_style="hidden", map_opacity=1.0, legend=False
    )
    assert inside[0] > inside[2] + 40, "0.75: orange"
    assert is_grey(outside)


def test_uncertainty_is_seen_only_where_the_network_is_unsure(view, overlays, two_cases, table, tmp_path):
    """A file as `SemiSegLib.quality` writes it: certain in the corner, unsure in the middle."""
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.quality import load_quality

    case = two_cases[1]
    volumes.write_image(volumes.world_image(case.volume, BALL.astype(np.float32)), tmp_path / "map.nrrd")
    figures = {"expected_dsc": 0.9, "low": 0.8, "high": 1.0, "empty": False}
    entry = {**figures, "classes": {"left atrium": figures}, "uncertainty": str(tmp_path / "map.nrrd")}
    assert not case.maps("uncertainty")
    load_quality(table, case, entry, tmp_path / "model")
    assert case.maps("uncertainty")
    middle, corner = looked_at(
        view, overlays, case, map="uncertainty", mask_style="hidden", map_opacity=1.0, legend=False
    )
    assert is_grey(corner), "the scan itself"
    assert not is_grey(middle)
    assert middle.min() > 200, "white where it has no idea"
    overlays.settings.legend = True
    overlays.show(case)
    view.save(tmp_path / "uncertainty.png")


def test_stepping_shows_one_case_at_a_time(view, overlays, two_cases, scene):
    overlays.settings.map = "sdm"
    assert overlays.show_next() == two_cases[0]
    assert overlays.show_next() == two_cases[1]
    composite = view.logic.GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == two_cases[1].volume.GetID()
    assert composite.GetForegroundVolumeID() == two_cases[1].sdms[1].GetID()
    visible = [case.prediction.GetDisplayNode().GetVisibility() for case in two_cases]
    assert visible == [0, 1]
    legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert [legend.GetVisibility() for legend in legends] == [0, 1]
    assert overlays.show_next(-1) == two_cases[0]


def test_while_a_prediction_is_corrected_it_is_a_line_of_another_colour(view, overlays, two_cases, table):
    """What the brush took away stays to be seen against what was predicted."""
    from SemiSegModuleLib.scene.annotations import accept_prediction, make_annotation

    case = two_cases[0]
    make_annotation(table, case)
    overlays.show(case)
    accept_prediction(table, case, done=False)
    draw(table, case, 0, np.s_[:, :, :24])  # half of it is erased
    overlays.show(case)
    view.fit(1.2)
    view.move_to((24, 24, 24))
    picture = view.array().astype(int)
    line = np.abs(picture - np.array([255, 51, 255])).max(axis=2) < 40
    erased_side = line[:, :120] if line[:, :120].sum() > line[:, 120:].sum() else line[:, 120:]
    assert erased_side.sum() > 40, "the predicted boundary is drawn where the annotation has none"
    assert case.prediction.GetDisplayNode().GetSliceIntersectionThickness() == 1
    case.annotation.GetSegmentation().RemoveAllSegments()
    overlays.show(case)
    view_after = view.array().astype(int)
    assert (np.abs(view_after - np.array([255, 51, 255])).max(axis=2) < 40).sum() == 0, "alone, in its own colour"


def test_the_prediction_beside_a_human_mask_is_a_line(view, overlays, two_cases, table):
    case = two_cases[0]
    draw(table, case, 3, np.s_[8:16, 20:30, 20:30])
    overlays.show(case)
    assert case.annotation.GetDisplayNode().GetVisibility2DFill()
    assert not case.prediction.GetDisplayNode().GetVisibility2DFill()
    assert case.prediction.GetDisplayNode().GetVisibility2DOutline()
    overlays.settings.show_annotation = False
    overlays.update()
    assert not case.annotation.GetDisplayNode().GetVisibility()
    assert case.prediction.GetDisplayNode().GetVisibility2DFill()


def test_what_belongs_to_a_removed_case_is_not_drawn_over_the_others(scene, view, overlays, two_cases, table):
    first, second = two_cases
    draw(table, first, 3, np.s_[8:16, 20:30, 20:30])
    overlays.show(first)
    annotation = first.annotation
    table.remove(first)
    overlays.show(second)
    assert annotation.GetScene() is not None, "the work of a human stays"
    assert not annotation.GetDisplayNode().GetVisibility()


def test_the_last_case_removed_leaves_nothing_drawn(overlays, two_cases, table):
    first, second = two_cases
    draw(table, first, 3, np.s_[8:16, 20:30, 20:30])
    overlays.show(first)
    annotation = first.annotation
    table.remove(first)
    table.remove(second)
    overlays.show(None)
    assert not annotation.GetDisplayNode().GetVisibility()


def test_masks_that_are_loaded_wait_until_their_case_is_shown(scene, table, two_cases, tmp_path):
    """Otherwise all of them lie over each other, and over the scan at hand, until somebody steps."""
    from SemiSegModuleLib.scene.loading import add_files

    from SemiSegLib.synthetic import make_dataset

    assert not any(case.prediction.GetDisplayNode().GetVisibility() for case in two_cases)
    data = make_dataset(tmp_path / "study", cases=2, labelled=2, validation=0, size=(32, 32, 16))
    added = add_files(table, [data])
    assert [case.annotation.GetDisplayNode().GetVisibility() for case in added] == [0, 0]


def test_no_surface_is_made_unasked(overlays, two_cases):
    """Meshing waits at every step and every stroke: it is done for whoever wants to see it."""
    case = two_cases[1]
    segmentation = case.prediction.GetSegmentation()
    overlays.show(case)
    assert not segmentation.ContainsRepresentation("Closed surface")
    overlays.settings.show_3d = True
    overlays.show(case)
    assert segmentation.ContainsRepresentation("Closed surface")
    overlays.settings.show_3d = False
    overlays.show(case)
    assert not segmentation.ContainsRepresentation("Closed surface"), "a stroke would make it anew"


def test_a_deleted_case_is_no_longer_shown(scene, overlays, two_cases):
    overlays.show(two_cases[0])
    scene.RemoveNode(two_cases[0].volume)
    overlays.update()
    assert overlays.show_next() == two_cases[1]
    scene.RemoveNode(two_cases[1].volume)
    assert overlays.show_next() is None


def test_colour_tables_are_made_once(scene, overlays, two_cases):
    overlays.settings.map = "sdm"
    for _ in range(4):
        overlays.show_next()
    tables = slicer.util.getNodesByClass("vtkMRMLColorTableNode", scene)
    assert len([node for node in tables if node.GetAttribute("SemiSeg.Colors")]) == 1


def test_the_surface_is_drawn_in_3d(application, table, overlays, two_cases):
    from offscreen_views import ThreeDView

    three_d = ThreeDView(application, size=(200, 200))
    overlays.settings.show_3d = True
    overlays.show(two_cases[1])
    three_d.look_from()
    picture = three_d.array().astype(int)
    middle = picture[100, 100]
    assert middle[0] > 1.5 * middle[1] > 1.5 * middle[2], "the label's brown"
    overlays.settings.show_3d = False
    overlays.update()
    background = three_d.array().astype(int)[100, 100]
    assert background[2] > background[0]
