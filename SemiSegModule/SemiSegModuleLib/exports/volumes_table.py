"""A table of the volumes of all labels, for a spreadsheet.

>>> export_volumes_csv(table, table.cases, folder / "volumes.csv")      # doctest: +SKIP
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from SemiSegLib.config import Label

from ..scene import segments
from ..scene.case import Case
from ..scene.case_table import CaseTable
from ..scene.names_list import write_list
from .choice import of_slices_alone, refuse_existing, refuse_strays, segmentation_of

_EXPECTED = ("expected DSC", "expected DSC low", "expected DSC high")


def export_volumes_csv(
    table: CaseTable, cases: Iterable[Case], path: Path, source: str = "best", overwrite: bool = False
) -> Path:
    """Write a table: scan, patient, stem of its files, state, source of the mask, the volume in ml of each label, empty
    without a mask or where only slices of it are there, and what is known of how good it is.

    :raises FilesExist: and nothing is written
    :raises ExportError: a mask shows no label of the task
    :raises CaseError: it cannot be replaced
    """
    path = Path(path)
    refuse_existing([path], overwrite)
    labels, chosen = table.labels, list(cases)
    refuse_strays(chosen, source, labels)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    amounts = [f"{label.name} [ml]" for label in labels]
    writer.writerow(["scan", "patient", "file", "state", "mask", *amounts, "confidence", "DSC", *_EXPECTED])
    for case in chosen:
        writer.writerow(_volumes_row(case, labels, source))
    write_list(path, text.getvalue())
    return path


def _volumes_row(case: Case, labels: Sequence[Label], source: str) -> list[str]:
    node = segmentation_of(case, source)
    whole = node is not None and not of_slices_alone(case, source)
    measured = segments.volumes_ml(node, labels) if whole else {}
    origin = _origin(case, node)
    amounts = [f"{measured[label.value]:.3f}" if label.value in measured else "" for label in labels]
    rated = (case.confidence, case.dsc) if origin == "prediction" else (None, None)
    expected = case.expected_of(node)
    rated += (expected.dsc, expected.low, expected.high) if expected is not None else (None, None, None)
    rating = ["" if value is None else f"{value:.3f}" for value in rated]
    return [case.scan_name, case.patient, case.file_name, case.state.value, origin, *amounts, *rating]


def _origin(case: Case, node) -> str:
    """Where a mask is from, or why there is none."""
    if case.excluded:
        return ""
    if node is not None and node is case.prediction:
        return "prediction"
    if case.unfinished:
        return "annotation, not marked as done"
    if node is not None and case.partial:
        return f"annotation of {case.partial} slices alone"
    return "annotation" if node is not None else ""
