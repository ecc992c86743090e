"""Words for people: states, progress, times, models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SemiSegLib import methods
from SemiSegLib.errors import SemiSegError
from SemiSegLib.inference.conformal import LEAST_CASES

from ..i18n import _
from ..logic.model_card import read_card
from ..logic.run_settings import RECOMMENDED
from ..processes.command_process import CommandProcess
from ..processes.prediction_process import PredictionProcess
from ..processes.training_process import TrainingProcess
from ..scene import slices
from ..scene.case import Case
from ..scene.records import Expected, State

_GPU_GB = 2**30  # as graphics cards are sold


def duration(seconds: float) -> str:
    """A time for people: 40 s, 12 min, 3 h 5 min."""
    if seconds < 60:
        return _("{seconds} s").format(seconds=math.ceil(seconds))
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    if not hours:
        return _("{minutes} min").format(minutes=minutes)
    return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)


def method_text(parameters: Any) -> str:
    """One sentence on the chosen method; of the recommended one without a paper's words."""
    if parameters.method.value != RECOMMENDED:
        return methods.title(parameters.method.value)
    return _("Learns from the annotated scans first, then also from the others wherever it is sure of what it sees.")


def size(count: float) -> str:
    """Bytes for people: 800 MB, 1.2 GB."""
    if count >= 1e9:
        return _("{amount:.1f} GB").format(amount=count / 1e9)
    return _("{amount:.0f} MB").format(amount=count / 1e6)


def case_state(case: Case) -> str:
    """The state of a case, and whether it is one to annotate next."""
    state, hint = bare_state(case), case.suggestion
    if hint is None or (case.unfinished and not case.excluded):
        return state
    return _("{state}, next: {rank}").format(state=state, rank=hint.rank)


def bare_state(case: Case) -> str:
    """The state of a case; a prediction that nobody edited after it was accepted is not called corrected."""
    if case.unfinished and not case.excluded:
        return _("not done")
    if case.state is State.CORRECTED and case.accepted:
        return _("accepted")
    return {
        State.ANNOTATED: _("annotated"),
        State.CORRECTED: _("corrected"),
        State.PREDICTED: _("predicted"),
        State.UNLABELLED: _("unlabeled"),
        State.EXCLUDED: _("excluded"),
    }[case.state]


def expected(figures: Expected | None) -> str:
    """The DSC to expect with its interval: 0.88 (0.83 to 0.92); '' when it is not known."""
    return _with_figures(_("{dsc:.2f} ({low:.2f} to {high:.2f})"), figures)


def expected_below(figures: Expected | None) -> str:
    """The same with the interval in a line of its own, for a narrow column."""
    return _with_figures(_("{dsc:.2f}\n({low:.2f} to {high:.2f})"), figures)


def _with_figures(text: str, figures: Expected | None) -> str:
    if figures is None or figures.low is None or figures.high is None:
        return ""
    return text.format(dsc=figures.dsc, low=figures.low, high=figures.high)


def quality(case: Case) -> str:
    """All that is expected of a prediction, one structure a line."""
    if case.quality is None:
        return ""
    parts = [(_("Expected DSC"), case.quality.whole)]
    parts += list(case.quality.classes.items()) if len(case.quality.classes) > 1 else []
    lines = [f"{name}: {_('nothing found') if figures.empty else expected(figures)}" for name, figures in parts]
    return "\n".join(line for line in lines if not line.endswith(": "))


def suggestion(case: Case) -> str:
    """Why a scan is to be annotated next, and with which slices to begin; '' when it was not suggested."""
    hint = case.suggestion
    if hint is None:
        return ""
    parts = [_("Number {rank} to annotate next.").format(rank=hint.rank)]
    if hint.uncertainty is not None:
        parts.append(_("Uncertainty {value:.2f}.").format(value=hint.uncertainty))
    if hint.slices:
        parts.append(
            _("Begin with {slices} {numbers}.").format(
                slices=_slices_of(case, hint.axis), numbers=", ".join(map(str, hint.slices))
            )
        )
    return " ".join(parts)


def _slices_of(case: Case, axis: int) -> str:
    try:
        return _("{orientation} slices").format(orientation=slices.orientation_of(case, axis))
    except SemiSegError:  # below a non-linear transform they lie in no plane; annotating says so
        return _("slices")


def suggesting(process: CommandProcess | None) -> str:
    """What the search for the next scans is doing, or why it failed."""
    if process is None or process.state in ("new", "finished", "cancelled"):
        return ""
    if process.failure is not None:
        return _("Nothing can be suggested. {reason}").format(reason=process.failure.text)
    return _("Looking which scans to annotate next")


