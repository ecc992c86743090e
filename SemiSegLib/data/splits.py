"""Dividing a case list: which cases train with their mask, which without, which are held out for validation."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SemiSegLib.config import Label
from SemiSegLib.data.cases import Case, CaseList, CasesError, listed
from SemiSegLib.data.formats import one_spelling
from SemiSegLib.data.layouts import COLORS
from SemiSegLib.data.patients import last_patients, of_other_patients, patient

TRAIN_KEYS = ("train", "train_patients", "training")
VALIDATION_KEYS = ("validation", "validation_patients", "val", "val_patients")
TEST_KEYS = ("test", "test_patients")
LABELLED_KEY = re.compile(r"labell?ed(_(\d+))?(_patients)?")


def apply_splits(cases: CaseList, splits: str | None = None, labelled: int | Path | None = None) -> CaseList:
    """The cases in their parts.

    splits: 'FILE:SECTION' of a JSON file whose sections name cases under `train`, `validation` and
    `labeled_N` (or `…_patients`). A name stands for the case so called, or for all cases called NAME_….
    Cases that no list names are left out, and so are those under `test`.
    labelled: how many, or a file with one name a line. A number takes the list `labeled_N` if the section has
    it, else the first N annotated training cases by name. None takes the section's only such list, or all.

    Training cases not chosen lose their mask path, so nothing can read it. Without a list of training cases, those of
    validation and test patients are left out. Raises CasesError for unknown names, lists of unknown names, cases or
    patients in two parts, cases chosen as labelled or for validation that have no mask.
    """
    section: Mapping[str, Any] = {}
    labels = cases.labels
    if splits is not None:
        file, name = parse(splits)
        contents = _read(file)
        section = _section(contents, name, file)
        labels = labels or _labels(contents)
    validation = _resolve(_names(section, VALIDATION_KEYS), cases, splits) or list(cases.validation)
    training = _training(section, cases, validation, splits)
    _refuse_both(training, validation, splits)
    _refuse_both(training, _test(section, cases), splits, "test")
    chosen = _chosen(section, training, labelled, splits)
    _require_masks(chosen, "chosen as labelled")
    _require_masks(validation, "chosen for validation")
    names = {case.name for case in chosen}
    rest = [dataclasses.replace(case, label=None) for case in training if case.name not in names]
    return dataclasses.replace(
        cases, labelled=tuple(chosen), unlabelled=tuple(rest), validation=tuple(validation), labels=labels
    )


def validation_cases(cases: CaseList, splits: str) -> list[Case]:
    """Those that 'FILE:SECTION' holds out, whichever of the others train; raises CasesError as `apply_splits` does."""
    file, name = parse(splits)
    section = _section(_read(file), name, file)
    validation = _resolve(_names(section, VALIDATION_KEYS), cases, splits)
    _refuse_both(_training(section, cases, validation, splits), validation, splits)
    _require_masks(validation, "chosen for validation")
    return validation


def parse(splits: str) -> tuple[Path, str | None]:
    r"""File and section of 'FILE:SECTION' or 'FILE'; a drive letter as in C:\x\splits.json:dev is no section."""
    file, colon, name = splits.rpartition(":")
    if not colon or "/" in name or "\\" in name or Path(splits).is_file():
        return Path(splits), None
    return Path(file), name or None


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CasesError(f"{file}: the split file cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CasesError(f"{file}: not a JSON file: {error}") from error


def _section(contents: Any, name: str | None, file: Path) -> Mapping[str, Any]:
    """The wanted section, its lists looked at; a list as in nnU-Net's splits_final.json has the sections 0, 1, …"""
    if isinstance(contents, list):
        contents = {str(number): section for number, section in enumerate(contents)}
    if not isinstance(contents, dict):
        raise CasesError(f"{file}: holds no object with lists of cases")
    if name is None and any(_is_list_key(key) for key in contents):
        return _with_known_lists(contents, file)
    named = contents.get(name) if name is not None else None
    if isinstance(named, dict):
        _with_known_lists(named, f"{file}, {name}")  # before a section of misspelt lists is taken for none
    sections = {
        key: value for key, value in contents.items() if isinstance(value, dict) and any(map(_is_list_key, value))
    }
    if name is None and len(sections) == 1:
        ((only, section),) = sections.items()
        return _with_known_lists(section, f"{file}, {only}")
    if name is None or name not in sections:
        problem = "name a section" if name is None else f"no section '{name}'"
        raise CasesError(f"{file}: {problem}; write {file}:SECTION with one of {listed(sections) or '(none)'}")
    return sections[name]


def _is_list_key(key: str) -> bool:
    return key in TRAIN_KEYS + VALIDATION_KEYS + TEST_KEYS or LABELLED_KEY.fullmatch(key) is not None


def _with_known_lists(section: Mapping[str, Any], source: object) -> Mapping[str, Any]:
    """The section. Raises CasesError for a list of cases under a name that means nothing, and for what is no list."""
    for key, value in section.items():
        names = isinstance(value, list) and all(isinstance(name, (str, int)) for name in value)
        if _is_list_key(key) and value is not None and not names:
            raise CasesError(f"{source}: '{key}' must be a list of names of cases, not {value!r}")
        if not _is_list_key(key) and names and any(isinstance(name, str) for name in value):
            raise CasesError(f"{source}: '{key}' is no list that is known, so it would be ignored; {_nearest_key(key)}")
    return section


