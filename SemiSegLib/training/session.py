"""A training run from beginning to end: prepare, train, report; every outcome is written to the run folder."""

from __future__ import annotations

import copy
import importlib.metadata
import os
import platform
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from SemiSegLib import __version__
from SemiSegLib.compute import distributed
from SemiSegLib.compute.devices import Compute, choose_compute, choose_device, verified
from SemiSegLib.compute.memory import give_back, out_of_memory, told_of_memory
from SemiSegLib.config import Settings, TrainingSettings
from SemiSegLib.data.cases import (
    Case,
    CaseList,
    annotated_in,
    changed_since,
    fingerprint,
    listed,
    same_scans,
    scan_prints,
)
from SemiSegLib.errors import SemiSegError
from SemiSegLib.presets import at_preset
from SemiSegLib.runs import RunError, RunFolder, read_json, write_json
from SemiSegLib.training.announcement import announce
from SemiSegLib.training.checkpoints import load_checkpoint
from SemiSegLib.training.intent import Intent, cases_from_dict, cases_to_dict
from SemiSegLib.training.lengthening import lengthen, stage_lengths
from SemiSegLib.training.planning import complete, look_at_masks
from SemiSegLib.training.signals import sigterm_as_ctrl_c, stop_signals
from SemiSegLib.training.trainer import PreparedCases, Trainer, build_method
from SemiSegLib.training.warnings import warnings_to

_REHEARSED = 100  # iterations, from which on it is worth trying how long one takes
_LIBRARIES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel", "monai", "safetensors")

CHANGEABLE = (
    "training.iterations",
    "training.device",
    "training.precision",
    "training.threads",
    "training.accumulation",
    "training.validation_every",
    "training.checkpoint_minutes",
    "training.log_every",
    "data.cache",
)
"""Settings that may differ between the starts of one run: where and how it is computed, told and kept, how long."""

_INTERRUPTED = {
    "preparing": "interrupted before training began",
    "reporting": "interrupted after the last iteration: --resume writes the report",
}
_LOST = (
    "Another process of this run ended; its own message says why, unless it was killed. The last checkpoint is kept: "
    "go on with --resume, on any number of processes."
)


class Stopped(Exception):
    """A stop was asked for before training began."""


def start(run: RunFolder, settings: Settings, cases: CaseList, init: Path | None = None) -> str:
    """Train anew in an empty run folder; returns "finished" or "stopped", raises what went wrong after noting it.

    `init` is a model file whose weights training starts from. An interrupted run may be started again with `resume`.
    """
    with run.lock(), distributed.process_group():
        return _guarded(run, lambda: _start(run, settings, cases, init))


def resume(run: RunFolder, changes: Mapping[str, Any] | None = None, root: Path | None = None) -> str:
    """Go on with a run that was stopped, killed or moved; raises RunError if there is nothing to go on with.

    `changes` replaces settings that a run may change on its way (CHANGEABLE, by their dotted names) for this time, a
    number of iterations for good; `root` replaces the folder of the scans (after a move to another machine). A finished
    run goes on when it is given more iterations.
    """
    with run.lock(), distributed.process_group():
        with distributed.agreement():
            remembered = Remembered.of(run, root)
            settings = remembered.settings
            notes = _changed(run, remembered, dict(changes or {}))
            status = run.status()
            if status.state == "finished" and settings.training.iterations <= status.iterations:
                raise RunError(
                    f"{run.path} has finished all its {status.iterations} iterations already: to go on with it, add "
                    "--iterations with a larger number."
                )
            run.drop_old_request()

        def work() -> str:
            for note in notes:
                run.event("message", level="info", text=note)
            if remembered.begun and distributed.rank() == 0:
                _look_at_files(run, remembered.cases)
            go = _go if remembered.begun else _start
            return go(run, settings, remembered.cases, remembered.init, True)

        return _guarded(run, work)


def _look_at_files(run: RunFolder, cases: CaseList) -> None:
    """Keep where the scans are now, and say which of their files are not those that the run began with."""
    content = read_json(run.cases_file)
    changed = changed_since(cases, content.get("fingerprint", {}))
    if changed:
        text = f"Scan or mask of {listed(changed)} changed since this run began: it goes on with what is there now."
        run.event("message", level="warning", text=text)
    root = str(cases.root.resolve())
    if root != content["root"]:
        write_json(run.cases_file, content | {"root": root})


