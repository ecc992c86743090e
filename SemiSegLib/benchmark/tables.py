"""The cells' results as Markdown: one section for each data set, split, budget and labelled count.

Every score of a cell is a mean over its validation cases (over the classes of a case first, undefined values left
out); the table gives mean ± sample sd of the cells' scores over the seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from SemiSegLib.benchmark.cells import Variant
from SemiSegLib.benchmark.paired import case_scores, paired
from SemiSegLib.benchmark.published import Published, published_for
from SemiSegLib.benchmark.results import CellResult, recipe
from SemiSegLib.presets import PRESET_TITLES
from SemiSegLib.report import markdown_table

METRICS = {  # title, factor
    "dsc": ("DSC [%]", 100.0),
    "jaccard": ("Jaccard [%]", 100.0),
    "assd_mm": ("ASSD [mm]", 1.0),
    "hd95_mm": ("HD95 [mm]", 1.0),
}
# Baselines, then by the year of the paper; methods that are not named come last.
ORDER = tuple(
    [
        "supervised",
        "mean-teacher",
        "ua-mt",
        "secl",
        "cvrl",
        "simcvd",
        "action",
        "bcp",
        "unimatch",
        "ad-mt",
        "self-training",
    ]
)
BASELINE = "supervised"
ALL_CLASSES = "all classes"  # the summary's average over several classes
NOTHING = "–"


@dataclass(frozen=True)
class Group:
    """What one table compares."""

    dataset: str
    split: str
    budget: str
    labelled: int

    @property
    def heading(self) -> str:
        """Of its section."""
        title = PRESET_TITLES.get(self.dataset, self.dataset).split(":")[0]
        split = f", split {self.split}" if self.split else ""
        return f"{title}; budget {self.budget}{split}, {self.labelled} labelled"


@dataclass(frozen=True)
class Row:
    """The cells of one variant that differ in nothing but the seed."""

    name: str
    cells: tuple[CellResult, ...]

    def scores(self, metric: str, label: str | None = None) -> dict[int, float]:
        """Score of each seed, of one class or (None) of the mean over classes; NaN where undefined."""
        return {cell["seed"]: score(cell, metric, label) for cell in self.cells if cell["validation"]}

    def case_scores(self) -> dict[int, dict[str, float]]:
        """DSC of each validation case for each seed."""
        return {cell["seed"]: case_scores(cell) for cell in self.cells if cell["validation"]}

    def seeds(self) -> list[int]:
        """In order."""
        return sorted(cell["seed"] for cell in self.cells)

    def minutes(self) -> list[float]:
        """Of training, for each cell where it was measured."""
        return [c["training_seconds"] / 60 for c in self.cells if c["training_seconds"] is not None]

    def gigabytes(self) -> list[float]:
        """Peak memory of the training, of the GPU if there was one, for each cell where it was measured."""
        peaks = (cell["peak_device_memory_bytes"] or cell["peak_memory_bytes"] for cell in self.cells)
        return [peak / 1e9 for peak in peaks if peak]


def score(cell: Mapping[str, Any], metric: str, label: str | None = None) -> float:
    """Mean of a metric over a cell's validation cases; of one class, or (None) of the mean over classes."""
    value = _summary(cell, label)[metric]["mean"]
    return math.nan if value is None else value


def undefined(cell: Mapping[str, Any], metric: str) -> int:
    """Values, one for each validation case and class, that are undefined: prediction or reference is empty."""
    return _summary(cell, None)[metric]["undefined"]


def classes(cell: Mapping[str, Any]) -> list[str]:
    """Names of the foreground classes."""
    return [label["name"] for label in cell["settings"]["data"]["labels"]]


def groups(cells: Iterable[CellResult]) -> dict[Group, list[Row]]:
    """Cells by table and row, both in order."""
    by_group: dict[Group, list[CellResult]] = {}
    for cell in cells:
        key = Group(cell["dataset"], cell["split"], cell["budget"], cell["labelled"])
        by_group.setdefault(key, []).append(cell)
    order = sorted(by_group, key=lambda group: (group.dataset, group.split, group.budget, group.labelled))
    return {group: _rows(by_group[group]) for group in order}


def tables(cells: Iterable[CellResult], published: bool = False) -> str:
    """All sections, with the literature's figures under each if `published`."""
    sections = []
    for group, rows in groups(cells).items():
        parts = [f"## {group.heading}", _facts(rows), method_table(rows)]
        names = classes(rows[0].cells[0])
        if len(names) > 1:
            parts += ["DSC [%] of each class:", class_table(rows, names)]
        literature = published_for(group.dataset, group.labelled) if published else []
        if literature:
            parts += [published_table(literature)]
        sections.append("\n\n".join(parts))
    return "\n\n".join(sections) + "\n"


def method_table(rows: Sequence[Row]) -> str:
    """Rows: methods. The difference to `supervised` is paired case by case over the seeds that both have, with its
    95 % interval over cases (see paired.py)."""
    header = ["method", *(title for title, _ in METRICS.values()), f"DSC − {BASELINE}"]
    header += ["training [min]", "peak memory [GB]", "seeds"]
    baseline = _baseline(rows)
    lines = []
    for row in rows:
        scores = [mean_and_sd(row.scores(m).values(), factor) + _left_out(row, m) for m, (_, factor) in METRICS.items()]
        resources = [_mean(row.minutes(), ".1f"), _mean(row.gigabytes(), ".2f")]
        lines.append([row.name, *scores, _gain(row, baseline), *resources, ", ".join(map(str, row.seeds()))])
    return markdown_table(header, lines)