def _nearest_key(key: str) -> str:
    number = re.search(r"\d+", key)
    known = [*TRAIN_KEYS, *VALIDATION_KEYS, *TEST_KEYS, "labelled", f"labelled_{number[0] if number else 'N'}"]
    near = difflib.get_close_matches(key.casefold(), known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known are {listed(known, 20)}"


def _labels(contents: Any) -> list[Label] | None:
    """Class names that a split file may give as {"labels": {"1": "right ventricle"}}."""
    entries = contents.get("labels") if isinstance(contents, dict) else None
    if not isinstance(entries, dict) or not all(str(key).isdigit() for key in entries):
        return None
    pairs = sorted((int(key), str(name)) for key, name in entries.items() if int(key) > 0)
    return [Label(value, name, COLORS[(value - 1) % len(COLORS)]) for value, name in pairs] or None


def _names(section: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [str(name) for key in keys for name in section.get(key) or []]


def _resolve(names: Sequence[str], cases: Sequence[Case] | CaseList, source: object) -> list[Case]:
    """The cases that the names stand for, in name order. Raises CasesError naming those that stand for none."""
    by_name = {case.name: case for case in cases}
    found: dict[str, Case] = {}
    unknown = []
    for name in map(one_spelling, names):
        meant = [name] if name in by_name else [other for other in by_name if other.startswith(name + "_")]
        found.update((other, by_name[other]) for other in meant)
        if not meant:
            unknown.append(name)
    if unknown:
        raise CasesError(f"{source}: names cases that are not there: {listed(unknown)}; there are {listed(by_name)}")
    return [found[name] for name in sorted(found)]


def _training(section: Mapping[str, Any], cases: CaseList, validation: Sequence[Case], source: object) -> list[Case]:
    if any(key in section for key in TRAIN_KEYS):
        return _resolve(_names(section, TRAIN_KEYS), cases, source)
    held_out = [*validation, *_test(section, cases)]
    return sorted(of_other_patients(cases, held_out), key=lambda case: case.name)


def _test(section: Mapping[str, Any], cases: CaseList) -> list[Case]:
    """Cases that are kept for a test; of their names some may well have no scan here."""
    names = {one_spelling(name) for name in _names(section, TEST_KEYS)}
    return [case for case in cases if case.name in names or any(case.name.startswith(name + "_") for name in names)]


def _refuse_both(training: Sequence[Case], others: Sequence[Case], source: object, part: str = "validation") -> None:
    both = sorted({case.name for case in training} & {case.name for case in others})
    if both:
        raise CasesError(f"{source}: cases are both in training and in {part}: {listed(both)}")
    shared = sorted({patient(case) for case in training} & {patient(case) for case in others})
    if shared:
        raise CasesError(
            f"{source}: scans of one patient (frames of one sequence) are both in training and in {part}, which "
            f"would measure nothing: {listed(shared)}; move all of a patient to one side"
        )


def _chosen(
    section: Mapping[str, Any], training: Sequence[Case], labelled: int | Path | None, source: object
) -> list[Case]:
    """The training cases whose masks may be used."""
    lists = {key: match[2] for key in section if (match := LABELLED_KEY.fullmatch(key))}
    if isinstance(labelled, int):
        for key, number in lists.items():
            if number and int(number) == labelled:
                return _from_training(_names(section, [key]), training, f"{source}, {key}")
        return _first(labelled, training)
    if labelled is not None:
        return _from_training(_lines(Path(labelled)), training, labelled)
    if len(lists) > 1:
        raise CasesError(f"{source}: several lists of labelled cases, say how many to use: {listed(lists)}")
    if lists:
        return _from_training(_names(section, list(lists)), training, f"{source}, {next(iter(lists))}")
    return [case for case in training if case.label is not None]


def _first(count: int, training: Sequence[Case]) -> list[Case]:
    annotated = [case for case in training if case.label is not None]
    if not 0 < count <= len(annotated):
        raise CasesError(f"{count} labelled cases wanted, but {len(annotated)} training cases have a mask")
    return annotated[:count]


def _from_training(names: Sequence[str], training: Sequence[Case], source: object) -> list[Case]:
    if not names:
        raise CasesError(f"{source}: names no labelled case")
    return _resolve(names, training, source)


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise CasesError(f"{file}: the list of labelled cases cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CasesError(f"{file}: the list of labelled cases is not UTF-8 text: save it as UTF-8") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _require_masks(cases: Sequence[Case], purpose: str) -> None:
    bare = [case.name for case in cases if case.label is None]
    if bare:
        raise CasesError(f"cases {purpose} have no mask: {listed(bare)}")


def hold_out(cases: CaseList, count: int) -> CaseList:
    """The last labelled cases become the validation part; 0 changes nothing. Raises CasesError.

    They are `count`, or more where that would divide a patient; what else there is of these patients is left out.
    Accepted predictions come last: against its own mask a model is always right.
    """
    if count == 0:
        return cases
    if cases.validation:
        raise CasesError("the splits name validation cases already: no more can be held out")
    accepted = [case.origin == "accepted" for case in cases.labelled]
    chosen = last_patients([patient(case) for case in cases.labelled], count, accepted)
    validation = tuple(case for case in cases.labelled if patient(case) in chosen)
    labelled, unlabelled = (tuple(of_other_patients(part, validation)) for part in (cases.labelled, cases.unlabelled))
    if count < 0 or not labelled:
        patients = len({patient(case) for case in cases.labelled})
        of_patients = f" of {patients} patients" if patients < len(cases.labelled) else ""
        raise CasesError(
            f"{count} cases cannot be held out of {len(cases.labelled)} annotated ones{of_patients}: some must train "
            "(where --labelled chooses annotated cases, --validation takes its own out of these)"
        )
    return dataclasses.replace(cases, labelled=labelled, unlabelled=unlabelled, validation=validation)
