"""Refine the mask of one scan by what was drawn on it: ten to thirty seconds, and the rest of the mask stays.

python -m SemiSegLib.refine --model RUN --scan scan.nii.gz --strokes strokes.nii.gz --output mask.nii.gz
python -m SemiSegLib.refine --model NAME --scan S --strokes F --output M --replay RUN --save adapted.safetensors

The strokes are a mask on the scan (any grid that overlaps with it): label values where a structure was drawn, 0 where
background was drawn, and the ignore value (255) where nothing was drawn. A corrected slice is a slice full of strokes.
Neither the model nor a mask from before is changed: to undo, keep using them. Old annotations of the run that
`--replay` names (by default the model, if that is a run) are trained on as well, so that a model kept with `--save` has
not forgotten them.

Printed at the end, as one JSON object with `--json-progress`:

    event      "refined"
    mask       file written
    steps, seconds, reason      steps of the adaptation, seconds in all, and why it ended: followed, time, steps, or
                                nothing (the mask was right already)
    right_before, right_after   share of the drawn voxels that the network has right, each class counting the same
    changed_ml                  volume in which the mask differs from the one before
    volumes_ml                  volume of each class
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SemiSegLib.commands import add_computing_options, file_to_write, program, run_command
from SemiSegLib.compute.attached import attached
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.formats import WRITABLE, known_extension
from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import same_file

if TYPE_CHECKING:
    import SimpleITK as sitk

    from SemiSegLib.config import AugmentationSettings, Label, Settings
    from SemiSegLib.data.patches import PatchSampler
    from SemiSegLib.training.refinement import RefinementSettings

MOST_REPLAYED = 8
"""Old cases that are replayed: preparing more would take longer than refining."""


class RefineError(SemiSegError):
    """A scan cannot be refined; the message says what does not fit."""


@dataclass(frozen=True)
class Outcome:
    """What `refine` wrote and how it went; see the top of this file."""

    mask: Path
    steps: int
    seconds: float
    reason: str
    right_before: float
    right_after: float
    changed_ml: float
    volumes_ml: dict[str, float]


def refine(
    model: Path,
    scan: Path,
    strokes: Path,
    output: Path,
    settings: RefinementSettings | None = None,
    replay: Path | None = None,
    save: Path | None = None,
    device: str = "auto",
    progress: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Write the refined mask of a scan on its own grid, and the adapted model to `save`; raises SemiSegError."""
    from SemiSegLib.compute.devices import compute_to_predict
    from SemiSegLib.data.geometry import volumes_ml
    from SemiSegLib.data.writing import write_mask
    from SemiSegLib.inference.predictor import Predictor
    from SemiSegLib.models import load_model, model_file, save_model
    from SemiSegLib.training.refinement import RefinementSettings, adapt, nearness

    start, settings = time.monotonic(), settings or RefinementSettings()
    _check_places(output, save, scan, strokes, model_file(model))
    loaded = load_model(model)
    compute = compute_to_predict(device, loaded.card.settings.training.precision)
    task = _read(scan, strokes, loaded.card.settings)
    predictor = Predictor(loaded, compute)
    before = predictor.probabilities(task.image)
    near = nearness(task.drawn, before.argmax(0), task.grid.GetSpacing(), settings.reach)
    steps, reason, after = 0, "nothing", before
    if near.any():
        old = _replayed(replay or model, loaded.card.settings, asked=replay is not None)
        refined = adapt(loaded, task.image, task.drawn, before, near, compute, settings, old, progress)
        loaded, steps, reason = refined.kept, refined.steps, refined.reason
        after = near * Predictor(refined.model, compute).probabilities(task.image) + (1 - near) * before
    mask_before, mask = (predictor.on_scan(each, task.grid, task.scan).indices for each in (before, after))
    mask = np.where(task.drawn_on_scan == IGNORE, mask, task.drawn_on_scan)  # what was drawn is never argued with
    labels = predictor.data.labels
    write_mask(_with_values(mask, task.scan, labels), output, labels, scan)
    if save is not None:
        save_model(save, loaded.network(), replace(loaded.card, quality={}))  # another network: not calibrated
    indices = {label.name: index for index, label in enumerate(labels, start=1)}
    return Outcome(
        mask=output,
        steps=steps,
        seconds=time.monotonic() - start,
        reason=reason,
        right_before=share_right(before.argmax(0), task.drawn),
        right_after=share_right(after.argmax(0), task.drawn),
        changed_ml=volumes_ml(mask != mask_before, {"changed": True}, task.scan)["changed"],
        volumes_ml=volumes_ml(mask, indices, task.scan),
    )


def _check_places(output: Path, save: Path | None, scan: Path, strokes: Path, model: Path) -> None:
    """Raises SemiSegError where what is written would replace what is read, or cannot be written in that format."""
    known_extension(output, WRITABLE)
    if same_file(output, scan) or same_file(output, strokes):
        raise RefineError(f"{output} would be replaced by the refined mask: name another --output.")
    if save is not None and (
        save.resolve() == output.resolve() or any(same_file(save, file) for file in (scan, strokes, model))
    ):
        raise RefineError(f"{save} would be replaced by the adapted model: name another --save.")


def share_right(mask: np.ndarray, drawn: np.ndarray) -> float:
    """Share of the drawn voxels of each class that a mask has right, 0 to 1, mean over the classes drawn.

    :param mask: class indices, (x, y, z)
    :param drawn: the same, IGNORE where nothing was drawn
    """
    classes = [index for index in np.unique(drawn) if index != IGNORE]
    return float(np.mean([(mask[drawn == index] == index).mean() for index in classes]))


