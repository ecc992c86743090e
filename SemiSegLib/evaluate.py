"""Score predicted masks against reference masks.

python -m SemiSegLib.evaluate --predictions DIR --references DIR
python -m SemiSegLib.evaluate --predictions DIR --references DIR --output report.json --csv scores.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from SemiSegLib.commands import program, run_command
from SemiSegLib.data.formats import results_to_write
from SemiSegLib.errors import SOME_FAILED, SemiSegError
from SemiSegLib.evaluation import EvaluationError

if TYPE_CHECKING:
    from SemiSegLib.data.images import Mask
    from SemiSegLib.evaluation.classes import Classes
    from SemiSegLib.metrics import CaseMetrics, Statistics

FORMAT_VERSION = 1
_IGNORED = "which says that nobody annotated there; if it is a class, add --ignore-value none"


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
        from SemiSegLib.data.cases import listed
        from SemiSegLib.report import case_rows, markdown_table, score_header, summary_rows, text_table

        table = markdown_table if markdown else text_table
        summary = table(score_header("mean ± sd"), summary_rows(self.summary))
        notes = [f"{len(self.cases)} cases scored.", *self.messages]
        for kind, names in (("prediction", self.missing_predictions), ("reference", self.missing_references)):
            if names:
                notes.append(f"No {kind} for {len(names)} cases, which are not in the means: {listed(names)}")
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
    from SemiSegLib.data.cases import listed
    from SemiSegLib.evaluation.classes import find_classes
    from SemiSegLib.evaluation.masks import prediction_readers, reference_readers
    from SemiSegLib.metrics import summarise

    predicted, wanted = prediction_readers(predictions), reference_readers(references)
    names = sorted(predicted.keys() & wanted.keys())
    if not names:
        raise EvaluationError(
            f"no prediction in {predictions} has the name of a reference in {references} (predictions: "
            f"{listed(predicted) or 'none'}; references: {listed(wanted) or 'none'}); they are matched by file name"
        )
    classes = find_classes(names, predicted, wanted, predictions, references, labels, ignore_value)
    cases, failures, messages = {}, {}, list(classes.messages)
    for name in names:
        try:
            scores, notes = _score(name, predicted[name], wanted[name], classes, literature)
        except SemiSegError as error:  # a bad case does not keep the others from it
            failures[name] = str(error)
            continue
        messages += notes
        if scores is not None:
            cases[name] = scores
    if not cases and failures:
        raise EvaluationError("\n".join(failures.values()))
    if not cases:
        raise EvaluationError(f"the references of {listed(names)} hold {classes.ignore_value} alone, {_IGNORED}")
    summary = summarise(list(cases.values()))
    return Report(
        classes.labels,
        cases,
        summary,
        sorted(wanted.keys() - predicted.keys()),
        sorted(predicted.keys() - wanted.keys()),
        messages + _inconsistencies(summary),
        classes.ignore_value,
        literature,
        failures,
    )


def _score(
    name: str, predicted: Callable[[], Mask], wanted: Callable[[], Mask], classes: Classes, literature: bool
) -> tuple[CaseMetrics | None, list[str]]:
    """(scores of one case, None where no voxel of its reference is known; what to tell of it); raises SemiSegError."""
    from SemiSegLib.data.geometry import to_array
    from SemiSegLib.evaluation.masks import on_grid
    from SemiSegLib.metrics import case_metrics

    reference, foreign = classes.of_reference(wanted())
    prediction, foreign_too = classes.of_prediction(predicted())
    prediction, moved = on_grid(prediction, reference)
    notes = [*foreign_too, *foreign, *moved, *classes.unnamed_values(prediction), *classes.unnamed_values(reference)]
    drawn, ignored = to_array(reference.image), classes.ignore_value
    if ignored is not None and (drawn == ignored).all():  # two masks without a known voxel would agree wholly
        return None, [
            *notes,
            f"{name}: its reference holds {ignored} alone, {_IGNORED}. It takes no part in the scores.",
        ]
    spacing = reference.image.GetSpacing()
    return case_metrics(to_array(prediction.image), drawn, spacing, classes.labels, ignored, literature), notes


def _inconsistencies(summary: Mapping[str, Mapping[str, Statistics]]) -> list[str]:
    from SemiSegLib.metrics import inconsistency

    found = ((name, inconsistency(part["dsc"]["mean"], part["jaccard"]["mean"])) for name, part in summary.items())
    return [f"{name}: {problem}" for name, problem in found if problem]


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
