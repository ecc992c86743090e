"""How good is a mask, without its truth: the DSC to expect of a model's masks, with an interval that holds.

python -m SemiSegLib.quality --model RUN --input DIR --output quality.json
python -m SemiSegLib.quality --model left-atrium-lge --input DIR --output quality.json --maps MAPS
python -m SemiSegLib.quality --model model.safetensors --calibrate DATA        (annotated scans it has not seen)

The model looks at each scan several times (mirrored; or shifted and with other contrast where left and right
differ). How well these masks agree with the one that `predict` writes is turned into an expected DSC by what came of
the same agreement on annotated cases that the model was not trained on.
A training measures these at its end on its validation cases and keeps them in the model's file; for a run that has none
`--cross-fit K` trains K times, each time without a part of the annotated cases, and says so in what it writes.

The file written (`QUALITY_SCHEMA` is its version):

    format_version  1
    model           what --model named
    coverage        share of cases whose DSC the intervals are to hold; null without calibration
    calibration     cases (number), source (words), mean_absolute_error and spearman of its cases, each left out
                    in turn; null without calibration
    labels          value of each class by its name
    views           how the scan was looked at
    cases           the least good first: name, expected_dsc, low, high, empty (nothing was found), seconds, uncertainty
                    (file of the map, or null), classes (the same figures by class; also agreement and probable_dice)
    messages        what a person should know

expected_dsc, low and high lie between 0 and 1. Without calibration expected_dsc is the plain agreement, and low and
high are null. Where a class was not found, expected_dsc is 0 and the interval says nothing (0 to 1).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.commands import add_computing_options, program, run_command
from SemiSegLib.compute.attached import attached
from SemiSegLib.data.formats import results_to_write
from SemiSegLib.errors import SOME_FAILED, SemiSegError
from SemiSegLib.files import same_file
from SemiSegLib.inference.conformal import COVERAGE
from SemiSegLib.runs import write_json

if TYPE_CHECKING:
    from SemiSegLib.data.cases import Case
    from SemiSegLib.inference.quality import CaseQuality, Judge

QUALITY_SCHEMA = 1


class QualityOptionsError(SemiSegError):
    """The command line asks for what does not go together, or leaves something out."""


def calibrate_run(run: Path, device: str = "auto") -> bool:
    """Calibrate a run's model on its validation cases; False where these are too few."""
    from SemiSegLib.inference.conformal import LEAST_CASES
    from SemiSegLib.inference.quality import calibrate
    from SemiSegLib.runs import RunFolder
    from SemiSegLib.training.intent import load_cases

    cases = load_cases(RunFolder.open(run)).validation
    if len(cases) < LEAST_CASES:
        return False
    calibrate(run, cases, f"{len(cases)} validation cases of the training", device)
    return True


