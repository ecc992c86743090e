"""What files that are given away are called: as the scans are, in letters that every system accepts, none twice, and
never as those of another scan were called before."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ..scene.case import Case
from ..scene.case_table import CaseTable
from ..scene.file_names import loses_letters, safe_file_name


def stems(table: CaseTable, cases: Iterable[Case], by_patient: bool = False) -> list[str]:
    """A stem for each case; the same whichever cases are exported, and a number while names are hidden. Where a name
    alone does not say which case that is, the start of the case's identifier follows it.

    :param by_patient: `patient/scan`, a folder for each patient of the subject hierarchy, also where two have one name,
        or for each sequence; any other scan has a folder of its own
    """
    given = table.given_names
    named: dict[str, str] = {}
    folders = _folders(table, given) if by_patient else {}
    for case in table:
        folder = f"{folders[case.id]}/" if by_patient else ""
        taken = {stem.casefold() for stem in named.values()}

        def free(stem: str, case: Case = case, taken: set[str] = taken) -> bool:
            return stem not in taken and given.get(stem, case.identifier) == case.identifier

        shown = case.scan_name if by_patient else case.name
        choices = [folder + name for name in _choices(case.file_name if table.names_hidden else shown, case)]
        choices.sort(key=lambda stem: stem.casefold() not in given)  # as its files are called already
        named[case.id] = _first(choices, free)
    return [named[case.id] for case in cases]


def give(table: CaseTable, cases: Sequence[Case], names: Sequence[str]) -> None:
    """Files of these cases are called so: no other case of the study has these names from now on."""
    owners = {name.casefold(): case.identifier for case, name in zip(cases, names, strict=True)}
    table.given_names = {**table.given_names, **owners}


def _folders(table: CaseTable, given: Mapping[str, str]) -> dict[str, str]:
    """Name of the patient's folder by case."""
    of_patient: dict[str, list[Case]] = defaultdict(list)
    for case in table:
        of_patient[case.patient_key].append(case)
    owners: dict[str, set[str]] = defaultdict(set)
    for stem, owner in given.items():
        owners[stem.rpartition("/")[0]].add(owner)
    named: dict[str, str] = {}
    for patient, cases in of_patient.items():
        own, taken = {case.identifier for case in cases}, {name.casefold() for name in named.values()}

        def free(name: str, own: set[str] = own, taken: set[str] = taken) -> bool:
            return name not in taken and (not owners.get(name) or bool(owners[name] & own))

        numbers = (f"patient_{number:03d}" for number in itertools.count(1))
        named[patient] = _first(numbers if table.names_hidden else _choices(cases[0].patient_name, cases[0]), free)
    return {case.id: named[patient] for patient, cases in of_patient.items() for case in cases}


def _choices(name: str, case: Case) -> Iterator[str]:
    """What a file of the case may be called, the best first; a name that loses letters says of too many who it is."""
    plain = safe_file_name(name)
    if not loses_letters(name):
        yield plain
    yield f"{plain}_{case.identifier[:6]}"
    yield f"{plain}_{case.identifier}"


def _first(choices: Iterable[str], free: Callable[[str], bool]) -> str:
    """The first that is free, whether in small letters or not: that makes no difference on Windows and macOS."""
    return next(name for name in choices if free(name.casefold()))
