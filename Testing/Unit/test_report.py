"""Tables, and pictures that show the right voxels the right way round and in true proportions."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from scipy import ndimage

from SemiSegLib.data.distance import label_distances
from SemiSegLib.metrics import METRICS, summarise
from SemiSegLib.report import (
    View,
    _curve_panel,
    _explain,
    case_figure,
    case_rows,
    curve_points,
    curves_figure,
    markdown_table,
    new_figure,
    score_header,
    summary_rows,
    text_table,
)


def scores(value):
    return dict.fromkeys(METRICS, value)


def test_text_table_lines_up():
    lines = text_table(["case", "DSC"], [["a", "9.5"], ["longer", "100.25"]]).splitlines()
    assert lines == ["case       DSC", "------  ------", "a          9.5", "longer  100.25"]


def test_markdown_table_escapes_bars():
    assert markdown_table(["case", "DSC"], [["a|b", "1"]]).splitlines() == [
        "| case | DSC |",
        "| --- | ---: |",
        "| a\\|b | 1 |",
    ]


def test_overlap_is_given_in_percent_and_distances_as_they_are():
    assert case_rows({"x": {"organ": scores(0.5)}}) == [["x", "50.00", "50.00", "0.50", "0.50", "0.50", "0.50"]]
    assert score_header()[:4] == ["case", "DSC [%]", "Jaccard [%]", "HD95 [mm]"]


def test_undefined_values_are_dashes_and_are_counted():
    cases = {"x": {"organ": scores(math.nan)}, "y": {"organ": scores(0.2)}, "z": {"organ": scores(0.4)}}
    assert case_rows(cases)[0][1:] == ["–"] * 6
    assert summary_rows(summarise(list(cases.values())))[0][3] == "0.30 ± 0.14 (1 undefined)"


def test_classes_are_named_when_there_are_several():
    assert [row[0] for row in case_rows({"x": {"a": scores(0), "b": scores(1)}})] == ["x, a", "x, b"]


def corner_volume(*corner):
    """Zeros with a one in one corner; axes run to the patient's left, back and head."""
    volume = np.zeros((4, 5, 6))
    volume[corner] = 1
    return volume


BOX = (slice(0, 4), slice(0, 5), slice(0, 6))


@pytest.mark.parametrize(
    ("view", "corner", "row", "column"),
    [
        (View("axial", 2, 5, 0, 1, "RLAP", BOX, (1, 1, 1)), (3, 0, 5), 0, 3),  # left, front: top right
        (View("coronal", 1, 0, 0, 2, "RLSI", BOX, (1, 1, 1)), (3, 0, 5), 0, 3),  # left, head: top right
        (View("sagittal", 0, 3, 1, 2, "APSI", BOX, (1, 1, 1)), (3, 4, 0), 5, 4),  # back, feet: bottom right
    ],
)
def test_views_are_radiological(view, corner, row, column):
    picture = view.cut(corner_volume(*corner))
    assert picture[row, column] == 1
    assert picture.sum() == 1


def test_views_show_their_box_in_mm():
    box = (slice(1, 4), slice(2, 5), slice(1, 6))
    view = View("coronal", 1, 3, 0, 2, "RLSI", box, (2.0, 1.0, 3.0))
    assert view.cut(np.zeros((4, 5, 6))).shape == (5, 3)
    assert view.extent == (6.0, 15.0)


