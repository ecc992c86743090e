"""What to annotate next: scans, and the slices of each that matter most.

python -m SemiSegLib.suggest --run RUN --budget 3
python -m SemiSegLib.suggest --run RUN --budget 3 --slices 5 --output suggestions.json
python -m SemiSegLib.suggest --run RUN --data DIR --budget 3   (scans and masks as they are now; RUN may be a model)
python -m SemiSegLib.suggest --data DIR --budget 3           (cold start: no model, no mask)

The scans of a run that nobody annotated are looked at with its model (as `SemiSegLib.quality` does), or, before the
first training, by their looks alone. Strategies: foreground-random (default with a model), cold-start (default
without), power, uncertainty, typical, diversity, uncertain-and-diverse, and the baseline random;
SemiSegLib/inference/choosing.py says what each does. None of those that were measured needs fewer minutes of annotation
than random choice (Testing/Benchmarks/Annotation.md), so random choice it is; slices are those where the model is
unsure.

The file (and with `--json-progress` the last line, as event "suggested"):

    format_version  1
    strategy        the one used
    suggestions     the first to annotate first: name, image (file), uncertainty (0 to 1, null without a model), empty
                    (nothing was found in it), slices (the most useful first: axis 0, 1 or 2 of the file, index from 0)
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from SemiSegLib.commands import add_computing_options, program, run_command
from SemiSegLib.compute.attached import attached
from SemiSegLib.data.formats import results_to_write
from SemiSegLib.errors import SemiSegError
from SemiSegLib.runs import write_json

if TYPE_CHECKING:
    from SemiSegLib.data.cases import Case
    from SemiSegLib.inference.choosing import Pool
    from SemiSegLib.inference.ensemble import Ensemble

logger = logging.getLogger(__name__)
_Seen = TypeVar("_Seen")

FORMAT_VERSION = 1
WITH_MODEL, WITHOUT_MODEL = "foreground-random", "cold-start"


class SuggestError(SemiSegError):
    """Nothing can be suggested; the message says why."""


@dataclass(frozen=True)
class Slice:
    """A slice of a scan's file: index from 0 along axis 0, 1 or 2."""

    axis: int
    index: int


@dataclass(frozen=True)
class Suggestion:
    """A scan to annotate, and the slices to begin with."""

    name: str
    image: Path
    uncertainty: float | None
    empty: bool
    slices: list[Slice]

    def to_dict(self) -> dict[str, Any]:
        """The entry of `suggestions`."""
        return asdict(self) | {"image": str(self.image)}


def suggest(
    run: Path,
    budget: int = 5,
    strategy: str = WITH_MODEL,
    slices: int = 0,
    axis: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int, str], None] | None = None,
    data: Path | None = None,
) -> list[Suggestion]:
    """At most `budget` of a run's scans without annotation, the first to annotate first, with `slices` slices each.

    :param run: a run folder; with `data` also a model file or the name of a model
    :param data: look at the scans of this folder instead of the run's, which were others or had other masks
    :param axis: of the slices, in the file's order; default: the one with the largest voxels
    :raises SemiSegError: no model, nothing left to annotate, unknown strategy
    """
    from SemiSegLib.compute.devices import compute_to_predict
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.inference.choosing import choose
    from SemiSegLib.inference.ensemble import Ensemble
    from SemiSegLib.inference.predictor import Predictor
    from SemiSegLib.models import load_model
    from SemiSegLib.runs import RunFolder
    from SemiSegLib.training.intent import load_cases

    if data is None and not run.is_dir():
        raise SuggestError(f"{run} is no run folder, which knows its scans: add --data DIR with the scans to look at.")
    cases = find_cases(data) if data is not None else load_cases(RunFolder.open(run))
    _refuse_nothing(cases.unlabelled, budget, str(data or run))
    model = load_model(run)
    compute = compute_to_predict(device, model.card.settings.training.precision)
    ensemble = Ensemble([Predictor(model, compute)])
    bare, pool = _pool_with_model(cases.unlabelled, cases.labelled, ensemble, progress)
    result = []
    for index in choose(strategy, pool, budget, seed):
        assert pool.uncertainty is not None
        assert pool.foreground is not None
        case = bare[index]
        places = _slices(case, slices, axis, ensemble) if slices else []
        empty = not bool(pool.foreground[index])
        result.append(Suggestion(case.name, case.image, float(pool.uncertainty[index]), empty, places))
    return result