def _changed(run: RunFolder, remembered: Remembered, changes: dict[str, Any]) -> list[str]:
    """Put `changes` into the run's settings; returns what there is to say about it. Raises SemiSegError."""
    settings, notes = remembered.settings, []
    unknown = sorted(set(changes) - set(CHANGEABLE))
    if unknown:
        raise RunError(f"{unknown[0]} cannot be changed in a run that has begun: {', '.join(CHANGEABLE)} can.")
    wanted = Settings()
    wanted.set("training.iterations", changes.pop("training.iterations", settings.training.iterations))
    iterations = wanted.training.iterations
    if iterations != settings.training.iterations:
        settings.training.minutes = 0.0  # the number counts now
        done = load_checkpoint(run.checkpoint)["iteration"] if run.checkpoint.exists() else 0
        notes.append(_lengthened(settings, done, iterations))
        if remembered.begun and distributed.rank() == 0:
            write_json(run.settings_file, settings.to_dict())
    for name, value in changes.items():
        settings.set(name, value)
    if settings.training.precision == "fp16" and choose_device(settings.training.device)[0].type != "cuda":
        settings.training.precision = "auto"
        notes.append("Precision fp16 needs a CUDA GPU, and there is none here: going on with training.precision=auto.")
    settings.check()
    return notes


def _lengthened(settings: Settings, done: int, iterations: int) -> str:
    """`lengthen`; raises RunError, too, where the method's settings cannot say what its stages are to be."""
    if not done:
        return lengthen(settings, {"main": 1.0}, done, iterations)
    method = build_method(settings)
    longer = copy.deepcopy(settings)
    longer.training.iterations = iterations
    note = lengthen(settings, method.stages, done, iterations, method.constant_rate, build_method(longer).stages)
    if len(method.stages) > 1:
        wanted = dict(zip(method.stages, settings.method_settings["shares"], strict=True))
        if stage_lengths(build_method(settings).stages, iterations) != wanted:
            raise RunError(
                f"The stages of this run ({', '.join(method.stages)}) cannot be made longer one by one: start a new "
                "run from its model instead, with --init."
            )
    return note


@dataclass
class Remembered:
    """What a run folder knows of its run; `begun`: its settings and cases were completed from the scans before."""

    settings: Settings
    cases: CaseList
    init: Path | None
    begun: bool

    @classmethod
    def of(cls, run: RunFolder, root: Path | None = None) -> Remembered:
        """Read it; raises RunError where it is not enough to go on."""
        intent = Intent.read(run)
        begun = run.settings_file.exists() and run.cases_file.exists()
        if not begun and intent is None:
            raise RunError(f"{run.path} ended before it knew its settings: start it again without --resume.")
        settings = read_json(run.settings_file) if begun or intent is None else intent.settings
        cases = read_json(run.cases_file) if begun or intent is None else intent.cases
        init = intent.initial_model() if intent is not None and not run.checkpoint.exists() else None
        return cls(Settings.from_dict(settings), cases_from_dict(cases, root), init, begun)


def _start(run: RunFolder, settings: Settings, cases: CaseList, init: Path | None, again: bool = False) -> str:
    from SemiSegLib.training.initial import follow_network

    adaptable = at_preset(settings)
    complete(settings, cases)
    if init is not None and (changed := follow_network(init, settings)):
        run.event("message", level="info", text=changed)
    seconds = _plan_time(run, settings, adaptable, init) if settings.training.minutes > 0 else None
    if distributed.rank() == 0:
        if doubled := same_scans(cases.validation, [*cases.labelled, *cases.unlabelled]):
            text = f"Validation scans are trained on, too, so that scores on them say too much: {listed(doubled)}."
            run.event("message", level="warning", text=text)
        write_json(run.settings_file, settings.to_dict())
        write_json(run.cases_file, cases_to_dict(cases) | {"fingerprint": fingerprint(cases)})
    return _go(run, settings, cases, init, again, seconds)


