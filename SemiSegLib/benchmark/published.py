"""Figures that papers and repositories report for the usual splits, each with its source and protocol.

The rows are in published.csv, what their sources are in published_sources.csv.

They are here to be printed beside one's own, not to be mixed with them: all were measured on other cases (the official
test set), distances are in voxels, and "ASD" is medpy's one-directional distance or its symmetric sister, depending on
the code behind the paper. The same method differs by several points between sources. CVRL's figures are not here: no
source for them could be read.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """Where figures come from."""

    name: str
    reference: str
    protocol: str


@dataclass(frozen=True)
class Published:
    """One row: DSC and Jaccard in %, ASD and 95 % Hausdorff distance in voxels; None where not reported."""

    dataset: str
    labelled: int
    method: str
    dsc: float
    jaccard: float | None
    asd: float | None
    hd95: float | None
    source: Source


@lru_cache
def published() -> tuple[Published, ...]:
    """All rows, in the order of the file."""
    sources = {row["name"]: Source(**row) for row in _rows("published_sources.csv")}
    return tuple(_entry(row, sources) for row in _rows("published.csv"))


def published_for(dataset: str, labelled: int) -> list[Published]:
    """Rows for a preset and a number of labelled scans (patients, for cardiac-cine), grouped by source."""
    return [entry for entry in published() if (entry.dataset, entry.labelled) == (dataset, labelled)]


def _rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _entry(row: dict[str, str], sources: dict[str, Source]) -> Published:
    jaccard, asd, hd95 = (float(row[name]) if row[name] else None for name in ("jaccard", "asd", "hd95"))
    source = sources[row["source"]]
    return Published(row["dataset"], int(row["labelled"]), row["method"], float(row["dsc"]), jaccard, asd, hd95, source)