def cross_fit(run: Path, folds: int, device: str = "auto") -> None:
    """Calibrate a run's model by `folds` trainings with its settings, each without a part of its annotated cases.

    Scans of one patient are in one part. The trainings lie in RUN/cross-fit/1, 2, ...; those that have finished are not
    done again. What they measure is the DSC of networks with fewer annotations than the run's own, on cases they have
    not seen. Raises SemiSegError.
    """
    from SemiSegLib.config import Settings
    from SemiSegLib.data.patients import of_other_patients, patient
    from SemiSegLib.inference.quality import joined, keep, measure
    from SemiSegLib.runs import RunFolder, read_json
    from SemiSegLib.training import session
    from SemiSegLib.training.intent import load_cases

    whole = RunFolder.open(run)
    cases = load_cases(whole)
    patients = list(dict.fromkeys(patient(case) for case in cases.labelled))
    count = len(patients)
    if not 2 <= folds <= count or len(cases.labelled) < 3:
        raise QualityOptionsError(
            f"--cross-fit {folds}: {whole.path} has {len(cases.labelled)} annotated cases of {count} patients; at "
            f"least 3 are needed, and 2 to {count} parts."
        )
    measured = []
    for fold in range(folds):
        held_out = [case for case in cases.labelled if patient(case) in patients[fold::folds]]
        rest, bare = (tuple(of_other_patients(part, held_out)) for part in (cases.labelled, cases.unlabelled))
        part = run / "cross-fit" / str(fold + 1)
        settings = Settings.from_dict(read_json(whole.settings_file))
        settings.training.minutes = 0.0  # as long, as fine and as large as the run; a time would be planned anew
        settings.data.cache = str(whole.cache_at(settings.data.cache).resolve())  # nothing is preprocessed twice
        if not RunFolder(part).has_training():
            remaining = dataclasses.replace(cases, labelled=rest, unlabelled=bare, validation=())
            session.start(RunFolder.create(part), settings, remaining)
        else:
            _refuse_other_division(part, rest, folds)
            if RunFolder(part).status().state != "finished":
                session.resume(RunFolder.open(part))
        measured.append(measure(part, held_out, device))
    source = f"cross-fitted: {folds} trainings, each without a part of the {count} annotated cases"
    keep(run, {"source": source, **joined(measured)})


def _refuse_other_division(part: Path, trained: Sequence[Case], folds: int) -> None:
    """A training that is there already must be one of this division, or it would be measured on cases that it knows."""
    from SemiSegLib.runs import RunFolder
    from SemiSegLib.training.intent import load_cases

    if {case.name for case in load_cases(RunFolder.open(part)).labelled} != {case.name for case in trained}:
        raise QualityOptionsError(
            f"--cross-fit {folds}: {part} was trained without other cases than this division into {folds} parts leaves "
            f"out. Give the same number as before, or remove {part.parent} to train anew."
        )


