"""How masks came about, and how often each is trained on: DATA/origins.json, {"scan_001": "accepted", ...}.

drawn      by a person; so is every mask that the file does not name
corrected  a prediction that a person has corrected
accepted   a prediction that a person has looked at and left as it is: its errors are the model's own, which training
           on them confirms, so it is drawn half as often (a choice)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from SemiSegLib.data.cases import CaseList, CasesError, listed, said_of_cases

FILE = "origins.json"
SHARES = {"drawn": 1.0, "corrected": 1.0, "accepted": 0.5}
"""How often a mask is trained on, compared with a drawn one."""


def with_origins(cases: CaseList) -> CaseList:
    """The cases with what their origins.json says of their masks; raises CasesError if that means nothing."""
    wanted = f"must say how each mask came about, as one of {', '.join(SHARES)}"
    origins = said_of_cases(cases, FILE, wanted)
    wrong = [name for name, origin in origins.items() if origin not in SHARES]
    if wrong:
        raise CasesError(f"{cases.root / FILE}: {wanted}; not so: {listed(wrong)}")
    labelled = tuple(replace(case, origin=origins.get(case.name, case.origin)) for case in cases.labelled)
    return replace(cases, labelled=labelled)


def turns(origins: Sequence[str]) -> list[int]:
    """Indices of cases as often as each has its turn: once each if all came about alike.

    >>> turns(["drawn", "accepted", "corrected"])
    [0, 0, 1, 2, 2]
    """
    least = min((SHARES[origin] for origin in origins), default=1.0)
    return [index for index, origin in enumerate(origins) for _ in range(round(SHARES[origin] / least))]