def test_a_cube_is_square_in_every_view_whatever_its_voxels(tmp_path):
    spacing = (1.0, 2.0, 2.5)
    image = np.zeros((100, 60, 40))
    image[30:70, 20:40, 12:28] = 1000  # 40 mm along every axis
    case_figure(image, None, None, None, spacing, {}, tmp_path / "cube.png")
    picture = imread(tmp_path / "cube.png")
    bright = (picture[:, picture.shape[1] // 2 :, :3] > 0.6).all(axis=2)  # the outlines' column has no letters
    parts, _ = ndimage.label(bright)
    boxes = ndimage.find_objects(parts)
    inner = [
        (b[0].stop - b[0].start, b[1].stop - b[1].start)
        for b in boxes
        if b[0].start > 0 and b[1].start > 0 and b[0].stop < bright.shape[0] and b[1].stop < bright.shape[1]
    ]
    cubes = sorted(inner, key=lambda size: size[0] * size[1])[-3:]
    heights = [height for height, _ in cubes]
    assert min(heights) > 50
    assert all(height == pytest.approx(width, rel=0.04) for height, width in cubes)
    assert max(heights) == pytest.approx(min(heights), rel=0.04)


def has_colour(picture, hexadecimal):
    wanted = [int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return (np.abs(picture[..., :3] - wanted).max(axis=2) < 0.02).any()


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 8)])
def test_outlines_of_reference_and_prediction_are_drawn(tmp_path, spacing):
    reference = np.zeros((40, 40, 20), dtype=np.uint8)
    reference[10:30, 10:30, 5:15] = 1
    reference[15:25, 15:25, 5:15] = 2
    image = np.random.default_rng(0).random(reference.shape)
    labels = {"a": 1, "b": 2}
    prediction = np.roll(reference, 3, axis=0)
    maps = label_distances(prediction, (1, 2), spacing)
    case_figure(image, reference, prediction, maps, spacing, labels, tmp_path / "both.png", "case")
    both = imread(tmp_path / "both.png")
    assert has_colour(both, "#E69F00")
    assert has_colour(both, "#56B4E9")
    case_figure(image, None, prediction, maps[0], spacing, labels, tmp_path / "one.png")
    assert not has_colour(imread(tmp_path / "one.png"), "#E69F00")


def test_empty_masks_unknown_distances_and_single_slices_still_give_a_picture(tmp_path):
    image = np.zeros((20, 24, 1))
    nothing = np.zeros(image.shape, dtype=np.uint8)
    unknown = np.full(image.shape, np.nan)
    case_figure(image, nothing, nothing, unknown, (1, 1, 5), {"a": 1}, tmp_path / "empty.png")
    assert imread(tmp_path / "empty.png").ndim == 3


def test_names_are_shown_as_they_are(tmp_path):
    """What stands between two dollar signs is a formula to Matplotlib, and most names are none."""
    mask = np.zeros((20, 24, 8), dtype=np.uint8)
    mask[5:10, 5:10, 2:6] = 1
    labels = {"$liver_{$": 1}
    case_figure(mask, mask, mask, None, (1, 1, 2), labels, tmp_path / "case.png", "A$1_^$ and $2_^$")
    assert imread(tmp_path / "case.png").ndim == 3


EVENTS = [
    {"event": "state", "state": "training"},
    {"event": "iteration", "iteration": 10, "losses": {"dice": 0.5, "contrast": 5.0}, "total": 3.0},
    {"event": "validation", "iteration": 10, "dsc": 0.25},
    {"event": "iteration", "iteration": 20, "losses": {"dice": 0.4, "sdm": None}, "total": None},
]


def test_curves_are_taken_from_events():
    assert curve_points(EVENTS) == {
        "total loss": [(10, 3.0)],
        "dice": [(10, 0.5), (20, 0.4)],
        "contrast": [(10, 5.0)],
        "validation DSC [%]": [(10, 25.0)],
    }


@pytest.mark.parametrize("events", [EVENTS, []])
def test_curves_become_a_picture(tmp_path, events):
    curves_figure(events, tmp_path / "curves.png")
    assert has_colour(imread(tmp_path / "curves.png"), "#0072B2") == bool(events)


def test_the_best_validation_is_written_below_the_title():
    figure = new_figure(3.6, 2.5)
    axes = figure.add_subplot()
    _curve_panel(axes, "validation DSC [%]", np.array([(10, 70.0), (20, 90.0)]))
    FigureCanvasAgg(figure).draw()
    [best] = axes.texts
    assert best.get_text() == "90.0"
    assert best.get_window_extent().y1 < axes.get_window_extent().y1


def test_pictures_leave_pyplot_alone():
    code = (
        "import sys, tempfile, numpy\nfrom pathlib import Path\nfrom SemiSegLib.report import case_figure\n"
        "file = Path(tempfile.mkdtemp()) / 'a.png'\n"
        "case_figure(numpy.zeros((8, 8, 8)), None, None, None, (1, 1, 1), {}, file)\n"
        "assert file.exists() and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_scores_of_many_classes_stay_within_the_picture():
    figure = new_figure(10, 7)
    mask = np.zeros((4, 4, 4), np.uint8)
    organs = {f"organ number {value}": value for value in range(1, 13)}
    _explain(figure, {"prediction": mask, "reference": mask}, organs)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
