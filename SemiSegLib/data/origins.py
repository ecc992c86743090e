"""How masks came about, and how often each is trained on: DATA/origins.json, {"scan_001": "accepted", ...}.

drawn      by a person; so is every mask that the file does not name
corrected  a prediction that a person has corrected
accepted   a prediction that a person has looked at and left as it is: its errors are the model's own, which training
           on them confirms, so it is drawn half as often (a choice)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from SemiSegLib.data.cases import CaseList, CasesError, listed

FILE = "origins.json"
SHARES = {"drawn": 1.0, "corrected": 1.0, "accepted": 0.5}
"""How often a mask is trained on, compared with a drawn one."""


def with_origins(cases: CaseList) -> CaseList:
    """The cases with what their origins.json says of their masks; raises CasesError if that means nothing."""
    file = cases.root / FILE
    if not file.is_file():
        return cases
    origins = _read(file)
    unknown = sorted(set(origins) - {case.name for case in cases})
    if unknown:
        raise CasesError(f"{file}: names cases that are not there: {listed(unknown)}")
    labelled = tuple(replace(case, origin=origins.get(case.name, case.origin)) for case in cases.labelled)
    return replace(cases, labelled=labelled)


def _read(file: Path) -> dict[str, str]:
    try:
        origins = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CasesError(f"{file}: not readable as JSON: {error}") from error
    wrong = [name for name, origin in origins.items() if origin not in SHARES] if isinstance(origins, dict) else [file]
    if wrong:
        raise CasesError(f"{file}: a mask is one of {', '.join(SHARES)}; not so: {listed(wrong)}")
    return origins


def turns(origins: Sequence[str]) -> list[int]:
    """Indices of cases as often as each has its turn: once each if all came about alike.

    >>> turns(["drawn", "accepted", "corrected"])
    [0, 0, 1, 2, 2]
    """
    least = min((SHARES[origin] for origin in origins), default=1.0)
    return [index for index, origin in enumerate(origins) for _ in range(round(SHARES[origin] / least))]
