"""Tables and pictures of results: scores as text or Markdown, a case with its outlines and SDM, training curves."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SemiSegLib.data.distance import bounding_box
from SemiSegLib.files import write_whole
from SemiSegLib.metrics import METRICS, CaseMetrics, Statistics, dice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with every kind of colour vision, and bright enough for dark scans.
OUTLINES = {"reference": ("#E69F00", 2.2), "prediction": ("#56B4E9", 1.1)}  # colour, width in points
STRIP_INCHES = 1.6  # height of the small pictures, at 150 dots an inch
STRIP_LINES = 1.5  # their outlines are thicker: a page shows them at two thirds of their size
CURVE_COLOUR = "#0072B2"
MARGIN_MM = 25.0  # shown around the masks
SDM_COLOURS = "coolwarm"
_LETTERS_AN_INCH = 14  # of 8 points, wide ones among them
EDGES = (  # left, right, top and bottom of a picture: place of a letter, and how it is aligned there
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.97, "center", "top"),
    (0.5, 0.03, "center", "bottom"),
)
PERCENT = ("dsc", "jaccard")


# ---- tables -----------------------------------------------------------------------------------------------


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns lined up for a terminal: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    cells = ([cell.replace("|", "\\|") for cell in row] for row in (header, rule, *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def score_header(first: str = "case") -> list[str]:
    """Column titles of `case_rows` and `summary_rows`; overlaps are given in %."""
    return [first, *(f"{title} [%]" if metric in PERCENT else title for metric, title in METRICS.items())]


def case_rows(cases: Mapping[str, CaseMetrics]) -> list[list[str]]:
    """One row for each case and class; the class is named when there are several."""
    several = len({name for scores in cases.values() for name in scores}) > 1
    return [
        [f"{case}, {name}" if several else case, *(_number(metric, values[metric]) for metric in METRICS)]
        for case, scores in cases.items()
        for name, values in scores.items()
    ]


def summary_rows(summary: Mapping[str, Mapping[str, Statistics]]) -> list[list[str]]:
    """One row for each class: mean ± sd, and how many values were left out because they are undefined."""
    return [[name, *(_mean_and_sd(metric, part[metric]) for metric in METRICS)] for name, part in summary.items()]


def _number(metric: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.2f}" if metric in PERCENT else f"{value:.2f}"


def _mean_and_sd(metric: str, statistics: Statistics) -> str:
    text = _number(metric, statistics["mean"])
    if not math.isnan(statistics["sd"]):
        text += f" ± {_number(metric, statistics['sd'])}"
    return text + (f" ({statistics['undefined']:.0f} undefined)" if statistics["undefined"] else "")


# ---- pictures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """One slice of a volume in LPS order, as it is shown.

    `across` and `down` are the volume's axes that run along the picture, `letters` what its left, right, top and
    bottom edge are in the patient, `box` the part of the volume that is shown.
    """

    name: str
    axis: int
    index: int
    across: int
    down: int
    letters: str
    box: tuple[slice, ...]
    spacing: tuple[float, ...]

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in mm."""
        sizes = [(part.stop - part.start) * side for part, side in zip(self.box, self.spacing, strict=True)]
        return sizes[self.across], sizes[self.down]

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """The picture, rows from top to bottom; the patient's head is always at the top."""
        where = [*self.box]
        where[self.axis] = slice(self.index, self.index + 1)
        picture = np.moveaxis(volume[tuple(where)], (self.down, self.across, self.axis), (0, 1, 2))[..., 0]
        return picture[::-1] if self.down == 2 else picture


