"""The cells' results as pictures: DSC against the number of labelled scans, and against the time of training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.benchmark.results import CellResult
from SemiSegLib.benchmark.tables import Row, groups
from SemiSegLib.report import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart with every kind of colour vision; markers tell them apart without colour.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#999999")
MARKERS = "osD^vP*X"


def draw(cells: Iterable[CellResult], folder: Path) -> list[Path]:
    """Write two PNG files for each data set, split and budget that has scores; returns them."""
    studies: dict[tuple[str, str, str], dict[int, list[Row]]] = {}
    for group, rows in groups(cells).items():
        scored = [row for row in rows if row.scores("dsc")]
        if scored:
            studies.setdefault((group.dataset, group.split, group.budget), {})[group.labelled] = scored
    written = []
    for (dataset, split, budget), by_count in studies.items():
        name = "-".join(part for part in (dataset, split, budget) if part)
        title = f"{dataset}, budget {budget}" + (f", split {split}" if split else "")
        styles = _styles(by_count)
        for kind, panel in (("labelled", _against_labelled), ("time", _against_time)):
            figure = new_figure(7.2, 4.2 + 0.1 * len(styles))
            axes = figure.add_subplot()
            if not panel(axes, by_count, styles):
                continue
            axes.set_title(title, fontsize=10)
            axes.set_ylabel("DSC [%]")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
            written.append(folder / f"{name}-{kind}.png")
            save_figure(figure, written[-1])
    return written


def _against_labelled(axes: Axes, by_count: Mapping[int, Sequence[Row]], styles: Mapping[str, tuple[str, str]]) -> bool:
    """One line for each method: mean over seeds, bars of one sample sd, single seeds as small points."""
    counts = sorted(by_count)
    for place, (name, (colour, marker)) in enumerate(styles.items()):
        rows = {count: row for count in counts for row in by_count[count] if row.name == name}
        scores = {count: values for count, row in rows.items() if (values := _percent(row))}
        shift = (place - (len(styles) - 1) / 2) * 0.06  # side by side, or bars would hide each other
        across = [counts.index(count) + shift for count in scores]
        means = [statistics.fmean(values) for values in scores.values()]
        sds = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in scores.values()]
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6, "capsize": 3, "linewidth": 1.2}
        axes.errorbar(across, means, sds, label=name, **look)
        for x, values in zip(across, scores.values(), strict=True):
            axes.plot([x + 0.02] * len(values), values, ".", color=colour, markersize=5)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_xlim(-0.6, len(counts) - 0.4)
    axes.set_xlabel("labelled scans (bars: sample sd over seeds)")
    return True


def _against_time(axes: Axes, by_count: Mapping[int, Sequence[Row]], styles: Mapping[str, tuple[str, str]]) -> bool:
    """One point for each method and labelled count; whether there is any: older cells know no time."""
    drawn: set[str] = set()
    for count, rows in by_count.items():
        for row in rows:
            values, minutes = _percent(row), row.minutes()
            if not values or not minutes:
                continue
            colour, marker = styles[row.name]
            x, y = statistics.fmean(minutes), statistics.fmean(values)
            label = None if row.name in drawn else row.name
            axes.plot([x], [y], marker, color=colour, markersize=7, label=label)
            drawn.add(row.name)
            if len(by_count) > 1:
                axes.annotate(str(count), (x, y), (5, 4), textcoords="offset points", fontsize=7, color=colour)
    note = " (numbers: labelled scans)" if len(by_count) > 1 else ""
    axes.set_xlabel(f"training [min], mean over seeds{note}")
    return bool(drawn)


def _percent(row: Row) -> list[float]:
    """DSC of each seed where it is defined."""
    return [100 * value for value in row.scores("dsc").values() if not math.isnan(value)]


def _styles(by_count: Mapping[int, Sequence[Row]]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method, in the table's order."""
    names = list(dict.fromkeys(row.name for rows in by_count.values() for row in rows))
    shifted = [i + i // len(COLOURS) for i in range(len(names))]  # a colour that comes again has another marker
    return {
        name: (COLOURS[i % len(COLOURS)], MARKERS[j % len(MARKERS)])
        for i, (name, j) in enumerate(zip(names, shifted, strict=True))
    }
