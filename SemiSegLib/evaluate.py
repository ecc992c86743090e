"""Score predicted masks against reference masks.

python -m SemiSegLib.evaluate --predictions DIR --references DIR
python -m SemiSegLib.evaluate --predictions DIR --references DIR --output report.json --csv scores.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from SemiSegLib.commands import program, run_command
from SemiSegLib.config import Label
from SemiSegLib.constants import IGNORE_LABEL, SPARE_COLORS
from SemiSegLib.data.formats import results_to_write
from SemiSegLib.errors import SOME_FAILED, SemiSegError

if TYPE_CHECKING:
    import numpy as np

    from SemiSegLib.data.cases import Case
    from SemiSegLib.data.images import Mask
    from SemiSegLib.metrics import CaseMetrics, Statistics

FORMAT_VERSION = 1
NAME_FILES = ("labels.json", "dataset.json", "splits.json")  # may hold class names under "labels"
_IGNORED = "which says that nobody annotated there; if it is a class, add --ignore-value none"


class EvaluationError(SemiSegError):
    """Predictions and references cannot be brought together."""


@dataclass(frozen=True)
class Report:
    """Scores of every case that has a prediction and a reference, and what stands in the way of the others."""

    labels: dict[str, int]
    cases: dict[str, CaseMetrics]
    summary: dict[str, dict[str, Statistics]]
    missing_predictions: list[str]
    missing_references: list[str]
    messages: list[str] = field(default_factory=list)
    ignore_value: int | None = None
    literature: bool = False
    failures: dict[str, str] = field(default_factory=dict)  # by case: why it has no scores

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; undefined values become null there."""
        return {
            "format_version": FORMAT_VERSION,
            "labels": self.labels,
            "ignore_value": self.ignore_value,
            "empty_masks": "literature" if self.literature else "undefined distances are left out",
            "cases": self.cases,
            "summary": self.summary,
            "missing_predictions": self.missing_predictions,
            "missing_references": self.missing_references,
            "messages": self.messages,
            "failures": self.failures,
        }

    def text(self, markdown: bool = False) -> str:
        """Scores of each case, mean ± sd of each class, and what was noticed, for people."""
        from SemiSegLib.report import case_rows, markdown_table, score_header, summary_rows, text_table

        table = markdown_table if markdown else text_table
        summary = table(score_header("mean ± sd"), summary_rows(self.summary))
        notes = [f"{len(self.cases)} cases scored.", *self.messages]
        for kind, names in (("prediction", self.missing_predictions), ("reference", self.missing_references)):
            if names:
                notes.append(f"No {kind} for {len(names)} cases, which are not in the means: {_some(names)}")
        if self.failures:
            notes.append(f"{len(self.failures)} cases could not be scored and are not in the means:")
            notes += [f"  {name}: {message}" for name, message in self.failures.items()]
        return "\n\n".join([table(score_header(), case_rows(self.cases)), summary, "\n".join(notes)])

    def csv(self) -> str:
        """One line for each case and class; undefined values are left empty."""
        from SemiSegLib.metrics import METRICS

        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "class", *METRICS])
        for case, classes in self.cases.items():
            for name, scores in classes.items():
                writer.writerow([case, name, *("" if math.isnan(v) else repr(v) for v in scores.values())])
        return stream.getvalue()