def case_figure(
    image: np.ndarray,
    reference: np.ndarray | None,
    prediction: np.ndarray | None,
    sdm: np.ndarray | None,
    spacing: Sequence[float],
    labels: Mapping[str, int],
    path: Path,
    title: str = "",
) -> None:
    """A picture of one case: the scan, reference and prediction as outlines, the signed distance map.

    Three orthogonal slices where the masks are largest; three axial ones when the slices are thick. Radiological
    display: the patient's left is on the right, letters at the edges say so. Sizes are true in mm.

    :param image: (x, y, z) in LPS order, that is x to the left, y to the back, z to the head, as
        `SemiSegLib.data.geometry.canonical` gives
    :param reference: integer mask on the same grid; None when there is none
    :param prediction: as `reference`
    :param sdm: signed distances in mm, (x, y, z), or (class, x, y, z): then the nearest class is shown; None
        leaves the column out
    :param spacing: mm along x, y, z
    :param labels: name and value of each foreground class to outline
    :param path: PNG file to write, whole
    :param title: above the picture
    """
    image, spacing = np.asarray(image), tuple(map(float, spacing))
    masks = _masks(reference, prediction, labels)
    views = _choose_views(_anywhere(masks, image.shape), spacing)
    if sdm is not None and sdm.ndim == 4:
        sdm = np.fmin.reduce(sdm, axis=0)
    figure, panels = _panels(views, 2 if sdm is None else 3)
    window = np.percentile(image, (1, 99.5))
    for view, row in zip(views, panels, strict=True):
        for axes in row[:2]:
            _show_scan(axes, view, image, window)
        _show_outlines(row[1], view, masks)
        if sdm is not None:
            _show_sdm(row[2], view, sdm)
    _label_panels(panels, views)
    _explain(figure, masks, labels)
    if sdm is not None:
        _colour_bar(figure, [row[2] for row in panels])
    figure.suptitle(title, fontsize=11, parse_math=False)  # a name's "$" begins no formula
    save_figure(figure, path)


def strip_picture(
    image: np.ndarray,
    reference: np.ndarray | None,
    prediction: np.ndarray,
    spacing: Sequence[float],
    labels: Mapping[str, int],
) -> bytes:
    """A small WebP picture of one case for a page of many: three slices side by side with outlines, as `case_figure`.

    Arguments as there; 10 to 30 kB.
    """
    from matplotlib.figure import Figure

    spacing = tuple(map(float, spacing))
    masks = _masks(reference, prediction, labels)
    views = _choose_views(_anywhere(masks, image.shape), spacing)
    window = np.percentile(image, (1, 99.5))
    widths = [min(max(view.extent[0] / view.extent[1], 0.4), 2.5) for view in views]
    figure = Figure(figsize=(STRIP_INCHES * sum(widths), STRIP_INCHES), facecolor="black")
    for view, width, left in zip(views, widths, np.cumsum([0.0, *widths]), strict=False):
        axes = figure.add_axes((left / sum(widths), 0.0, width / sum(widths) - 0.004, 1.0))
        _show_scan(axes, view, image, window)
        _show_outlines(axes, view, masks, STRIP_LINES)
    return _rendered(figure, "webp", 150)


