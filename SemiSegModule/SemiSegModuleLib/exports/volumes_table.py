"""A table of the volumes of all labels, for a spreadsheet.

>>> export_volumes_csv(table, table.cases, folder / "volumes.csv")      # doctest: +SKIP
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from SemiSegLib.config import Label
from SemiSegLib.runs import write_whole

from ..scene import segments
from ..scene.case import Case
from ..scene.case_table import CaseTable
from .choice import refuse_existing, segmentation_of


def export_volumes_csv(
    table: CaseTable, cases: Iterable[Case], path: Path, source: str = "best", overwrite: bool = False
) -> Path:
    """Write a table: case, state, source of the mask, and the volume in ml of each label; empty without a mask.

    :raises FilesExist: and nothing is written
    """
    path = Path(path)
    refuse_existing([path], overwrite)
    labels = table.labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "state", "mask", *(f"{label.name} [ml]" for label in labels), "quality", "measure"])
    for case in cases:
        writer.writerow(_volumes_row(case, labels, source))
    write_whole(path, "\ufeff" + text.getvalue())  # the mark makes Excel read UTF-8
    return path


def _volumes_row(case: Case, labels: Sequence[Label], source: str) -> list[str]:
    node = segmentation_of(case, source)
    measured = segments.volumes_ml(node, labels) if node is not None else {}
    origin = "" if node is None else _origin(case, node)
    amounts = [f"{measured[label.value]:.3f}" if label.value in measured else "" for label in labels]
    quality = case.quality if origin == "prediction" else None
    rating = [f"{quality.value:.3f}", quality.measure] if quality else ["", ""]
    return [case.name, case.state.value, origin, *amounts, *rating]


def _origin(case: Case, node) -> str:
    if node is case.prediction:
        return "prediction"
    return "annotation" if case.done else "annotation, not marked as done"