def _plan_time(run: RunFolder, settings: Settings, adaptable: bool, init: Path | None) -> float:
    """Let the training be as long as was asked for, and say what that means; returns the seconds of an iteration."""
    from SemiSegLib.training.initial import learnt_at
    from SemiSegLib.training.timing import plan_time

    if distributed.size() > 1:
        raise SemiSegError("A time can be given to a training on one process; on several set --iterations.")
    learnt = None if init is None else learnt_at(init, settings)
    timetable = plan_time(settings, _agreed_compute(settings.training), adaptable, learnt)
    run.event(
        "plan",
        iterations=timetable.iterations,
        spacing=timetable.spacing,
        patch_size=timetable.patch,
        seconds_per_iteration=timetable.seconds,
        text=timetable.sentence(settings.training.minutes),
    )
    return timetable.seconds


def _speed(settings: Settings, compute: Compute, left: int) -> float | None:
    """Seconds of an iteration, tried where many are left to do; None where few are, or memory runs out."""
    from SemiSegLib.training.timing import measured_seconds

    assert settings.training.patch_size is not None
    if left < _REHEARSED or distributed.size() > 1:
        return None
    try:
        with torch.random.fork_rng():
            return measured_seconds(settings, compute, settings.training.patch_size)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    give_back(compute.device)
    return None


def _go(
    run: RunFolder,
    settings: Settings,
    cases: CaseList,
    init: Path | None,
    again: bool,
    seconds: float | None = None,
) -> str:
    """Prepare the cases, then train from the checkpoint if there is one, then report.

    `again`: the run was started before. `seconds` of an iteration, if they are known.
    """
    with stop_signals() as signals:

        def stop() -> bool:
            return signals.is_set() or run.stop_requested()

        training = settings.training
        assert training.patch_size is not None
        compute = _agreed_compute(training)
        if distributed.rank() == 0:
            _note_environment(run, compute)
        prepared = prepare_cases(run, settings, cases, stop)
        if not run.checkpoint.exists():
            for text in look_at_masks(prepared.labelled, settings.data):
                run.event("message", level="warning", text=text)
        trainer = Trainer(run, settings, prepared, compute)
        if run.checkpoint.exists():
            trainer.load()
        else:
            if init is not None:
                trainer.start_from(init)
            if again:
                run.event("resumed", iteration=0)  # what was done before counts no longer
        fair = _fair_cases(run, cases.validation, trainer)
        left = training.iterations - trainer.iteration
        used = not trainer.method.needs_unlabelled or trainer.uses_unlabelled()
        announce(run, settings, cases, left, seconds or _speed(settings, compute, left), used)
        outcome = trainer.run_to_end(stop)
    if outcome == "finished" and distributed.rank() == 0:
        from SemiSegLib.training.correction import compare_on_corrected
        from SemiSegLib.training.summary import write_summary

        trainer.status("reporting")
        write_summary(run, cases, compute)
        compare_on_corrected(run, cases, compute)
        _calibrate(run, fair, compute)
        trainer.status("finished")
    return outcome


def _fair_cases(run: RunFolder, validation: Sequence[Case], trainer: Trainer) -> list[Case]:
    """The cases that measure the model fairly; a warning names the others, once."""
    seen = set(annotated_in(validation, {"annotated": trainer.inherited}))
    accepted = {case.name for case in validation if case.origin == "accepted"} - seen
    reasons = {
        "the model that training starts from has learnt from their masks": seen,
        "their masks are accepted predictions": accepted,
    }
    for reason, names in reasons.items():
        if names and not trainer.iteration:
            text = f"{listed(sorted(names))}: kept aside, but {reason}. The DSC on them is too good; no expected DSC"
            run.event("message", level="warning", text=f"{text} follows from it.")
    return [case for case in validation if case.name not in seen | accepted]


def _calibrate(run: RunFolder, cases: Sequence[Case], compute: Compute) -> None:
    """Let the run's model know what its agreement with itself is worth, for `SemiSegLib.quality`."""
    from SemiSegLib.inference.conformal import LEAST_CASES
    from SemiSegLib.inference.quality import calibrate

    if len(cases) >= LEAST_CASES:
        calibrate(run.path, cases, f"{len(cases)} validation cases of the training", str(compute.device))


