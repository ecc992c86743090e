"""Train semi-supervised on a folder of scans of which a few are annotated.

python -m SemiSegLib.train --data DIR --out RUN --preset left-atrium
python -m SemiSegLib.train --out RUN --resume
python -m SemiSegLib.train --demo
torchrun --nproc_per_node=4 -m SemiSegLib.train ...        (several GPUs or machines: Resources/Docs/Cluster.md)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib import methods
from SemiSegLib.commands import print_all_characters, program, refusal
from SemiSegLib.compute.parent import watch
from SemiSegLib.compute.torchrun import rank_and_world_size
from SemiSegLib.config import DEFAULT_METHOD, RECIPES, TRACKERS, Settings, SettingsError
from SemiSegLib.durations import parse_minutes
from SemiSegLib.errors import SemiSegError
from SemiSegLib.presets import CORRECTION_MINUTES, CORRECTION_RATE, PRESET_TITLES, all_settings, build_settings
from SemiSegLib.runs import ReadOnlyRun, RunFolder

if TYPE_CHECKING:
    from SemiSegLib.data.cases import CaseList

DEFAULT_MINUTES = 60.0  # of a training whose length nobody gave: what gives most in an hour on this device

_LENGTHS = {"training.iterations", "training.minutes"}


def train(
    data: Path,
    out: Path,
    settings: Settings,
    splits: str | None = None,
    labelled: int | Path | None = None,
    validation: int = 0,
    init: Path | None = None,
    quiet: bool = False,
    since: float | None = None,
) -> RunFolder:
    """Train anew on the scans in `data`; everything that comes of it is in the run folder `out`.

    `splits` is FILE:NAME, `labelled` a number of cases or a file that names them, `validation` a number of annotated
    cases held out when the splits name none, `since` when this began, if not now (`RunFolder.since`). Raises
    SemiSegError; the run folder then says the same.
    """
    since = since or time.time()
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.data.splits import apply_splits, hold_out
    from SemiSegLib.models import model_file
    from SemiSegLib.training.intent import Intent
    from SemiSegLib.training.warnings import warnings_kept

    if init:
        from SemiSegLib.training.initial import load_initial

        init = model_file(init)
        load_initial(init, settings)  # refused before anything is written
    with warnings_kept() as warnings:
        cases = hold_out(apply_splits(find_cases(data), splits, labelled), validation)
    intent = Intent.of(settings, cases, splits, labelled, validation, init)
    run = RunFolder(out) if rank_and_world_size()[0] == 0 else ReadOnlyRun(out)
    run.since = since
    with run.begun(intent.to_dict()):
        _listen(run, quiet)
        for text in warnings:
            run.event("message", level="warning", text=text)
        if labelled is not None and validation:
            run.event("message", level="info", text=_taken_out(cases))
        from SemiSegLib.training import session

        session.start(run, settings, cases, init)
    return run


def _taken_out(cases: CaseList) -> str:
    chosen, held_out = len(cases.labelled) + len(cases.validation), len(cases.validation)
    return (
        f"Of the {chosen} annotated cases of --labelled, --validation holds out {held_out} to measure with: "
        f"{len(cases.labelled)} train."
    )


def resume(
    out: Path,
    device: str | None = None,
    data: Path | None = None,
    quiet: bool = False,
    changes: Mapping[str, Any] | None = None,
    since: float | None = None,
) -> RunFolder:
    """Go on with the run in `out`; `data` says where its scans are now. Raises SemiSegError.

    `changes` are settings that a run may change on its way (`session.CHANGEABLE`): more iterations also for a run that
    has finished, another device; `since` as in `train`.
    """
    run = RunFolder.open(out) if rank_and_world_size()[0] == 0 else ReadOnlyRun.open(out)
    run.since = since or run.since
    _listen(run, quiet)
    from SemiSegLib.training import session

    session.resume(run, {**(changes or {}), **({"training.device": device} if device else {})}, data)
    return run


def _listen(run: RunFolder, quiet: bool) -> None:
    from SemiSegLib.console import Console
    from SemiSegLib.tracking.listening import follow

    if rank_and_world_size()[0] > 0:
        return
    if not quiet:
        run.listen("The terminal", Console)
    follow(run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "\n".join(f"  {name:16} {methods.title(name)}" for name in methods.available())
    presets = "\n".join(f"  {name:16} {title}" for name, title in PRESET_TITLES.items())
    result = argparse.ArgumentParser(
        prog=program("train"),
        description="Train on a folder of scans of which a few are annotated.",
        epilog=f"methods:\n{names}\n\npresets:\n{presets}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--data", type=Path, metavar="DIR", help="scans and masks: images/ + labels/, dataset.json, and others")
    add("--out", type=Path, metavar="RUN", help="the run folder to write")
    add("--method", choices=methods.available(), help=f"training method (default: {DEFAULT_METHOD})")
    add("--recipe", choices=RECIPES, help="strong: our own (default); published: as the method's paper trains")
    add(
        "--time",
        metavar="15m|1h|8h",
        help="how long to train; voxel size, patch and iterations follow from the device's speed (default: 1h, but not "
        "with --iterations, --config, --recipe published or torchrun)",
    )
    add("--preset", choices=list(PRESET_TITLES), help="the task (default: custom)")
    add("--splits", metavar="FILE:NAME", help="JSON file with named splits, and the one to use")
    add(
        "--labelled",
        metavar="N|FILE",
        help="use only so many annotations, or those of the cases listed in a file; --validation takes its own out of "
        "these",
    )
    add(
        "--validation",
        type=int,
        metavar="N",
        help="hold out the last N annotated cases, by name, to measure with; with --labelled, N of those",
    )
    add("--iterations", type=int, metavar="N", help="optimiser steps")
    add("--spacing", metavar="X,Y,Z", help="voxel size to work at, mm")
    add("--patch", metavar="X,Y,Z", help="patch size in voxels")
    add("--seed", type=int, metavar="N", help="of everything random")
    add("--device", metavar="auto|cuda|mps|cpu", help="where to compute (default: auto)")
    add("--config", type=Path, metavar="FILE", help="settings as JSON, for example a run's settings.json")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting by name; may be repeated")
    add("--init", type=Path, metavar="RUN|FILE|NAME", help="start from a trained model: run folder, file or name")
    add(
        "--correction",
        action="store_true",
        help=f"a round after corrections, from the model of --init: at {CORRECTION_RATE:g} of the learning rate, for "
        f"{CORRECTION_MINUTES:g} minutes where no --time or --iterations says otherwise",
    )
    add("--track", action="append", choices=TRACKERS, help="also write to this experiment tracker; may be repeated")
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --out; --iterations N lengthens it, --data says where its scans are now",
    )
    add("--demo", action="store_true", help="make a small synthetic data set, train, predict and evaluate on it")
    add("--list-settings", action="store_true", help="print every setting with its value here, and stop")
    add("--quiet", action="store_true", help="print errors only")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 finished or stopped as asked, 2 wrong input."""
    since = time.time() if arguments is not None else _start_of_process()  # somebody may have asked to stop by now
    watch()
    options = parser().parse_args(arguments)
    print_all_characters()
    try:
        return _run(options, since)
    except (SemiSegError, OSError) as raised:
        error = refusal(raised) if isinstance(raised, OSError) else raised
        rank, ranks = rank_and_world_size()
        print(f"error{f' of process {rank}' if ranks > 1 else ''}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _start_of_process() -> float:
    import psutil

    return psutil.Process().create_time()


def _run(options: argparse.Namespace, since: float) -> int:
    if options.demo:
        if rank_and_world_size()[1] > 1:
            raise SettingsError("--demo runs on one process: start it without torchrun.")
        from SemiSegLib.demo import run_demo

        run_demo(options.out or Path("semiseg-demo"), train, settings_overrides(options), options.quiet)
        return 0
    if options.resume:
        if options.out is None:
            raise SettingsError("--resume needs --out RUN, the run folder to go on with.")
        resume(options.out, options.device, options.data, options.quiet, changes_on_resume(options), since)
        return 0
    overrides = settings_overrides(options)
    settings = build_settings(options.method or DEFAULT_METHOD, options.preset or "custom", options.config, overrides)
    if options.correction:
        _be_a_correction(settings, options, overrides)
    elif settings.recipe == "strong" and not options.config and not _LENGTHS & set(overrides):
        settings.training.minutes = 0.0 if rank_and_world_size()[1] > 1 else DEFAULT_MINUTES
    if options.list_settings:
        print_settings(settings)
        return 0
    if options.data is None or options.out is None:
        raise SettingsError("--data DIR (the scans) and --out RUN (the folder to write) are needed; --help explains.")
    train(
        options.data,
        options.out,
        settings,
        options.splits,
        _labelled(options.labelled),
        options.validation or 0,
        options.init,
        options.quiet,
        since,
    )
    return 0


def _be_a_correction(settings: Settings, options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """A shorter and gentler training; what the command line names stays. Raises SettingsError without a model."""
    if options.init is None:
        raise SettingsError("--correction goes on from a model: name it with --init MODEL.")
    if not _LENGTHS & set(overrides):
        settings.training.minutes = CORRECTION_MINUTES
    if "training.learning_rate" not in overrides:
        settings.training.learning_rate *= CORRECTION_RATE


def _labelled(text: str | None) -> int | Path | None:
    """The number of annotations to use, or the file that names the cases; raises SettingsError for a number below 1."""
    try:
        count = int(text) if text is not None else 1
    except ValueError:
        return Path(str(text))
    if count < 1:
        raise SettingsError(f"--labelled {text}: a number of at least 1, or a file that names cases.")
    return None if text is None else count


def changes_on_resume(options: argparse.Namespace) -> dict[str, Any]:
    """Settings that the command line changes in a run that goes on; raises SettingsError for all that stay."""
    data = ("preset", "splits", "labelled", "validation", "spacing", "patch")
    training = ("method", "recipe", "time", "seed", "config", "init")
    given = sorted(f"--{name}" for name in (*data, *training) if getattr(options, name) is not None)
    given += ["--correction"] if options.correction else []
    if given:
        raise SettingsError(
            f"--resume goes on with what the run was begun with, so {', '.join(given)} cannot be given: leave it out, "
            "or start a new run. --data, --device, --iterations and --set of what may change can be added."
        )
    changes = dict(assignments(options.set))
    return changes if options.iterations is None else {**changes, "training.iterations": options.iterations}


def settings_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says about settings, under their dotted names; raises SettingsError."""
    named = {
        "method": options.method,
        "preset": options.preset,
        "recipe": options.recipe,
        "training.iterations": options.iterations,
        "training.minutes": options.time and parse_minutes(options.time),
        "training.seed": options.seed,
        "training.device": options.device,
        "training.trackers": options.track,
        "data.spacing": options.spacing,
        "training.patch_size": options.patch,
    }
    return {key: value for key, value in named.items() if value is not None} | assignments(options.set)


def assignments(texts: Sequence[str]) -> dict[str, str]:
    """What `--set KEY=VALUE`, given several times, says; raises SettingsError."""
    overrides = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"--set {text}: write KEY=VALUE, for example training.learning_rate=0.01.")
        overrides[key.strip()] = value.strip()
    return overrides


def print_settings(settings: Settings) -> None:
    """Every setting with its value, what it may be and what it means."""
    for found in all_settings(settings):
        print(f"{found.name} = {found.value}  ({found.kind})\n    {found.help}")


if __name__ == "__main__":
    sys.exit(main())