def suggest_cold(
    cases: Sequence[Case],
    budget: int = 5,
    strategy: str = WITHOUT_MODEL,
    slices: int = 0,
    axis: int | None = None,
    seed: int = 0,
) -> list[Suggestion]:
    """The same before there is a model: of the cases without mask, by what scans look like; raises SemiSegError."""
    from SemiSegLib.inference.choosing import Pool, choose, evenly

    bare = [case for case in cases if case.label is None]
    _refuse_nothing(bare, budget, "the data")
    _, annotated = _seen([case for case in cases if case.label is not None], _looks)
    bare, looks = _seen(bare, _looks)
    _refuse_nothing_readable(bare)
    pool = Pool(np.array(looks), np.array(annotated))
    result = []
    for index in choose(strategy, pool, budget, seed):
        case = bare[index]
        along, length = _axis(case, axis)
        places = [Slice(along, place) for place in evenly(length, slices)] if slices else []
        result.append(Suggestion(case.name, case.image, None, False, places))
    return result


def _refuse_nothing(cases: Sequence[Case], budget: int, where: str) -> None:
    if budget < 1:
        raise SuggestError(f"--budget {budget}: at least one scan must be asked for.")
    if not cases:
        raise SuggestError(f"Every scan of {where} is annotated: there is nothing left to suggest.")


def _refuse_nothing_readable(cases: Sequence[Case]) -> None:
    if not cases:
        raise SuggestError("None of the scans without annotation can be used: there is nothing to suggest.")


def _seen(
    cases: Sequence[Case], see: Callable[[Case], _Seen], progress: Callable[[int, int, str], None] | None = None
) -> tuple[list[Case], list[_Seen]]:
    """The cases, and what `see` makes of each; a bad one is named and does not keep the others from it."""
    kept, found = [], []
    for index, case in enumerate(cases, start=1):
        try:
            found.append(see(case))
            kept.append(case)
        except SemiSegError as error:
            logger.warning("%s is left out: %s", case.name, error)
        if progress:
            progress(index, len(cases), case.name)
    return kept, found


def _pool_with_model(
    bare: Sequence[Case],
    annotated: Sequence[Case],
    ensemble: Ensemble,
    progress: Callable[[int, int, str], None] | None,
) -> tuple[list[Case], Pool]:
    """The scans without annotation that can be used, and what is known of them."""
    from SemiSegLib.inference.choosing import Pool, descriptor
    from SemiSegLib.inference.quality import look

    def see(case: Case) -> tuple[float, bool, np.ndarray]:
        opinions, grid, _ = look(case, ensemble)
        inside = np.any([vote > 0 for vote in opinions.votes], axis=0)
        uncertainty = float(opinions.entropy()[inside].mean()) if inside.any() else 1.0
        return uncertainty, bool((opinions.judged > 0).any()), descriptor(_array(grid), opinions.judged > 0)

    usable, seen = _seen(bare, see, progress)
    _refuse_nothing_readable(usable)
    _, others = _seen(annotated, lambda case: _looks_annotated(case, ensemble))
    uncertainty, foreground, descriptors = (np.array(values) for values in zip(*seen, strict=True))
    return usable, Pool(descriptors, np.array(others), uncertainty, foreground)


def _looks(case: Case) -> np.ndarray:
    """What a scan looks like as a whole, in canonical axes; raises SemiSegError for one in which there is nothing."""
    from SemiSegLib.data.cases import read_scan
    from SemiSegLib.data.geometry import canonical
    from SemiSegLib.inference.choosing import descriptor

    array = _array(canonical(read_scan(case)))
    if array.min() == array.max():  # as unlike the others as can be, and no training takes it
        raise SuggestError(f"{case.image}: all voxels have the same intensity; there is nothing to segment")
    return descriptor(array)


def _looks_annotated(case: Case, ensemble: Ensemble) -> np.ndarray:
    from SemiSegLib.constants import IGNORE
    from SemiSegLib.data.cases import read_case
    from SemiSegLib.data.grid import to_network_grid
    from SemiSegLib.data.preprocess import class_indices, mask_on_grid
    from SemiSegLib.inference.choosing import descriptor

    scan, mask = read_case(case)
    assert mask is not None
    grid = to_network_grid(scan, ensemble.data)
    known = mask_on_grid(class_indices(_array(mask.image), case, ensemble.data), scan, grid, ensemble.data)
    return descriptor(_array(grid), (known > 0) & (known != IGNORE))


