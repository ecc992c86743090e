"""The case list: which scans there are, which are annotated, and what each is used for; imports nothing heavy.

>>> cases = layouts.find_cases(Path("data"))                                    # doctest: +SKIP
>>> cases = splits.apply_splits(cases, "data/splits.json:development", 8)       # doctest: +SKIP
>>> image, mask = read_case(cases.labelled[0])                                  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.config import Label
from SemiSegLib.data.formats import one_spelling
from SemiSegLib.data.stored import stored_in
from SemiSegLib.errors import SemiSegError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from SemiSegLib.data.images import Mask

HASHED_BYTES = 1 << 18
"""At most this much of a file's start, and as much of its end, goes into its fingerprint: compressed voxels of
two different scans differ there, and a thousand cases still take seconds."""


class CasesError(SemiSegError):
    """A data folder, a dataset.json or a split does not make a case list; the message says what was found."""


@dataclass(frozen=True)
class Case:
    """One scan and, if annotated, its mask.

    image: file, or folder of a DICOM series. label: mask file or None. label_values: stored value to label
    value, where they differ. label_by_orientation: see `images.bring_to`. origin: how the mask came about, see
    `SemiSegLib.data.origins`. frame, label_frame: which volume of a file with several, from 0. patient: cases that
    share it are never divided between training and validation, see `SemiSegLib.data.patients`; '' where only the
    name tells of it.
    """

    name: str
    image: Path
    label: Path | None = None
    label_values: dict[int, int] | None = None
    label_by_orientation: bool = False
    origin: str = "drawn"
    frame: int | None = None
    label_frame: int | None = None
    patient: str = ""


@dataclass(frozen=True)
class CaseList:
    """The cases of a data set by their part; each part sorted by name, no name twice.

    labels: foreground classes as the data set names them, else None. layout: how the folder was understood.
    """

    labelled: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    validation: tuple[Case, ...] = ()
    labels: list[Label] | None = None
    root: Path = Path()
    layout: str = ""

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases: labelled, unlabelled, validation."""
        return self.labelled + self.unlabelled + self.validation

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def describe(self) -> str:
        """One line for people."""
        counts = f"{len(self.labelled)} labelled, {len(self.unlabelled)} unlabelled"
        held_out = f", {len(self.validation)} for validation" if self.validation else ""
        return f"{self.root}: {len(self)} cases ({counts}{held_out}); layout: {self.layout}"


def read_scan(case: Case) -> sitk.Image:
    """The scan (float32)."""
    from SemiSegLib.data.images import read_image

    return read_image(case.image, case.frame)


def read_case(case: Case) -> tuple[sitk.Image, Mask | None]:
    """The scan (float32) and its mask on the scan's grid with label values mapped, or None without a mask.

    Scan voxels that the mask's grid does not cover are background.
    """
    from SemiSegLib.data import images

    image = read_scan(case)
    if case.label is None:
        return image, None
    mask = images.read_mask(case.label, case.label_frame)
    if case.label_values:
        mask = images.relabel(mask, case.label_values)
    if not case.label_by_orientation:
        images.warn_of_resampling(mask, image)
    return image, images.bring_to(mask, image, case.image, by_orientation=case.label_by_orientation)


def said_of_cases(cases: CaseList, file: str, wanted: str) -> dict[str, str]:
    """What a file beside the data says of its cases by name, {"scan_001": "text", ...}; nothing where it is missing.

    Raises CasesError, with what is `wanted`, where the file means something else or names cases that are not there.
    """
    path = cases.root / file
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CasesError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(text, str) and text for text in content.values()):
        raise CasesError(f"{path}: {wanted}")
    content = {one_spelling(name): text for name, text in content.items()}
    unknown = sorted(set(content) - {case.name for case in cases})
    if unknown:
        raise CasesError(f"{path}: names cases that are not there: {listed(unknown)}")
    return content


def fingerprint(cases: CaseList) -> dict[str, Any]:
    """What a run was trained on, as JSON: every case by part with names, sizes and short hashes of its files.

    The hash covers the size and at most HASHED_BYTES at either end of each file; equal fingerprints of a
    changed file are possible but need the change to hide in the middle of an equally long file.
    """
    parts = {
        part: {case.name: _case_print(case) for case in getattr(cases, part)}
        for part in ("labelled", "unlabelled", "validation")
    }
    whole = hashlib.sha256(repr(sorted((part, sorted(found.items())) for part, found in parts.items())).encode())
    return {
        "layout": cases.layout,
        "labels": [{"value": x.value, "name": x.name, "color": list(x.color)} for x in cases.labels or []],
        "cases": parts,
        "digest": whole.hexdigest()[:16],
    }


def changed_since(cases: CaseList, before: Mapping[str, Any]) -> list[str]:
    """Names of the cases whose files are not those of a `fingerprint` from before."""
    then, now = before.get("cases", {}), fingerprint(cases)["cases"]
    return [name for part in now for name, found in now[part].items() if found != then.get(part, {}).get(name, found)]


def scan_prints(cases: Iterable[Case]) -> list[str]:
    """A short hash of each scan, whatever its file is called: what a model keeps of those that it learnt from."""
    return [_scan_print(case) for case in cases]


def annotated_in(cases: Iterable[Case], known: Mapping[str, Any]) -> list[str]:
    """Names of the cases whose scans are among the `annotated` ones of what a model's card knows of its data."""
    learnt = set(known.get("annotated", ()))
    return [case.name for case in cases if learnt and _scan_print(case) in learnt]


def same_scans(cases: Iterable[Case], others: Iterable[Case]) -> list[str]:
    """Those of the cases whose scan is one of the others', too, as 'name (as other name)'."""
    names = {_scan_print(case): case.name for case in others}
    return [f"{case.name} (as {names[found]})" for case in cases if (found := _scan_print(case)) in names]


def _scan_print(case: Case) -> str:
    digest = hashlib.sha256(repr(case.frame).encode())
    for file in stored_in(case.image):
        if file.exists():  # scans in one space, not compressed, may be alike at both ends
            digest.update(_ends(file) + b"\0" + _middle(file) + b"\0")
    return digest.hexdigest()[:16]


def _case_print(case: Case) -> dict[str, Any]:
    found: dict[str, Any] = {"image": _file_print(case.image)}
    if case.label is not None and case.label != case.image:
        found["label"] = _file_print(case.label)
    frames = {"frame": case.frame, "label_frame": case.label_frame}
    return found | {name: frame for name, frame in frames.items() if frame is not None}


def _file_print(path: Path) -> dict[str, Any]:
    files = [file for file in stored_in(path) if file.exists()]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + _ends(file) + b"\0")
    size = sum(file.stat().st_size for file in files)
    return {"file": path.name, "bytes": size, "hash": digest.hexdigest()[:16]}


def _ends(file: Path) -> bytes:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(HASHED_BYTES)
        stream.seek(max(size - HASHED_BYTES, 0))
        return str(size).encode() + b"\0" + start + stream.read(HASHED_BYTES)


def _middle(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(max(file.stat().st_size - HASHED_BYTES, 0) // 2)
        return stream.read(HASHED_BYTES)


def listed(items: Iterable[object], limit: int = 10) -> str:
    """'a, b, c and 7 more': for messages that name things."""
    names = [str(item) for item in items]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
