"""Which cases are of one patient: DATA/patients.json, {"scan_001": "A", "scan_002": "A", ...}.

Cases that the file does not name, or all without it, tell by their names: `patient001_frame01` and
`patient001_frame12` are of `patient001`. What is measured on a patient that was trained on would say nothing, so cases
of one patient are never divided between training and validation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from SemiSegLib.data.cases import Case, CaseList, CasesError, listed
from SemiSegLib.data.frames import patient_of

FILE = "patients.json"


def with_patients(cases: CaseList) -> CaseList:
    """The cases with what their patients.json says of them; raises CasesError if that means nothing."""
    file = cases.root / FILE
    if not file.is_file():
        return cases
    patients = _read(file)
    unknown = sorted(set(patients) - {case.name for case in cases})
    if unknown:
        raise CasesError(f"{file}: names cases that are not there: {listed(unknown)}")
    labelled, unlabelled, validation = (
        tuple(replace(case, patient=patients.get(case.name, case.patient)) for case in part)
        for part in (cases.labelled, cases.unlabelled, cases.validation)
    )
    return replace(cases, labelled=labelled, unlabelled=unlabelled, validation=validation)


def _read(file: Path) -> dict[str, str]:
    try:
        patients = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CasesError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(patients, dict) or not all(isinstance(patient, str) and patient for patient in patients.values()):
        raise CasesError(f'{file}: must name the patient of each case: {{"scan_001": "A", "scan_002": "A"}}')
    return patients


def patient(case: Case) -> str:
    """Whose scan it is, as far as that is known; else the case's own name."""
    return case.patient or patient_of(case.name)


def of_other_patients(cases: Iterable[Case], others: Iterable[Case]) -> list[Case]:
    """Those of the cases that share no patient with the others."""
    taken = {patient(case) for case in others}
    return [case for case in cases if patient(case) not in taken]


def last_patients(patients: Sequence[str], count: int) -> set[str]:
    """Of cases in order, given the patient of each: the last patients that together have `count` cases, or a few more.

    >>> sorted(last_patients(["A", "B", "C", "C"], 3)), sorted(last_patients(["A", "B", "A"], 1))
    (['B', 'C'], ['A'])
    """
    chosen: set[str] = set()
    for name in reversed(patients):
        if sum(other in chosen for other in patients) >= count:
            break
        chosen.add(name)
    return chosen