def class_table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Rows: methods; columns: DSC of each class."""
    lines = [[row.name, *(mean_and_sd(row.scores("dsc", name).values(), 100.0) for name in names)] for row in rows]
    return markdown_table(["method", *names], lines)


def published_table(entries: Sequence[Published]) -> str:
    """The literature's figures, each with its source and its protocol."""
    header = ["published", "DSC [%]", "Jaccard [%]", "ASD [voxel]", "HD95 [voxel]", "source"]
    lines = [
        [e.method, *(NOTHING if v is None else f"{v:g}" for v in (e.dsc, e.jaccard, e.asd, e.hd95)), e.source.name]
        for e in entries
    ]
    sources = {entry.source.name: entry.source for entry in entries}
    notes = "\n".join(f"* {name}: {source.reference} {source.protocol}" for name, source in sources.items())
    caution = "Published, of other test cases and with distances in voxels; figures differ between sources:"
    return f"{caution}\n\n{markdown_table(header, lines)}\n\n{notes}"


def mean_and_sd(values: Iterable[float], factor: float = 1.0) -> str:
    """Mean ± sample sd of what is defined; the mean alone of a single value."""
    known = [factor * value for value in values if not math.isnan(value)]
    if not known:
        return NOTHING
    sd = f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.2f}{sd}"


def _rows(cells: Sequence[CellResult]) -> list[Row]:
    """One row for each variant; where cells of a variant differ in more than the seed, one for each recipe."""
    rows = []
    for variant in sorted({cell["variant"] for cell in cells}, key=_place):
        recipes: list[tuple[dict[str, Any], list[CellResult]]] = []
        for cell in sorted((c for c in cells if c["variant"] == variant), key=lambda c: c["seed"]):
            known = next((members for settings, members in recipes if settings == recipe(cell)), None)
            if known is None:
                recipes.append((recipe(cell), [cell]))
            else:
                known.append(cell)
        for settings, members in recipes:
            rows.append(Row(Variant.parse(variant).name + _unlike(settings, [r for r, _ in recipes]), tuple(members)))
    return rows


def _unlike(settings: Mapping[str, Any], all_settings: Sequence[Mapping[str, Any]]) -> str:
    """The settings that tell a recipe from the others of its variant."""
    keys = [key for key in settings if any(other[key] != settings[key] for other in all_settings)]
    return f" [{', '.join(f'{key}={settings[key]}' for key in keys)}]" if keys else ""


def _place(variant: str) -> tuple[int, str]:
    method = variant.partition(":")[0]
    return ORDER.index(method) if method in ORDER else len(ORDER), variant


def _summary(cell: Mapping[str, Any], label: str | None) -> Mapping[str, Any]:
    summary = cell["validation"]["summary"]
    return summary[label or (ALL_CLASSES if ALL_CLASSES in summary else next(iter(summary)))]


def _facts(rows: Sequence[Row]) -> str:
    """What all rows have in common, and which of it a row's name may change."""
    cell = rows[0].cells[0]
    training, data, cases = cell["settings"]["training"], cell["settings"]["data"], cell["cases"]
    patch, spacing = ("×".join(map(str, sides)) for sides in (training["patch_size"], data["spacing"]))
    alike = all(_size(other) == _size(cell) for row in rows for other in row.cells)
    averaged = " and, within a scan, over the classes" if len(data["labels"]) > 1 else ""
    return (
        f"{cases['labelled']} labelled and {cases['unlabelled']} unlabelled scans, {cases['validation']} to validate "
        f"with (never trained on); {training['iterations']} iterations of {training['labelled_batch']} + "
        f"{training['unlabelled_batch']} patches of {patch} voxels, voxels of {spacing} mm (0: as in the scan)"
        f"{'' if alike else ', where a row does not name others'}; last model, scored on the scans' own "
        f"grids. Mean ± sample sd over the seeds of the mean over the validation scans{averaged}."
    )


def _size(cell: Mapping[str, Any]) -> list[Any]:
    """What `_facts` tells of a cell's training."""
    training = cell["settings"]["training"]
    keys = ("iterations", "labelled_batch", "unlabelled_batch", "patch_size")
    return [cell["settings"]["data"]["spacing"], *(training[key] for key in keys)]


def _baseline(rows: Sequence[Row]) -> Row | None:
    """The row that others are compared with: supervised training as it is, else its first variant."""
    supervised = [row for row in rows if row.cells[0]["method"] == BASELINE]
    return next((row for row in supervised if row.name == BASELINE), supervised[0] if supervised else None)


def _gain(row: Row, baseline: Row | None) -> str:
    if baseline is None or row is baseline:
        return NOTHING
    difference = paired(row.case_scores(), baseline.case_scores())
    return NOTHING if difference is None else str(difference)


def _left_out(row: Row, metric: str) -> str:
    count = sum(undefined(cell, metric) for cell in row.cells if cell["validation"])
    return f" ({count} undefined)" if count else ""


def _mean(values: Iterator[float] | Sequence[float], form: str) -> str:
    values = list(values)
    return f"{statistics.fmean(values):{form}}" if values else NOTHING