def curves_figure(events: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Training curves from a run's events: the total loss, every named term and the validation DSC.

    Each has its own axes, since their scales differ by orders of magnitude; noisy terms get a running median.

    :param events: of a run (`RunFolder.history`); "iteration" and "validation" events are used
    :param path: PNG file to write, whole
    """
    curves = curve_points(events)
    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = new_figure(3.6 * columns, 2.5 * rows)
    for number, (name, points) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        _curve_panel(axes, name, np.asarray(points, dtype=float).reshape(-1, 2))
    save_figure(figure, path)


def curve_points(events: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Points (iteration, value) by name, in the order: total, terms as they first appear, validation DSC."""
    curves: dict[str, list[tuple[float, float]]] = {"total loss": []}
    validation: list[tuple[float, float]] = []
    for event in events:
        if event.get("event") == "iteration":
            for name, value in {"total loss": event.get("total"), **event.get("losses", {})}.items():
                if value is not None:
                    curves.setdefault(name, []).append((event["iteration"], value))
        elif event.get("event") == "validation" and event.get("dsc") is not None:
            validation.append((event["iteration"], 100 * event["dsc"]))
    return {**curves, "validation DSC [%]": validation}


def _masks(
    reference: np.ndarray | None, prediction: np.ndarray | None, labels: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Those masks that there are, everything but the labels being background."""
    return {
        name: np.where(np.isin(mask, list(labels.values())), mask, 0)
        for name, mask in (("reference", reference), ("prediction", prediction))
        if mask is not None
    }


def _anywhere(masks: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.any([mask > 0 for mask in masks.values()], axis=0) if masks else np.zeros(shape, dtype=bool)


def _choose_views(shown: np.ndarray, spacing: tuple[float, ...]) -> list[View]:
    box = _field_of_view(shown, spacing)
    areas = [shown.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    x, y, z = (int(np.argmax(area)) if area.any() else len(area) // 2 for area in areas)
    if spacing[2] > 3 * min(spacing[:2]):
        occupied = np.flatnonzero(areas[2]) if areas[2].any() else np.arange(shown.shape[2])
        picks = [int(occupied[round(share * (len(occupied) - 1))]) for share in (0.75, 0.5, 0.25)]
        return [View("axial", 2, pick, 0, 1, "RLAP", box, spacing) for pick in dict.fromkeys(picks)]
    return [
        View("axial", 2, z, 0, 1, "RLAP", box, spacing),
        View("coronal", 1, y, 0, 2, "RLSI", box, spacing),
        View("sagittal", 0, x, 1, 2, "APSI", box, spacing),
    ]


def _field_of_view(shown: np.ndarray, spacing: Sequence[float]) -> tuple[slice, ...]:
    if not shown.any():
        return tuple(slice(0, n) for n in shown.shape)
    grown = (round(MARGIN_MM / s) for s in spacing)
    return tuple(
        slice(max(part.start - more, 0), min(part.stop + more, n))
        for part, more, n in zip(bounding_box(shown), grown, shown.shape, strict=True)
    )


def _panels(views: Sequence[View], columns: int) -> tuple[Figure, list[list[Axes]]]:
    width, heights = max(view.extent[0] for view in views), [view.extent[1] for view in views]
    figure = new_figure(3.0 * columns + 1.0, 3.0 * sum(heights) / width + 1.2)
    grid = figure.add_gridspec(len(views), columns, height_ratios=heights)
    return figure, [[figure.add_subplot(grid[r, c]) for c in range(columns)] for r in range(len(views))]


def _show_scan(axes: Axes, view: View, image: np.ndarray, window: np.ndarray) -> None:
    low, high = window
    extent = (0, view.extent[0], view.extent[1], 0)
    axes.imshow(view.cut(image), cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    axes.set_axis_off()


def _show_outlines(axes: Axes, view: View, masks: Mapping[str, np.ndarray], thickness: float = 1.0) -> None:
    for name, mask in masks.items():
        colour, width = OUTLINES[name]
        picture = view.cut(mask)
        for value in np.unique(picture[picture > 0]):
            _contour(axes, view, (picture == value).astype(float), 0.5, colour, thickness * width)


def _contour(axes: Axes, view: View, picture: np.ndarray, level: float, colour: str, width: float) -> None:
    if min(picture.shape) < 2 or not picture.min() < level < picture.max():
        return
    down, across = (
        (np.arange(n) + 0.5) * view.spacing[a] for n, a in zip(picture.shape, (view.down, view.across), strict=True)
    )
    axes.contour(across, down, picture, levels=[level], colors=colour, linewidths=width)


def _show_sdm(axes: Axes, view: View, sdm: np.ndarray) -> None:
    picture, limit = np.ma.masked_invalid(view.cut(sdm)), _sdm_limit(sdm)
    extent = (0, view.extent[0], view.extent[1], 0)
    axes.imshow(picture, cmap=SDM_COLOURS, vmin=-limit, vmax=limit, extent=extent)
    _contour(axes, view, picture, 0.0, "black", 1.3)
    axes.set_facecolor("0.6")  # where the distance is not known
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _sdm_limit(sdm: np.ndarray) -> float:
    """Symmetric colour range in mm: half as much again as the mask is deep, in steps of 5 mm."""
    deepest = -float(np.nanmin(sdm)) if np.isfinite(sdm).any() else 0.0
    return 5.0 * max(1, math.ceil(1.5 * deepest / 5))


def _label_panels(panels: Sequence[Sequence[Axes]], views: Sequence[View]) -> None:
    from matplotlib.patheffects import withStroke

    readable: dict[str, Any] = {"color": "white", "fontsize": 7}
    readable["path_effects"] = [withStroke(linewidth=1.5, foreground="black")]
    for axes, text in zip(panels[0], ("scan", "outlines", "signed distance"), strict=False):
        axes.set_title(text, fontsize=9)
    for view, row in zip(views, panels, strict=True):
        place: dict[str, Any] = {"transform": row[0].transAxes}
        for letter, (x, y, across, down) in zip(view.letters, EDGES, strict=True):
            row[0].text(x, y, letter, ha=across, va=down, **place, **readable)
        text = f"{view.name}, slice {view.index + 1}"
        row[0].text(-0.03, 0.5, text, rotation=90, ha="right", va="center", fontsize=8, **place)
    width, height = views[0].extent
    axes = panels[0][0]
    axes.plot([0.04 * width, 0.04 * width + 20], [0.93 * height] * 2, color="white", linewidth=2)
    axes.text(0.04 * width + 10, 0.91 * height, "20 mm", ha="center", va="bottom", **readable)


def _explain(figure: Figure, masks: Mapping[str, np.ndarray], labels: Mapping[str, int]) -> None:
    """Below the pictures: whose outline is whose, the DSC of each class, which side is which."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=OUTLINES[name][0], linewidth=2, label=name) for name in masks]
    text = "Radiological display: the patient's left is on the right of the picture."
    if len(masks) == 2:
        prediction, reference = masks["prediction"], masks["reference"]
        scores = (f"{name} {100 * dice(prediction == v, reference == v):.1f} %" for name, v in labels.items())
        text = f"DSC of this scan: {', '.join(scores)}. {text}"
    legend = figure.legend(
        handles=lines,
        title=textwrap.fill(text, int(_LETTERS_AN_INCH * figure.get_figwidth())),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
    )
    legend.get_title().set_parse_math(False)


def _colour_bar(figure: Figure, panels: Sequence[Axes]) -> None:
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), extend="both", shrink=0.6, pad=0.02, panchor=False)
    bar.set_label("signed distance [mm], negative inside", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.ax.axhline(0, color="black", linewidth=1.3)


def _curve_panel(axes: Axes, name: str, points: np.ndarray) -> None:
    axes.set_title(name, fontsize=9)
    axes.set_xlabel("iteration", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if not len(points):
        axes.text(0.5, 0.5, "none yet", transform=axes.transAxes, ha="center", va="center", color="0.5")
        return
    smooth = _running_median(points[:, 1])
    if name.startswith("validation"):
        axes.plot(*points.T, "o-", color=CURVE_COLOUR, markersize=3, linewidth=1.2)
        axes.margins(y=0.2)  # room for the number above the highest point
        best = points[np.argmax(points[:, 1])]
        axes.annotate(
            f"{best[1]:.1f}",
            best,
            fontsize=7,
            ha="center",
            va="bottom",
            xytext=(0, 3),
            textcoords="offset points",
        )
        return
    axes.plot(*points.T, color=CURVE_COLOUR, alpha=0.3, linewidth=0.8)
    axes.plot(points[:, 0], smooth, color=CURVE_COLOUR, linewidth=1.5)


def _running_median(values: np.ndarray) -> np.ndarray:
    half = len(values) // 40
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def new_figure(width: float, height: float) -> Figure:
    """Without pyplot, whose global state a GUI or another thread may be using."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file, whole."""
    write_whole(Path(path), _rendered(figure, "png", 150))


def _rendered(figure: Figure, format: str, dpi: int) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format=format, dpi=dpi)
    return content.getvalue()