def _agreed_compute(training: TrainingSettings) -> Compute:
    """Device and precision; raises SemiSegError where the machines of a run differ in precision."""
    assert training.patch_size is not None
    with distributed.agreement():
        device = distributed.rank_device(training.device)
        compute = verified(choose_compute(device, training.precision, training.threads), training.patch_size)
    precisions = {str(dtype) for dtype in distributed.from_all(compute.dtype)}
    if len(precisions) > 1:
        raise SemiSegError(f"The machines would compute in {' and '.join(sorted(precisions))}: set training.precision.")
    return compute


def prepare_cases(run: RunFolder, settings: Settings, cases: CaseList, stop: Any) -> PreparedCases:
    """Preprocess all cases that training needs, with progress as events; raises Stopped when asked to."""
    from SemiSegLib.data.preprocess import Prepared, prepare, remove_unfinished
    from SemiSegLib.methods import method_class

    method = method_class(settings.method)
    cache = run.cache_at(settings.data.cache)
    wanted = {
        "labelled": cases.labelled,
        "unlabelled": cases.unlabelled if method.needs_unlabelled else [],
        "validation": cases.validation,
    }
    jobs = [(part, case) for part, members in wanted.items() for case in members]
    made: dict[int, Prepared] = {}

    def make(index: int) -> Prepared:
        part, case = jobs[index]
        with told_of_memory(case.image):
            return prepare(case, settings.data, cache, method.needs_sdm and part == "labelled")

    ranks = distributed.size()
    if distributed.rank() == 0:
        remove_unfinished(cache)
    with distributed.agreement():
        for index in range(distributed.rank(), len(jobs), ranks):
            if stop():
                break
            made[index] = make(index)
            run.event("preparing", index=min(index + ranks, len(jobs)), count=len(jobs), name=jobs[index][1].name)
    if any(distributed.any_rank(len(made) < len(range(distributed.rank(), len(jobs), ranks)))):
        raise Stopped
    prepared: dict[str, list[Prepared]] = {part: [] for part in wanted}
    for index, (part, _) in enumerate(jobs):
        prepared[part].append(made[index] if index in made else make(index))  # what others made is in the cache
    annotated = scan_prints(cases.labelled)  # no names: models are shared
    known = {"cases": len(jobs), "root": cases.root.name, "annotated": annotated}
    return PreparedCases(**prepared, fingerprint=known)


def _guarded(run: RunFolder, work: Any) -> str:
    """Run `work`; whatever happens ends in a state that a watcher understands, warnings become events."""
    run.set_status("preparing")

    def warn(text: str) -> None:
        run.event("message", level="warning", text=text)

    try:
        with sigterm_as_ctrl_c(), warnings_to(warn) if distributed.rank() == 0 else nullcontext():
            return work()
    except Stopped:
        run.set_status("stopped", message="stopped as asked, before training began")
        return "stopped"
    except SemiSegError as error:
        _note_failure(run, str(error))
        raise
    except KeyboardInterrupt:
        twice = "interrupted twice; what was done since the last checkpoint is lost"
        state = read_json(run.status_file)["state"] if run.status_file.exists() else "preparing"
        _note_failure(run, _INTERRUPTED.get(state, twice), "stopped")
        raise
    except RuntimeError as error:
        if not distributed.lost(error):
            _note_crash(run, error)
            raise
        _note_failure(run, _LOST)
        raise SemiSegError(_LOST) from error
    except BaseException as error:
        _note_crash(run, error)
        raise


def _note_crash(run: RunFolder, error: BaseException) -> None:
    run.event("message", level="error", text=traceback.format_exc())
    _note_failure(run, f"{type(error).__name__}: {error}")


def _note_failure(run: RunFolder, message: str, state: str = "failed") -> None:
    before = read_json(run.status_file) if run.status_file.exists() else {}
    kept = {key: before[key] for key in ("iteration", "iterations", "best_dsc") if key in before}
    run.set_status(state, message=message, **kept)


def _note_environment(run: RunFolder, compute: Compute) -> None:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    write_json(
        run.environment_file,
        {
            "semiseg": __version__,
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
            "vector_instructions": torch.backends.cpu.get_cpu_capability(),
            "libraries": versions,
            "device": str(compute.device),
            "precision": str(compute.dtype).removeprefix("torch."),
            "reason": compute.reason,
        },
    )
    run.event("message", level="info", text=f"Computing on {compute.reason}.")