@dataclass(frozen=True)
class _Task:
    """A scan and what was drawn on it (class indices, IGNORE elsewhere), on its own and on the networks' grid."""

    scan: sitk.Image
    grid: sitk.Image
    image: np.ndarray
    drawn_on_scan: np.ndarray
    drawn: np.ndarray


def _read(scan_file: Path, strokes_file: Path, settings: Settings) -> _Task:
    from SemiSegLib.data.cases import Case
    from SemiSegLib.data.geometry import to_array
    from SemiSegLib.data.grid import sparse_on_grid, to_network_grid
    from SemiSegLib.data.images import bring_to, read_image, read_mask
    from SemiSegLib.data.preprocess import class_indices

    scan = read_image(scan_file)
    given = bring_to(read_mask(strokes_file), scan, scan_file, fill=settings.data.ignore_value)
    drawn_on_scan = class_indices(
        to_array(given.image), Case(strokes_file.name, scan_file, strokes_file), settings.data
    )
    if (drawn_on_scan == IGNORE).all():
        raise RefineError(
            f"{strokes_file}: nothing is drawn; it needs label values, 0 for background, and "
            f"{settings.data.ignore_value} where nothing was drawn."
        )
    if not (drawn_on_scan == IGNORE).any():
        raise RefineError(
            f"{strokes_file}: every voxel is drawn, so there is nothing to refine; voxels that nobody drew need the "
            f"value {settings.data.ignore_value}."
        )
    grid = to_network_grid(scan, settings.data)
    return _Task(scan, grid, to_array(grid), drawn_on_scan, sparse_on_grid(drawn_on_scan, scan, grid))


def _replayed(source: Path, settings: Settings, asked: bool) -> PatchSampler | None:
    """Old annotations of a run, one patch at a time; None where the model is no run, or its scans or masks are gone."""
    from SemiSegLib.data.patches import PatchSampler
    from SemiSegLib.data.preprocess import prepare
    from SemiSegLib.methods import method_class
    from SemiSegLib.runs import RunFolder, read_json
    from SemiSegLib.training.intent import load_cases

    if not asked and not (source / "run.json").exists():
        return None
    run = RunFolder.open(source)
    try:
        cases = load_cases(run).labelled[:MOST_REPLAYED]
        sdm = method_class(settings.method).needs_sdm
        cache = run.cache_at(read_json(run.settings_file)["data"]["cache"])  # a model's card names none
        prepared = [prepare(case, settings.data, cache, sdm) for case in cases]
    except (SemiSegError, OSError):
        if asked:
            raise
        return None
    training = replace(settings.training, labelled_batch=1)
    return PatchSampler(prepared, [], settings.data, training, sdm=False, augmentation=_mirrored_alone(settings))


def _mirrored_alone(settings: Settings) -> AugmentationSettings:
    """Flips as in the model's own training, which knows no others; nothing is deformed in so few steps."""
    return replace(settings.augmentation, turn=0.0, tilt=0.0, scale=0.0, stretch=0.0, elastic=0.0, intensity=0.0)


def _with_values(indices: np.ndarray, scan: sitk.Image, labels: Sequence[Label]) -> sitk.Image:
    from SemiSegLib.data.geometry import from_array

    values = np.array([0, *(label.value for label in labels)])
    return from_array(values[indices].astype(np.uint8 if values.max() < 256 else np.uint16), scan)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("refine"),
        description="Refine the mask of one scan by strokes or corrected slices; the rest of the mask stays.",
    )
    add = result.add_argument
    add("--model", type=Path, required=True, metavar="RUN|FILE|NAME", help="run folder, file or name")
    add("--scan", type=Path, required=True, metavar="FILE", help="the scan")
    add("--strokes", type=Path, required=True, metavar="FILE", help="mask of what was drawn, 255 where nothing was")
    add("--output", type=file_to_write, required=True, metavar="FILE", help="the refined mask to write")
    add("--replay", type=Path, metavar="RUN", help="run whose annotations are trained on as well (default: the model)")
    add("--save", type=file_to_write, metavar="FILE", help="also keep the adapted model (.safetensors)")
    add("--seconds", type=float, default=20.0, metavar="S", help="longest time to adapt (default: 20)")
    add(
        "--reach",
        type=float,
        default=10.0,
        metavar="MM",
        help="how far around a correction the mask may change (default: 10)",
    )
    add_computing_options(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input."""
    options = parser().parse_args(arguments)

    def work() -> None:
        with attached(options.output.parent) if options.attached else nullcontext():
            _run(options)

    return run_command(work, options.json_progress)


def _run(options: argparse.Namespace) -> None:
    if not (options.seconds > 0 and options.reach > 0):
        raise RefineError("--seconds and --reach must be above 0.")
    from SemiSegLib.compute.memory import told_of_memory
    from SemiSegLib.training.refinement import RefinementSettings

    def progress(step: int, loss: float) -> None:
        print(json.dumps({"event": "step", "step": step, "strokes": round(loss, 4)}), flush=True)

    with told_of_memory(options.scan):
        outcome = refine(
            options.model,
            options.scan,
            options.strokes,
            options.output,
            RefinementSettings(seconds=options.seconds, reach=options.reach),
            options.replay,
            options.save,
            options.device,
            progress if options.json_progress else None,
        )
    if options.json_progress:
        print(json.dumps({"event": "refined", **asdict(outcome), "mask": str(outcome.mask)}), flush=True)
        return
    print(
        f"{outcome.mask}  {outcome.steps} steps, {outcome.seconds:.0f} s ({outcome.reason}); of the strokes "
        f"{100 * outcome.right_after:.0f} % are right, {100 * outcome.right_before:.0f} % before; "
        f"{outcome.changed_ml:.2f} ml changed"
    )


if __name__ == "__main__":
    sys.exit(main())