def refining(process: CommandProcess | None, outcome: Mapping[str, Any]) -> str:
    """What a refinement is doing, what it did, or why it failed."""
    if process is None or process.state == "new":
        return ""
    if process.failure is not None:
        return _("The annotation is as it was. {reason}").format(reason=process.failure.text)
    if process.state == "cancelled":
        return _("Cancelled: the annotation is as it was.")
    if process.active:
        return _("Refining: step {done} of at most {count}").format(done=process.index, count=process.count)
    if outcome.get("reason") == "nothing":
        return _("The network has all of this right already; your strokes are kept.")
    return _("{amount:.2f} ml of the mask have followed. Undo (section 1) brings the former mask back.").format(
        amount=outcome.get("changed_ml", 0.0)
    )


def judging(process: CommandProcess | None, calibrated: bool) -> str:
    """What is known of the quality of predictions, or why it is not, in one line."""
    if process is not None and process.failure is not None:
        return _("The quality could not be estimated. {reason}").format(reason=process.failure.text)
    if process is not None and process.active:
        count = _("{done} of {count} scans").format(done=process.index, count=process.count)
        return _("Estimating how good the masks are: {count}").format(count=count)
    if not calibrated:
        return _(
            "No expected DSC: the model was trained with fewer than {count} annotated scans kept aside to measure with "
            "(Advanced) that were new to it and not accepted predictions. Go by the confidence."
        ).format(count=LEAST_CASES)
    return ""


def result(case: Case) -> str:
    """Name and state of the case at hand, as the Results section says it."""
    text = _("{name}: {state}") if not case.predicted_elsewhere else _("{name}: {state}, for another part of the scan")
    parts = [text.format(name=case.name, state=case_state(case)), quality(case)]
    if case.prediction is not None and not case.predicted_at_once:
        parts.append(_("No expected DSC: a part was predicted on its own."))
    elif case.plainly_edited:
        parts.append(_("No expected DSC: the mask was changed after it was predicted."))
    return "\n".join(part for part in parts if part)


def model(path: Path | None, named: str = "") -> str:
    """What the model in use is.

    :param named: the model of the settings, which may not be here
    """
    if path is None and named:
        return _("{path} is not here: choose the folder of this study in section 1, or load a model").format(path=named)
    if path is None:
        return _("none; train or load one")
    try:
        return read_card(path).text
    except ValueError as error:
        return str(error)


def training(process: TrainingProcess | None, elsewhere: Path | None = None, last: Path | None = None) -> str:
    """State, progress, speed, time left and score of a training in one line.

    :param elsewhere: the training of another study that runs on this computer
    :param last: the folder of the study's last training, which may not be here
    """
    if process is None and last is not None:
        return _("The last training, {path}, is not here: choose the folder of this study in section 1").format(
            path=last
        )
    if process is None and elsewhere is not None:
        return _(
            "No training of this study yet. One of another study is running; Open training… shows it: {path}"
        ).format(path=elsewhere)
    if process is None:
        return _("No training yet")
    status = process.status
    parts = [_training_state(process.state)]
    if status.iterations and process.state not in ("new", "starting"):
        parts.append(_("iteration {done} of {count}").format(done=status.iteration, count=status.iterations))
    if process.elsewhere:
        parts.append(_("on {computer}").format(computer=process.elsewhere))
    if process.state in ("training", "validating") and status.eta_seconds and status.iteration < status.iterations:
        left = status.iterations - status.iteration
        parts.append(_("{speed:.2g} s each").format(speed=status.eta_seconds / left))
        parts.append(_("{time} left").format(time=duration(status.eta_seconds)))
    if process.memory:
        parts.append(_("{gigabytes:.1f} GB of memory").format(gigabytes=process.memory / 1e9))
    if process.active and status.device_memory is not None and status.device_memory_total:
        parts.append(
            _("GPU memory {used:.1f} of {all:.1f} GB").format(
                used=status.device_memory / _GPU_GB, all=status.device_memory_total / _GPU_GB
            )
        )
    if status.best_dsc is not None:
        parts.append(_("best validation DSC {dsc:.3f}").format(dsc=status.best_dsc))
    return ", ".join(parts)


def _training_state(state: str) -> str:
    return {
        "new": _("Not started"),
        "starting": _("Starting"),
        "preparing": _("Preparing the scans"),
        "training": _("Training"),
        "labelling": _("Labelling the scans without a mask"),
        "validating": _("Validating"),
        "reporting": _("Writing the report"),
        "stopping": _("Stopping: the checkpoint is being written"),
        "finished": _("Finished"),
        "stopped": _("Stopped; it can be resumed"),
        "interrupted": _("Interrupted"),
        "failed": _("Failed"),
    }[state]


def prediction(process: PredictionProcess | None) -> str:
    """What a prediction is doing, in one line."""
    if process is None:
        return ""
    if process.failure is not None:
        return process.failure.text
    count = _("{done} of {count} scans").format(done=process.index, count=process.count)
    text = {
        "new": "",
        "running": _("Predicting: {count}").format(count=count),
        "finished": _("Predicted {count}").format(count=count),
        "cancelled": _("Cancelled after {count}").format(count=count),
        "failed": "",
    }[process.state]
    left = process.eta_seconds
    return text if left is None else _("{text}, {time} left").format(text=text, time=duration(left))
