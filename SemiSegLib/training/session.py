"""A training run from beginning to end: prepare, train, report; every outcome is written to the run folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from SemiSegLib import __version__
from SemiSegLib.compute import distributed
from SemiSegLib.compute.devices import Compute, choose_compute, verified
from SemiSegLib.config import Settings, TrainingSettings
from SemiSegLib.data.cases import Case, CaseList, fingerprint
from SemiSegLib.errors import SemiSegError
from SemiSegLib.presets import at_preset
from SemiSegLib.runs import RunError, RunFolder, read_json, write_json
from SemiSegLib.training.signals import stop_signals
from SemiSegLib.training.trainer import PreparedCases, Trainer

_LIBRARIES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel", "monai", "safetensors")


_LOST = (
    "Another process of this run ended; its own message says why, unless it was killed. The last checkpoint is kept: "
    "go on with --resume, on any number of processes."
)


class Stopped(Exception):
    """A stop was asked for before training began."""


def start(run: RunFolder, settings: Settings, cases: CaseList, init: Path | None = None) -> str:
    """Train anew in an empty run folder; returns "finished" or "stopped", raises what went wrong after noting it.

    `init` is a model file or run folder whose weights training starts from. An interrupted run may be started again
    with `resume`.
    """
    with run.lock(), distributed.process_group():
        return _guarded(run, lambda: _start(run, settings, cases, init))


def resume(run: RunFolder, device: str | None = None, root: Path | None = None) -> str:
    """Go on with a run that was stopped, killed or moved; raises RunError if there is nothing to go on with.

    `device` replaces the one in the settings, `root` the folder of the scans (after a move to another machine).
    """
    settings = Settings.from_dict(read_json(run.settings_file))
    if device:
        settings.training.device = device
    cases = load_cases(run, root)
    with run.lock(), distributed.process_group():
        with distributed.agreement():
            if run.status().state == "finished":
                raise RunError(f"{run.path} has finished all its {settings.training.iterations} iterations already.")
            run.stop_file.unlink(missing_ok=True)
        return _guarded(run, lambda: _go(run, settings, cases, None))


def save_cases(run: RunFolder, cases: CaseList, marks: dict[str, Any]) -> None:
    """cases.json: which cases the run uses, with paths relative to their root, and what their files were."""
    parts = {
        part: [_case_to_dict(case, cases.root) for case in getattr(cases, part)]
        for part in ("labelled", "unlabelled", "validation")
    }
    write_json(run.cases_file, {"root": str(cases.root.resolve()), **parts, "fingerprint": marks})


def load_cases(run: RunFolder, root: Path | None = None) -> CaseList:
    """The cases of cases.json; `root` replaces the folder they were in. Raises RunError for scans that are gone."""
    content = read_json(run.cases_file)
    base = Path(root or content["root"])
    labelled, unlabelled, validation = (
        tuple(_case_from_dict(case, base) for case in content[part])
        for part in ("labelled", "unlabelled", "validation")
    )
    for case in (*labelled, *unlabelled, *validation):
        if not case.image.exists():
            raise RunError(f"The scan {case.image} of {run.path} is gone; if the scans moved, add --data NEW_FOLDER.")
    return CaseList(labelled, unlabelled, validation, root=base)


def _start(run: RunFolder, settings: Settings, cases: CaseList, init: Path | None) -> str:
    from SemiSegLib.training.planning import complete

    adaptable = at_preset(settings)
    complete(settings, cases)
    if settings.training.minutes > 0:
        _plan_time(run, settings, adaptable)
    if distributed.rank() == 0:
        write_json(run.settings_file, settings.to_dict())
        save_cases(run, cases, fingerprint(cases))
    return _go(run, settings, cases, init)


def _plan_time(run: RunFolder, settings: Settings, adaptable: bool) -> None:
    """Let the training be as long as was asked for, and say what that means."""
    from SemiSegLib.training.timing import plan_time

    if distributed.size() > 1:
        raise SemiSegError("A time can be given to a training on one process; on several set --iterations.")
    timetable = plan_time(settings, _agreed_compute(settings.training), adaptable)
    run.event(
        "plan",
        iterations=timetable.iterations,
        spacing=timetable.spacing,
        patch_size=timetable.patch,
        seconds_per_iteration=timetable.seconds,
        text=timetable.sentence(settings.training.minutes),
    )


def _go(run: RunFolder, settings: Settings, cases: CaseList, init: Path | None) -> str:
    """Prepare the cases, then train from the checkpoint if there is one, then report."""
    with stop_signals() as signals:

        def stop() -> bool:
            return signals.is_set() or run.stop_requested()

        training = settings.training
        assert training.patch_size is not None
        compute = _agreed_compute(training)
        if distributed.rank() == 0:
            _note_environment(run, compute)
        prepared = prepare_cases(run, settings, cases, stop)
        trainer = Trainer(run, settings, prepared, compute)
        if run.checkpoint.exists():
            trainer.load()
        elif init is not None:
            trainer.start_from(init)
        outcome = trainer.run_to_end(stop)
    if outcome == "finished" and distributed.rank() == 0:
        from SemiSegLib.training.summary import write_summary

        trainer.status("reporting")
        write_summary(run, cases, compute)
        _calibrate(run, cases.validation, compute)
        trainer.status("finished")
    return outcome


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
    from SemiSegLib.data.preprocess import Prepared, prepare
    from SemiSegLib.methods import method_class

    method = method_class(settings.method)
    cache = Path(settings.data.cache) if settings.data.cache else run.cache
    wanted = {
        "labelled": cases.labelled,
        "unlabelled": cases.unlabelled if method.needs_unlabelled else [],
        "validation": cases.validation,
    }
    jobs = [(part, case) for part, members in wanted.items() for case in members]
    made: dict[int, Prepared] = {}

    def make(index: int) -> Prepared:
        part, case = jobs[index]
        return prepare(case, settings.data, cache, method.needs_sdm and part == "labelled")

    ranks = distributed.size()
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
    return PreparedCases(**prepared, fingerprint={"cases": len(jobs), "root": cases.root.name})


def _guarded(run: RunFolder, work: Any) -> str:
    """Run `work`; whatever happens ends in a state that a watcher understands."""
    run.set_status("preparing")
    try:
        return work()
    except Stopped:
        run.set_status("stopped", message="stopped as asked, before training began")
        return "stopped"
    except SemiSegError as error:
        _note_failure(run, str(error))
        raise
    except KeyboardInterrupt:
        _note_failure(run, "interrupted twice; what was done since the last checkpoint is lost", "stopped")
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


def _case_to_dict(case: Case, root: Path) -> dict[str, Any]:
    def relative(path: Path | None) -> str | None:
        if path is None:
            return None
        path, base = path.resolve(), root.resolve()
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)

    values = {str(old): new for old, new in (case.label_values or {}).items()} or None
    return {
        "name": case.name,
        "image": relative(case.image),
        "label": relative(case.label),
        "label_values": values,
        "label_by_orientation": case.label_by_orientation,
    }


def _case_from_dict(content: dict[str, Any], root: Path) -> Case:
    values = {int(old): new for old, new in (content["label_values"] or {}).items()} or None
    label = content["label"]
    label = root / label if label else None
    return Case(content["name"], root / content["image"], label, values, content["label_by_orientation"])