def evaluate(
    predictions: Path | Mapping[str, Path],
    references: Path | Mapping[str, Path],
    labels: Mapping[str, int] | None = None,
    ignore_value: int | Literal["task"] | None = "task",
    literature: bool = False,
) -> Report:
    """Score all predictions that have a reference of the same case name.

    A prediction on another grid is brought onto its reference's in world space, and the report says so. Where both
    sides name their classes, the name decides and not the number. Cases without prediction or reference are named in
    the report and take no part in its means.

    :param predictions: folder of mask files, or mask file by case name; of 4D files each frame is a case NAME_frame01,
        in references only frames in which something is drawn
    :param references: the same, or a data folder in any layout that training understands
    :param labels: name and value of the foreground classes; default: as the masks themselves (.seg.nrrd) or a
        labels.json, dataset.json or splits.json beside them name them, else every value in the references
    :param ignore_value: value of reference voxels that nobody annotated; they are left out. "task": as a labels.json or
        dataset.json beside the masks says, else training's own default (255), unless a class has that value; None:
        every value is a class
    :param literature: treat empty masks as the literature's tables do, see `SemiSegLib.metrics`
    :raises SemiSegError: nothing to compare, or nothing that can be
    """
    from SemiSegLib.metrics import case_metrics, summarise

    predicted, wanted = _readers(_mask_files(predictions)), _reference_readers(references)
    names = sorted(predicted.keys() & wanted.keys())
    if not names:
        raise EvaluationError(
            f"no prediction in {predictions} has the name of a reference in {references} (predictions: "
            f"{_some(predicted) or 'none'}; references: {_some(wanted) or 'none'}); they are matched by file name"
        )
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
    cases, failures = {}, {}
    for name in names:
        try:
            reference, foreign = _renumbered(wanted[name](), known, ignored)
            prediction, foreign_too = _renumbered(_with_names(predicted[name](), own), known, ignored)
            prediction, notes = _on_grid(prediction, reference)
        except SemiSegError as error:  # a bad case does not keep the others from it
            failures[name] = str(error)
            continue
        arrays = _array(prediction), _array(reference)
        messages += [*foreign_too, *foreign, *notes]
        messages += _unnamed_values(arrays, (prediction, reference), known, ignored)
        if ignored is not None and (arrays[1] == ignored).all():  # two masks without a known voxel would agree wholly
            messages.append(f"{name}: its reference holds {ignored} alone, {_IGNORED}. It takes no part in the scores.")
            continue
        spacing = reference.image.GetSpacing()
        cases[name] = case_metrics(*arrays, spacing, known, ignored, literature)
    if not cases and failures:
        raise EvaluationError("\n".join(failures.values()))
    if not cases:
        raise EvaluationError(f"the references of {_some(names)} hold {ignored} alone, {_IGNORED}")
    summary = summarise(list(cases.values()))
    return Report(
        known,
        cases,
        summary,
        sorted(wanted.keys() - predicted.keys()),
        sorted(predicted.keys() - wanted.keys()),
        messages + _inconsistencies(summary),
        ignored,
        literature,
        failures,
    )


