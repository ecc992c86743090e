"""Whose files these are: a study, its cases and each prediction have identifiers that no two share.

Names of files are no proof: every study has a scan_001. So an `identity.json` lies beside scans that were written and
masks that were predicted, and nothing is loaded that belongs to another study, another case or another prediction.

    {"study": "…", "prediction": "…", "cases": {"scan_001": "…"}, "places": {"scan_001": {…}}}

It also says where each scan was in the world when its file was written: transforms may change before a mask comes.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from SemiSegLib.runs import write_json

from .case import Case, CaseError
from .volumes import Place

FILE = "identity.json"


def new_identifier() -> str:
    """An identifier that nobody else has."""
    return uuid.uuid4().hex


def write_identity(
    folder: Path, study: str, cases: Iterable[Case], places: Mapping[str, Place], prediction: str = ""
) -> None:
    """Say whose the files in a folder are, and where their scans were; `places` by the stems of the files."""
    content = {"study": study, "prediction": prediction, "cases": {case.file_name: case.identifier for case in cases}}
    content["places"] = {stem: dataclasses.asdict(place) for stem, place in places.items()}
    write_json(Path(folder) / FILE, content)


def check_identity(folder: Path, study: str, case: Case, prediction: str = "") -> Place | None:
    """Where the scan was when the files were written; None where an earlier version did not say.

    :raises CaseError: the files do not belong to this case of this study (and to this prediction)
    """
    path = Path(folder) / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        owner, made, cases = content["study"], content["prediction"], content["cases"]
        place = content.get("places", {}).get(case.file_name)
    except (OSError, ValueError, KeyError, TypeError):
        problem = f"Nobody knows whose masks {folder} holds ({FILE} is missing or damaged): predict again."
        raise CaseError(problem) from None
    if owner != study or cases.get(case.file_name) != case.identifier:
        raise CaseError(f"{folder} belongs to another study: its mask is not that of '{case.name}' and is not loaded.")
    if prediction and made != prediction:
        raise CaseError(f"{folder} holds another prediction than the one that was started: predict again.")
    return Place(**place) if place else None


def owner_of(folder: Path) -> str:
    """The study that a folder says it belongs to; '' when it says nothing."""
    try:
        return str(json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))["study"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def claim(folder: Path, study: str) -> Path:
    """A folder for this study alone: the one named, or one below it where another study has that one already.

    :raises OSError: it cannot be made
    """
    folder = Path(folder)
    return folder if _take(folder, study) else _taken(folder / f"study-{study[:8]}", study)


def claimed(folder: Path, study: str) -> Path:
    """The folder that `claim` would give; nothing is made."""
    folder = Path(folder)
    return folder if owner_of(folder) in ("", study) else folder / f"study-{study[:8]}"


def _taken(folder: Path, study: str) -> Path:
    if not _take(folder, study):
        raise CaseError(f"{folder} belongs to another study: choose another study folder.")
    return folder


def _take(folder: Path, study: str) -> bool:
    """Whether the folder is, from now on, this study's. Of two windows that come at once only one gets it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / FILE).open("x", encoding="utf-8") as stream:
            json.dump({"study": study, "prediction": "", "cases": {}}, stream)
        return True
    except FileExistsError:
        return owner_of(folder) == study
