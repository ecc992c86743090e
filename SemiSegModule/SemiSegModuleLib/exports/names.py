"""What files that are given away are called: as the scans are, in letters that every system accepts, none twice."""

from __future__ import annotations

from collections.abc import Iterable

from ..scene.case import Case
from ..scene.case_table import CaseTable
from ..scene.file_names import safe_file_name


def stems(table: CaseTable, cases: Iterable[Case], by_patient: bool = False) -> list[str]:
    """A stem for each case; the same whichever cases are exported, and a number while names are hidden.

    :param by_patient: `patient/scan`, a folder for each patient of the subject hierarchy, also where two have one name,
        or for each sequence; any other scan has a folder of its own
    """
    named: dict[str, str] = {}
    folders = _folders(table) if by_patient else {}
    for case in table:
        name = case.scan_name if by_patient else case.name
        stem = case.file_name if table.names_hidden else name
        folder = f"{folders[case.id]}/" if by_patient else ""
        taken = [other.removeprefix(folder) for other in named.values() if other.startswith(folder)]
        named[case.id] = folder + (stem if table.names_hidden else safe_file_name(stem, taken))
    return [named[case.id] for case in cases]


def _folders(table: CaseTable) -> dict[str, str]:
    """Name of the patient's folder by case."""
    of_patient: dict[str, str] = {}
    folders = {}
    for case in table:
        patient = case.patient_key
        if patient not in of_patient:
            number = f"patient_{len(of_patient) + 1:03d}"
            named = safe_file_name(case.patient_name, of_patient.values())
            of_patient[patient] = number if table.names_hidden else named
        folders[case.id] = of_patient[patient]
    return folders
