"""What somebody asked a run for: written before anything else is done, so that a run can go on from any moment.

settings.json and cases.json are what came of it once the scans were looked at. No torch is imported here.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from SemiSegLib.config import Label, Settings
from SemiSegLib.data.cases import Case, CaseList
from SemiSegLib.runs import RunError, RunFolder, read_json

PARTS = ("labelled", "unlabelled", "validation")


@dataclass
class Intent:
    """The request behind a run: settings as they were given, and the cases that the data, splits and counts meant.

    `init` is the model to start from with its fingerprint: {"model": path, "sha256": of the file}.
    """

    settings: dict[str, Any]
    cases: dict[str, Any]
    splits: str | None = None
    labelled: str | int | None = None
    validation: int = 0
    init: dict[str, str] | None = None
    command: list[str] | None = None  # of the process that was started

    @classmethod
    def of(
        cls,
        settings: Settings,
        cases: CaseList,
        splits: str | None = None,
        labelled: int | Path | None = None,
        validation: int = 0,
        init: Path | None = None,
    ) -> Intent:
        """The intent of a training that starts now."""
        return cls(
            settings.to_dict(),
            cases_to_dict(cases),
            splits,
            str(labelled) if isinstance(labelled, Path) else labelled,
            validation,
            {"model": str(init.resolve()), "sha256": fingerprint_of(init)} if init else None,
            list(sys.argv),
        )

    @classmethod
    def read(cls, run: RunFolder) -> Intent | None:
        """The intent of a run; None for runs of versions that kept none."""
        if not run.intent_file.exists():
            return None
        content = read_json(run.intent_file)
        known = {key: value for key, value in content.items() if key in cls.__dataclass_fields__}
        return cls(**known) if "settings" in known and "cases" in known else None

    def to_dict(self) -> dict[str, Any]:
        """For intent.json."""
        return asdict(self)

    def initial_model(self) -> Path | None:
        """The model to start from; raises RunError if it is gone or is another one now."""
        if self.init is None:
            return None
        path = Path(self.init["model"])
        if not path.is_file():
            raise RunError(f"The model {path} that this run starts from is gone: put it back, or start a new run.")
        if fingerprint_of(path) != self.init["sha256"]:
            raise RunError(
                f"The model {path} that this run starts from was replaced by another one: put the old one back, or "
                "start a new run."
            )
        return path


def fingerprint_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cases_to_dict(cases: CaseList) -> dict[str, Any]:
    """For JSON, with paths relative to the cases' root where they lie below it."""
    parts = {part: [_case_to_dict(case, cases.root) for case in getattr(cases, part)] for part in PARTS}
    labels = None if cases.labels is None else [asdict(label) for label in cases.labels]
    return {"root": str(cases.root.resolve()), "layout": cases.layout, "labels": labels, **parts}


def load_cases(run: RunFolder, root: Path | None = None) -> CaseList:
    """The cases of cases.json; `root` replaces the folder they were in. Raises RunError for scans that are gone."""
    return cases_from_dict(read_json(run.cases_file), root)


def cases_from_dict(content: dict[str, Any], root: Path | None = None) -> CaseList:
    """The reverse; `root` replaces the folder they were in. Raises RunError for scans that are gone."""
    base = Path(root or content["root"])
    labelled, unlabelled, validation = (tuple(_case_from_dict(case, base) for case in content[part]) for part in PARTS)
    for case in (*labelled, *unlabelled, *validation):
        if not case.image.exists():
            raise RunError(f"The scan {case.image} of this run is gone; if the scans moved, add --data NEW_FOLDER.")
    named = content.get("labels")
    labels = None if named is None else [Label(x["value"], x["name"], tuple(x["color"])) for x in named]
    return CaseList(labelled, unlabelled, validation, labels, base, content.get("layout", ""))


def _case_to_dict(case: Case, root: Path) -> dict[str, Any]:
    def relative(path: Path | None) -> str | None:
        """Links stay links: what a link leads to may have another name, or none that tells its format."""
        if path is None:
            return None
        path, base = path.absolute(), root.absolute()
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)

    values = {str(old): new for old, new in (case.label_values or {}).items()} or None
    return {
        "name": case.name,
        "image": relative(case.image),
        "label": relative(case.label),
        "label_values": values,
        "label_by_orientation": case.label_by_orientation,
        "origin": case.origin,
        "frame": case.frame,
        "label_frame": case.label_frame,
        "patient": case.patient,
    }


def _case_from_dict(content: dict[str, Any], root: Path) -> Case:
    values = {int(old): new for old, new in (content["label_values"] or {}).items()} or None
    label = content["label"]
    label = root / label if label else None
    return Case(
        content["name"],
        root / content["image"],
        label,
        values,
        content["label_by_orientation"],
        content.get("origin", "drawn"),
        content.get("frame"),
        content.get("label_frame"),
        content.get("patient", ""),
    )
