"""The readable list beside files whose names say of nobody who that is: `scans.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from SemiSegLib.files import write_whole

from .case import Case, CaseError

FILE = "scans.csv"
_COLUMNS = ("file", "patient", "scan")


def write_names(folder: Path, cases: Mapping[str, Case]) -> None:
    """Say which scan each stem stands for; lines of other files that the list has already stay.

    While names are hidden the list gives numbers only, and nothing that it said of these files before is kept.

    :raises CaseError: the list would change, and is open in another program that holds it
    """
    rows = {row["file"]: row for row in _read(Path(folder) / FILE)}
    for stem, case in cases.items():
        rows[stem] = {"file": stem, "patient": case.patient, "scan": case.scan_name}
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows[stem] for stem in sorted(rows))
    write_list(Path(folder) / FILE, text.getvalue())


def write_list(path: Path, text: str) -> None:
    """Write a list for people, unless it says so already: Windows lets nobody replace one that Excel has open.

    :raises CaseError: it is open there and would change
    """
    content = ("\ufeff" + text).encode("utf-8")  # the mark makes Excel read UTF-8
    if path.is_file() and path.read_bytes() == content:
        return
    try:
        write_whole(path, content, attempts=5)
    except PermissionError as error:
        raise CaseError(f"{path} cannot be written: if it is open in another program, close it there.") from error


def _read(path: Path) -> list[dict[str, str]]:
    """Also as a spreadsheet saves it: in letters of one region, and with the separator of one language."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    heading = text.partition("\n")[0]
    separator = max(",;\t", key=heading.count)
    return [row for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=separator) if row.get("file")]