def _mask_files(source: Path | Mapping[str, Path]) -> dict[str, Path]:
    """Mask files by case name, those directly in a folder; raises EvaluationError for two of one name."""
    from SemiSegLib.data.formats import is_mask, stem

    if isinstance(source, Mapping):
        return dict(source)
    if not source.is_dir():
        raise EvaluationError(f"{source}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(path for path in source.iterdir() if path.is_file() and is_mask(path)):
        other = found.setdefault(stem(path), path)
        if other != path:
            raise EvaluationError(f"two masks have the name '{stem(path)}': {other} and {path}; remove one")
    return found


def _reference_readers(source: Path | Mapping[str, Path]) -> dict[str, Callable[[], Mask]]:
    """By case name, what reads the reference: a mask file, or the mask of a case of a data set on its scan's grid."""
    from SemiSegLib.data.layouts import find_cases

    if not _is_data_set(source):
        return _readers(_mask_files(source), drawn=True)
    assert isinstance(source, Path)
    annotated = (case for case in find_cases(source) if case.label is not None)
    return {case.name: partial(_read_annotation, case) for case in annotated}


def _is_data_set(source: Path | Mapping[str, Path]) -> bool:
    """Whether a folder holds scans, with their masks in other folders or as segmentations beside them."""
    from SemiSegLib.data.formats import extension, is_image, is_mask, stem

    if isinstance(source, Mapping) or not source.is_dir():
        return False
    files = [path for path in source.iterdir() if path.is_file() and is_mask(path)]
    segmentations = {stem(path) for path in files if extension(path) == ".seg.nrrd"}
    return not files or any(is_image(path) and stem(path) in segmentations for path in files)


def _readers(files: Mapping[str, Path], drawn: bool = False) -> dict[str, Callable[[], Mask]]:
    """What reads each mask; of 4D files each frame, or with `drawn` those in which something is.

    Raises EvaluationError where a frame has a file of its own, too.
    """
    from SemiSegLib.data.frames import frame_count, frame_name, series_name
    from SemiSegLib.data.images import drawn_frames, read_mask

    readers: dict[str, Callable[[], Mask]] = {}
    for name, path in files.items():
        count = frame_count(path)
        if count == 1:
            readers[name] = partial(read_mask, path)
            continue
        for number in drawn_frames(path, count) if drawn else range(count):
            frame = frame_name(series_name(path), number, count)
            if frame in files:
                raise EvaluationError(f"{path} and {files[frame]} both hold the mask of '{frame}'; remove one")
            readers[frame] = partial(read_mask, path, number)
    return readers


def _read_annotation(case: Case) -> Mask:
    from SemiSegLib.data.cases import read_case

    mask = read_case(case)[1]
    if mask is None:
        raise EvaluationError(f"the case {case.name} has no mask")
    return mask


def _array(mask: Mask) -> np.ndarray:
    from SemiSegLib.data.geometry import to_array

    return to_array(mask.image)


def _on_grid(prediction: Mask, reference: Mask) -> tuple[Mask, list[str]]:
    """The prediction on the reference's grid, and what to tell when that is not its own."""
    from SemiSegLib.data.geometry import Geometry
    from SemiSegLib.data.images import bring_to

    own, wanted = Geometry.of(prediction.image), Geometry.of(reference.image)
    moved = bring_to(prediction, reference.image, reference.path, called="reference")
    if own.same_as(wanted):
        return moved, []
    return moved, [
        f"{prediction.path} was brought onto the grid of {reference.path}: from {own.describe()} to {wanted.describe()}"
    ]


# ---- classes ----------------------------------------------------------------------------------------------


def _find_labels(
    names: Sequence[str],
    predicted: Mapping[str, Callable[[], Mask]],
    wanted: Mapping[str, Callable[[], Mask]],
    predictions: Path | Mapping[str, Path],
    references: Path | Mapping[str, Path],
    ignore_value: int | None,
) -> dict[str, int]:
    """Name and value of each class, from the first source that names any; else numbered as in the references."""
    for folder in (references, predictions):
        named = _labels_beside(folder) if isinstance(folder, Path) else {}
        if named:
            return named
    from SemiSegLib.data.layouts import find_cases

    in_data_set = isinstance(references, Path) and _is_data_set(references) and find_cases(references).labels
    if in_data_set:
        return {label.name: label.value for label in in_data_set}
    import numpy as np

    from SemiSegLib.data.layouts import joint_labels

    occurring: set[int] = set()
    segments = []
    for mask in _readable(wanted[name] for name in names):
        segments.append(mask.labels or [])
        occurring |= {int(value) for value in np.unique(_array(mask))}
    if not segments:
        wanted[names[0]]()  # raises: none can be read
    joint = joint_labels(segments)
    if not joint:
        first = next(_readable(predicted[name] for name in names), None)
        joint = (first and first.labels) or []
    if joint:
        return {label.name: label.value for label in joint}
    values = sorted(occurring)
    found = {f"label {value}": value for value in values if value not in (0, ignore_value)}
    if not found:
        also = f" and the value {ignore_value}" if ignore_value in values else ""
        hint = "; if that is a class, add --ignore-value none" if also else ""
        raise EvaluationError(f"no reference holds anything but background{also} (looked at: {_some(names)}){hint}")
    return found


def _readable(readers: Iterable[Callable[[], Mask]]) -> Iterator[Mask]:
    """The masks that can be read; what is wrong with the others is said when they are scored."""
    for read in readers:
        try:
            yield read()
        except SemiSegError:
            continue


def _labels_beside(folder: Path) -> dict[str, int]:
    """Class names from a JSON file in the folder or the one above."""
    found = (_parse_labels(content.get("labels")) for content in _descriptions(folder))
    return next(filter(None, found), {})


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
    unlike = f"{predictions}: its masks hold {_some(sorted(foreign))}, the references {_some(sorted(missing))}"
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


def _task_ignore_value(*sources: Path | Mapping[str, Path]) -> int | None:
    """What marks voxels nobody annotated: as JSON files beside the masks say (ours or nnU-Net's), else our default."""
    for folder in (source for source in sources if isinstance(source, Path)):
        for content in _descriptions(folder):
            value = content.get("ignore_value", _ignore_label(content))
            if isinstance(value, int):
                return _as_read(value, folder)
    return _our_ignore_value()


def _as_read(ignore_value: int | None, references: Path | Mapping[str, Path]) -> int | None:
    """The same once masks are read: a data set's are read as trainings read them, nnU-Net's ignore label as ours."""
    if ignore_value is None or not isinstance(references, Path) or not _is_data_set(references):
        return ignore_value
    named = [_ignore_label(content) for content in _descriptions(references)]
    return _our_ignore_value() if ignore_value in named else ignore_value


def _our_ignore_value() -> int:
    from SemiSegLib.config import DataSettings

    return DataSettings().ignore_value


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


def _renumbered(mask: Mask, labels: Mapping[str, int], ignore_value: int | None) -> tuple[Mask, list[str]]:
    """The mask with the wanted values, where its file itself names a class, and what to tell of its other segments.

    These are background: their numbers may be those of classes. A file that names no class goes by its numbers.
    """
    import numpy as np

    from SemiSegLib.data.images import relabel

    segments = [label for label in mask.labels or [] if label.value != ignore_value]
    values = {label.value: labels.get(label.name, 0) for label in segments}
    if not any(values.values()) or all(old == new for old, new in values.items()):
        return mask, []
    drawn = np.unique(_array(mask))
    foreign = [label.name for label in segments if label.name not in labels and label.value in drawn]
    notes = [f"{mask.path}: {_some(foreign)} belongs to no class and counts as background"] if foreign else []
    return relabel(mask, values), notes


def _unnamed_values(
    arrays: Iterable[np.ndarray], masks: Iterable[Mask], labels: Mapping[str, int], ignore_value: int | None
) -> list[str]:
    import numpy as np

    named = {0, ignore_value, *labels.values()}
    notes = []
    for array, mask in zip(arrays, masks, strict=True):
        odd = [int(value) for value in np.unique(array) if int(value) not in named]
        if odd:
            notes.append(f"{mask.path}: the values {_some(odd)} belong to no class and count as background")
    return notes


def _inconsistencies(summary: Mapping[str, Mapping[str, Statistics]]) -> list[str]:
    from SemiSegLib.metrics import inconsistency

    found = ((name, inconsistency(part["dsc"]["mean"], part["jaccard"]["mean"])) for name, part in summary.items())
    return [f"{name}: {problem}" for name, problem in found if problem]


def _some(items: Iterable[object]) -> str:
    from SemiSegLib.data.cases import listed

    return listed(items)


# ---- command line -----------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("evaluate"),
        description="Score predicted masks against reference masks of the same names: DSC, Jaccard, HD95 and ASSD in "
        "mm, and the voxel variants of the literature's tables.",
    )
    add = result.add_argument
    add("--predictions", type=Path, required=True, metavar="DIR", help="folder of predicted masks")
    add(
        "--references",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of reference masks, or a data folder",
    )
    add("--output", type=results_to_write, metavar="FILE", help="write everything as JSON")
    add("--csv", type=results_to_write, metavar="FILE", help="write the scores of each case and class as CSV")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    add(
        "--ignore-value",
        type=_ignore_value,
        default="task",
        metavar="V|none",
        help="reference voxels of this value were annotated by nobody and are left out; none: every value is a class "
        "(default: as a labels.json or dataset.json beside the masks says, else 255 unless a class has it)",
    )
    add(
        "--literature",
        action="store_true",
        help="score empty masks as the literature's tables do (0, not undefined)",
    )
    return result


def _ignore_value(text: str) -> int | str | None:
    if text.lower() in ("none", "task"):
        return None if text.lower() == "none" else "task"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a number or none, not {text!r}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input, 3 some cases cannot be compared."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)

    def work() -> int:
        report = evaluate(
            options.predictions,
            options.references,
            ignore_value=options.ignore_value,
            literature=options.literature,
        )
        _write(report, options)
        print(report.text(options.markdown))
        for message in report.failures.values():
            print(f"error: {message}", file=sys.stderr)
        return SOME_FAILED if report.failures else 0

    return run_command(work)


def _write(report: Report, options: argparse.Namespace) -> None:
    from SemiSegLib.files import write_whole
    from SemiSegLib.runs import write_json

    if options.output:
        write_json(options.output, report.to_dict())
    if options.csv:
        write_whole(options.csv, report.csv())


if __name__ == "__main__":
    sys.exit(main())
