"""Which cases are of one patient: DATA/patients.json, {"scan_001": "A", "scan_002": "A", ...}.

Cases that the file does not name, or all without it, tell by their names: `patient001_frame01` and
`patient001_frame12` are of `patient001`. What is measured on a patient that was trained on would say nothing, so cases
of one patient are never divided between training and validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from SemiSegLib.data.cases import Case, CaseList, said_of_cases
from SemiSegLib.data.frames import patient_of

FILE = "patients.json"


def with_patients(cases: CaseList) -> CaseList:
    """The cases with what their patients.json says of them; raises CasesError if that means nothing."""
    wanted = 'must name the patient of each case: {"scan_001": "A", "scan_002": "A"}'
    patients = said_of_cases(cases, FILE, wanted)
    labelled, unlabelled, validation = (
        tuple(replace(case, patient=patients.get(case.name, case.patient)) for case in part)
        for part in (cases.labelled, cases.unlabelled, cases.validation)
    )
    return replace(cases, labelled=labelled, unlabelled=unlabelled, validation=validation)


def patient(case: Case) -> str:
    """Whose scan it is, as far as that is known; else the case's own name."""
    return case.patient or patient_of(case.name)


def of_other_patients(cases: Iterable[Case], others: Iterable[Case]) -> list[Case]:
    """Those of the cases that share no patient with the others."""
    taken = {patient(case) for case in others}
    return [case for case in cases if patient(case) not in taken]


def last_patients(patients: Sequence[str], count: int, accepted: Sequence[bool] = ()) -> set[str]:
    """Of cases in order, given the patient of each: the last patients that together have `count` cases, or a few more.

    :param accepted: for each case whether its mask is an accepted prediction; its patient comes after all others

    >>> sorted(last_patients(["A", "B", "C", "C"], 3)), sorted(last_patients(["A", "B", "A"], 1))
    (['B', 'C'], ['A'])
    >>> sorted(last_patients(["A", "B", "C"], 2, [False, False, True]))
    ['A', 'B']
    """
    chosen: set[str] = set()
    of_models = {name for name, own in zip(patients, accepted, strict=False) if own}
    for name in reversed(sorted(patients, key=lambda name: name not in of_models)):
        if sum(other in chosen for other in patients) >= count:
            break
        chosen.add(name)
    return chosen