def _slices(case: Case, count: int, axis: int | None, ensemble: Ensemble) -> list[Slice]:
    """The slices with most uncertainty inside of what any view takes for foreground."""
    from SemiSegLib.data.grid import back_to_scan
    from SemiSegLib.inference.choosing import slices_first
    from SemiSegLib.inference.quality import look

    opinions, grid, scan = look(case, ensemble)
    inside = np.any([vote > 0 for vote in opinions.votes], axis=0)
    there = back_to_scan(opinions.entropy() * inside, grid, scan, 0.0)
    along, _ = _axis(case, axis)
    scores = there.sum(axis=tuple(other for other in range(3) if other != along))
    return [Slice(along, index) for index in slices_first(scores, count)]


def _axis(case: Case, axis: int | None) -> tuple[int, int]:
    """(axis of the slices, their number): if none is named, the axis with the largest voxels, the last of several."""
    from SemiSegLib.data.images import read_geometry

    geometry = read_geometry(case.image)
    if axis is None:
        axis = max(range(3), key=lambda index: (round(geometry.spacing[index], 3), index))
    return axis, geometry.size[axis]


def _array(image: Any) -> np.ndarray:
    from SemiSegLib.data.geometry import to_array

    return to_array(image)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from SemiSegLib.inference.choosing import STRATEGIES

    strategies = "\n".join(f"  {name:22} {choose_by.__doc__}" for name, choose_by in STRATEGIES.items())
    result = argparse.ArgumentParser(
        prog=program("suggest"),
        description="Say which scans, and which of their slices, to annotate next.",
        epilog=f"strategies:\n{strategies}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add(
        "--run",
        type=Path,
        metavar="RUN|FILE|NAME",
        help="run whose scans without annotation are looked at with its model; with --data also a model's file or name",
    )
    add("--data", type=Path, metavar="DIR", help="scans: before there is a model, or instead of those of --run")
    add("--budget", type=int, default=5, metavar="N", help="scans to suggest (default: 5)")
    add("--strategy", choices=list(STRATEGIES), help=f"default: {WITH_MODEL} with --run, {WITHOUT_MODEL} with --data")
    add("--slices", type=int, default=0, metavar="K", help="also suggest K slices of each scan")
    add("--axis", type=int, choices=(0, 1, 2), help="of the slices, in the file's order (default: the thickest voxels)")
    add("--seed", type=int, default=0, metavar="N", help="of strategies that draw (default: 0)")
    add("--output", type=results_to_write, metavar="FILE", help="write the suggestions as JSON")
    add_computing_options(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input."""
    options = parser().parse_args(arguments)

    def work() -> None:
        with attached(_output_folder(options)) if options.attached else nullcontext():
            _run(options)

    return run_command(work, options.json_progress)


def _output_folder(options: argparse.Namespace) -> Path:
    if options.output is None:
        raise SuggestError("--attached needs --output FILE: its folder is what is not shared.")
    folder: Path = options.output.parent
    return folder


def _run(options: argparse.Namespace) -> None:
    if options.run is None and options.data is None:
        raise SuggestError(
            "Name --run RUN (a training), --data DIR (scans before the first training), or both: the scans of DIR "
            "looked at with the model of RUN."
        )
    if options.slices < 0:
        raise SuggestError(f"--slices {options.slices}: a number of slices is needed, 0 for none.")
    if options.seed < 0:
        raise SuggestError(f"--seed {options.seed}: a number of at least 0 is needed.")
    strategy = options.strategy or (WITHOUT_MODEL if options.run is None else WITH_MODEL)
    how = (options.budget, strategy, options.slices, options.axis, options.seed)
    if options.run is None:
        from SemiSegLib.data.layouts import find_cases

        found = suggest_cold(list(find_cases(options.data)), *how)
    else:
        progress = _progress if options.json_progress else None
        found = suggest(options.run, *how, options.device, progress, options.data)
    content = {
        "format_version": FORMAT_VERSION,
        "strategy": strategy,
        "suggestions": [suggestion.to_dict() for suggestion in found],
    }
    if options.output:
        write_json(options.output, content)
    if options.json_progress:
        print(json.dumps({"event": "suggested", **content}), flush=True)
        return
    for number, suggestion in enumerate(found, start=1):
        places = ", ".join(str(place.index) for place in suggestion.slices)
        along = f"  slices {places} along axis {suggestion.slices[0].axis}" if suggestion.slices else ""
        unsure = "" if suggestion.uncertainty is None else f"  uncertainty {suggestion.uncertainty:.2f}"
        print(f"{number}. {suggestion.name}{unsure}{along}")


def _progress(index: int, count: int, name: str) -> None:
    print(json.dumps({"event": "case", "index": index, "count": count, "name": name}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
