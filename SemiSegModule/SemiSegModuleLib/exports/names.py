"""What files that are given away are called: as the scans are, in letters that every system accepts, none twice."""

from __future__ import annotations

from collections.abc import Iterable

from ..scene.case import Case
from ..scene.case_table import CaseTable
from ..scene.file_names import safe_file_name


def stems(table: CaseTable, cases: Iterable[Case]) -> list[str]:
    """A stem for each case; the same whichever cases are exported, and a number while names are hidden."""
    named: dict[str, str] = {}
    for case in table:
        named[case.id] = case.file_name if table.names_hidden else safe_file_name(case.name, named.values())
    return [named[case.id] for case in cases]