def to_json(model: Path, judge: Judge, cases: Sequence[CaseQuality]) -> dict[str, Any]:
    """The content of the file, see above."""
    messages = []
    if judge.coverage is None:
        messages.append(
            f"The model {model} has no calibration: expected_dsc is the plain agreement of its views, without "
            "interval. Add --calibrate DATA with annotated scans that it has not seen, or --cross-fit K for a run."
        )
    missing = [case.name for case in cases if any(expected.empty for expected in case.classes.values())]
    if missing:
        messages.append(f"Not every class was found in: {', '.join(missing)}")
    return {
        "format_version": QUALITY_SCHEMA,
        "model": str(model),
        "coverage": judge.coverage,
        "calibration": judge.describe(),
        "labels": {label.name: label.value for label in judge.ensemble.data.labels},
        "views": [view.name for view in judge.ensemble.views],
        "cases": [case.to_dict() for case in sorted(cases, key=lambda case: (case.whole.expected_dsc, case.name))],
        "messages": messages,
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("quality"),
        description="The DSC to expect of a model's masks, with an interval, and where the model is unsure.",
    )
    add = result.add_argument
    add("--model", type=Path, required=True, metavar="RUN|FILE|NAME", help="run folder, file or name")
    add("--input", type=Path, metavar="FILE|DIR", help="a scan, or a folder of scans")
    add("--output", type=results_to_write, metavar="FILE", help="the JSON file to write")
    add("--maps", type=Path, metavar="DIR", help="also write uncertainty maps: 0 certain, 1 no idea")
    add(
        "--coverage",
        type=float,
        default=COVERAGE,
        metavar="SHARE",
        help=f"of cases that intervals hold (default: {COVERAGE})",
    )
    add("--calibrate", type=Path, metavar="DIR", help="first calibrate on annotated scans the model has not seen")
    add("--splits", metavar="FILE:NAME", help="with --calibrate: use the validation cases of this split")
    add("--cross-fit", type=int, metavar="K", help="first calibrate a run by K trainings without a part of its cases")
    add_computing_options(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input, 3 done but for some bad scans."""
    options = parser().parse_args(arguments)
    return run_command(lambda: _run(options), options.json_progress)


def _run(options: argparse.Namespace) -> int:
    if options.calibrate is None and options.cross_fit is None and options.input is None:
        raise QualityOptionsError("--input (scans to judge), --calibrate or --cross-fit is needed.")
    if options.input is not None and options.output is None:
        raise QualityOptionsError("--output FILE.json is needed: where the figures go.")
    if not 0 < options.coverage < 1:
        raise QualityOptionsError(f"--coverage {options.coverage}: write a share between 0 and 1, for example 0.9.")
    if options.calibrate is not None:
        from SemiSegLib.inference.quality import calibrate

        cases = _annotated(options.calibrate, options.splits)
        _refuse_trained_with(options.model, cases)
        calibrate(options.model, cases, f"{len(cases)} annotated cases of {options.calibrate.name}", options.device)
    if options.cross_fit is not None:
        cross_fit(options.model, options.cross_fit, options.device)
    if options.input is None:
        return 0
    with attached(options.output.parent) if options.attached else nullcontext():
        return _judge_all(options)


def _annotated(data: Path, splits: str | None) -> Sequence[Case]:
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.data.splits import validation_cases

    cases = find_cases(data)
    if splits:
        return validation_cases(cases, splits)
    return [case for case in cases if case.label is not None]


def _refuse_trained_with(model: Path, cases: Sequence[Case]) -> None:
    """A model is better on the scans whose masks it learnt from: intervals from these would promise too much."""
    from SemiSegLib.data.cases import annotated_in, listed
    from SemiSegLib.models import load_model

    known = annotated_in(cases, load_model(model).card.data)
    if known:
        raise QualityOptionsError(
            f"--calibrate: {model} was trained with the masks of {listed(known)}. Calibrate it on annotated scans that "
            "it has not seen (--splits takes the validation cases of a split), or use --cross-fit."
        )


def _judge_all(options: argparse.Namespace) -> int:
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.inference.quality import Judge

    cases = sorted(find_cases(options.input), key=lambda case: case.name)
    if options.maps is not None and any(same_file(options.maps, case.image.parent) for case in cases):
        raise QualityOptionsError(
            f"--maps {options.maps}: scans lie there, and the maps would be taken for scans later: name another folder."
        )
    _calibrate_if_needed(options)
    judge = Judge(options.model, options.device, options.coverage)
    done, failures = [], []
    for index, case in enumerate(cases, start=1):
        try:
            done.append(judge(case, options.maps))
        except SemiSegError as error:  # a bad scan does not keep the others from it
            failures.append(str(error))
            if options.json_progress:
                event = {"event": "failed", "index": index, "count": len(cases), "name": case.name}
                print(json.dumps({**event, "message": str(error)}), flush=True)
            print(f"error: {error}", file=sys.stderr, flush=True)
            continue
        _report(done[-1], index, len(cases), options.json_progress)
    content = to_json(options.model, judge, done)
    content["messages"] += failures
    write_json(options.output, content)
    for message in [] if options.json_progress else content["messages"]:
        print(f"note: {message}")
    return SOME_FAILED if failures else 0


def _calibrate_if_needed(options: argparse.Namespace) -> None:
    """A run from before there was calibration, or one that is still training, is calibrated now."""
    from SemiSegLib.models import load_model

    if (options.model / "run.json").exists() and not load_model(options.model).card.quality:
        calibrate_run(options.model, options.device)


def _report(case: CaseQuality, index: int, count: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": "case", "index": index, "count": count, **case.to_dict()}), flush=True)
        return
    whole = case.whole
    bounds = "" if whole.low is None or whole.high is None else f" ({whole.low:.2f} to {whole.high:.2f})"
    print(
        f"{index}/{count} {case.name}  expected DSC {whole.expected_dsc:.2f}{bounds}  {case.seconds:.1f} s", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
