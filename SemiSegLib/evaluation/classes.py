"""Which class is which in references and predictions: by name where both sides have names, else by number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from SemiSegLib.config import DataSettings, Label
from SemiSegLib.constants import IGNORE_LABEL, SPARE_COLORS
from SemiSegLib.data.cases import listed
from SemiSegLib.data.geometry import to_array
from SemiSegLib.data.images import Mask, relabel
from SemiSegLib.data.layouts import find_cases, joint_labels
from SemiSegLib.evaluation import EvaluationError
from SemiSegLib.evaluation.masks import Readers, Source, is_data_set, readable

NAME_FILES = ("labels.json", "dataset.json", "splits.json")  # may hold class names under "labels"


@dataclass(frozen=True)
class Classes:
    """Name and value of each class that is scored, and the value of voxels that nobody annotated.

    :ivar beside_predictions: names and values that a file beside the predictions gives, for masks without names
    :ivar messages: what is to be said of it
    """

    labels: dict[str, int]
    ignore_value: int | None
    beside_predictions: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def of_reference(self, mask: Mask) -> tuple[Mask, list[str]]:
        """A reference with the wanted values, and what to tell of its other segments."""
        return _renumbered(mask, self.labels, self.ignore_value)

    def of_prediction(self, mask: Mask) -> tuple[Mask, list[str]]:
        """A prediction with the wanted values, and what to tell of its other segments."""
        return _renumbered(_with_names(mask, self.beside_predictions), self.labels, self.ignore_value)

    def unnamed_values(self, mask: Mask) -> list[str]:
        """What to tell of values in a mask that belong to no class."""
        named = {0, self.ignore_value, *self.labels.values()}
        odd = [int(value) for value in np.unique(to_array(mask.image)) if int(value) not in named]
        return [f"{mask.path}: the values {listed(odd)} belong to no class and count as background"] if odd else []


def find_classes(
    names: Sequence[str],
    predicted: Readers,
    wanted: Readers,
    predictions: Source,
    references: Source,
    labels: Mapping[str, int] | None,
    ignore_value: int | Literal["task"] | None,
) -> Classes:
    """The classes of the cases `names`; for the other arguments see `SemiSegLib.evaluate.evaluate`.

    Raises EvaluationError where nothing is drawn, or where nobody knows which class is which, and SemiSegError where no
    reference can be read.
    """
    ignored = (
        _task_ignore_value(references, predictions) if ignore_value == "task" else _as_read(ignore_value, references)
    )
    known = dict(labels) if labels else _find_labels(names, predicted, wanted, predictions, references, ignored)
    if ignore_value != "task":
        known = {name: value for name, value in known.items() if value != ignored}
    elif ignored in known.values():
        ignored = None
    own = _labels_beside(predictions) if isinstance(predictions, Path) and not labels else {}
    own, messages = _names_of_predictions(own, known, predictions)
    return Classes(known, ignored, own, messages)


def _find_labels(
    names: Sequence[str],
    predicted: Readers,
    wanted: Readers,
    predictions: Source,
    references: Source,
    ignore_value: int | None,
) -> dict[str, int]:
    """Name and value of each class, from the first source that names any; else numbered as in the references."""
    for folder in (references, predictions):
        named = _labels_beside(folder) if isinstance(folder, Path) else {}
        if named:
            return named
    in_data_set = isinstance(references, Path) and is_data_set(references) and find_cases(references).labels
    if in_data_set:
        return {label.name: label.value for label in in_data_set}
    segments, occurring = _in_masks([wanted[name] for name in names])
    joint = joint_labels(segments)
    if not joint:
        first = next(readable(predicted[name] for name in names), None)
        joint = (first and first.labels) or []
    if joint:
        return {label.name: label.value for label in joint}
    return _numbered(occurring, ignore_value, names)


def _in_masks(readers: Sequence[Callable[[], Mask]]) -> tuple[list[Sequence[Label]], set[int]]:
    """(segments of each mask that can be read, all values in them); raises SemiSegError where none can be."""
    segments: list[Sequence[Label]] = []
    occurring: set[int] = set()
    for mask in readable(readers):
        segments.append(mask.labels or [])
        occurring |= {int(value) for value in np.unique(to_array(mask.image))}
    if not segments:
        readers[0]()  # raises: none can be read
    return segments, occurring


def _numbered(occurring: set[int], ignore_value: int | None, names: Sequence[str]) -> dict[str, int]:
    found = {f"label {value}": value for value in sorted(occurring) if value not in (0, ignore_value)}
    if not found:
        also = f" and the value {ignore_value}" if ignore_value in occurring else ""
        hint = "; if that is a class, add --ignore-value none" if also else ""
        raise EvaluationError(f"no reference holds anything but background{also} (looked at: {listed(names)}){hint}")
    return found


def _names_of_predictions(
    own: dict[str, int], known: Mapping[str, int], predictions: object
) -> tuple[dict[str, int], list[str]]:
    """(names by which classes of the predictions are found among the references', what is to be said of it).

    Names of another vocabulary (LV, left ventricle) with the same numbers are compared by number. Raises
    EvaluationError where nobody knows which class is which.
    """
    foreign, missing = own.keys() - known.keys(), known.keys() - own.keys()
    if not foreign or not missing:
        return own, []
    unlike = f"{predictions}: its masks hold {listed(sorted(foreign))}, the references {listed(sorted(missing))}"
    shared_agree = all(own[name] == known[name] for name in own.keys() & known.keys())
    if shared_agree and set(own.values()) == set(known.values()):
        return {}, [f"{unlike}; classes of the same number are compared"]
    raise EvaluationError(
        f"{unlike}: which class is which goes by its name. Call them alike in the labels.json or dataset.json beside "
        "the masks."
    )


def _with_names(mask: Mask, labels: Mapping[str, int]) -> Mask:
    """The mask with the class names that a file beside it gives, where it has none of its own."""
    if mask.labels or not labels:
        return mask
    return replace(mask, labels=[Label(value, name, SPARE_COLORS[0]) for name, value in labels.items()])


def _renumbered(mask: Mask, labels: Mapping[str, int], ignore_value: int | None) -> tuple[Mask, list[str]]:
    """The mask with the wanted values, where its file itself names a class, and what to tell of its other segments.

    These are background: their numbers may be those of classes. A file that names no class goes by its numbers.
    """
    segments = [label for label in mask.labels or [] if label.value != ignore_value]
    values = {label.value: labels.get(label.name, 0) for label in segments}
    if not any(values.values()) or all(old == new for old, new in values.items()):
        return mask, []
    drawn = np.unique(to_array(mask.image))
    foreign = [label.name for label in segments if label.name not in labels and label.value in drawn]
    notes = [f"{mask.path}: {listed(foreign)} belongs to no class and counts as background"] if foreign else []
    return relabel(mask, values), notes


# ---- what files beside the masks say ----------------------------------------------------------------------


def _labels_beside(folder: Path) -> dict[str, int]:
    """Class names from a JSON file in the folder or the one above."""
    found = (_parse_labels(content.get("labels")) for content in _descriptions(folder))
    return next(filter(None, found), {})


def _task_ignore_value(*sources: Source) -> int | None:
    """What marks voxels nobody annotated: as JSON files beside the masks say (ours or nnU-Net's), else our default."""
    for folder in (source for source in sources if isinstance(source, Path)):
        for content in _descriptions(folder):
            value = content.get("ignore_value", _ignore_label(content))
            if isinstance(value, int):
                return _as_read(value, folder)
    return DataSettings().ignore_value


def _as_read(ignore_value: int | None, references: Source) -> int | None:
    """The same once masks are read: a data set's are read as trainings read them, nnU-Net's ignore label as ours."""
    if ignore_value is None or not isinstance(references, Path) or not is_data_set(references):
        return ignore_value
    named: Iterable[int | None] = [_ignore_label(content) for content in _descriptions(references)]
    return DataSettings().ignore_value if ignore_value in named else ignore_value


def _ignore_label(content: Mapping[str, Any]) -> int | None:
    """Its value in nnU-Net's dataset.json."""
    labels = content.get("labels")
    return labels.get(IGNORE_LABEL) if isinstance(labels, dict) else None


def _descriptions(folder: Path) -> Iterator[dict[str, Any]]:
    """The JSON files that may describe the masks in a folder: in it, then in the one above."""
    for file in (place / name for place in (folder, folder.parent) for name in NAME_FILES):
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
        except OSError:
            continue
        except ValueError as error:
            raise EvaluationError(f"{file}: not readable as JSON: {error}") from error
        if isinstance(content, dict):
            yield content


def _parse_labels(entries: Any) -> dict[str, int]:
    """{"liver": 1} as in nnU-Net, {"1": "liver"} as in the Decathlon, or [{"name": "liver", "value": 1}] as ours."""
    try:
        if isinstance(entries, list):
            pairs = [(str(entry["name"]), int(entry["value"])) for entry in entries]
        else:
            pairs = [(v, int(k)) if str(k).isdigit() else (k, int(v)) for k, v in (entries or {}).items()]
    except (TypeError, ValueError, KeyError, AttributeError):
        return {}
    return {name: value for name, value in pairs if value > 0 and name != IGNORE_LABEL}
