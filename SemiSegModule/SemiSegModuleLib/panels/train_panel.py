"""The Train section: method, device, the big button, and everything that is seen of a training while it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import qt
import slicer

from SemiSegLib import methods
from SemiSegLib.runs import RunError, RunFolder

from .. import paths
from ..i18n import _
from ..logic.run_settings import run_settings
from ..logic.work import Work, set_setting, setting
from ..processes import dependencies
from ..processes.training_process import TrainingProcess
from ..scene.case import State
from ..scene.curves import TrainingCurves
from ..scene.training_files import export_cases
from . import dialogs
from .fields import TextField

POLL_MILLISECONDS = 500
_LOG_LINES = 2000
_GPU_GB = 2**30  # as graphics cards are sold


class TrainPanel:
    """Connects the widgets of the Train section; `training` is the run it shows, if any."""

    def __init__(self, ui: Any, work: Work) -> None:
        self._ui, self._work = ui, work
        self.training: TrainingProcess | None = None
        self.report: dependencies.DeviceReport | None = None
        self._curves: TrainingCurves | None = None
        self._announced = ""
        self._timer = qt.QTimer(ui.trainButton)
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self.poll)
        ui.logTextEdit.setMaximumBlockCount(_LOG_LINES)
        ui.wheelsPathLineEdit.currentPath = setting("WheelsFolder")
        ui.wheelsPathLineEdit.connect("currentPathChanged(QString)", lambda path: set_setting("WheelsFolder", path))
        self._more_settings = TextField(ui.extraSettingsTextEdit, work, "extraSettings")
        ui.trainButton.connect("clicked()", self.train)
        ui.stopButton.connect("clicked()", self.stop)
        ui.resumeButton.connect("clicked()", self.resume)
        ui.openRunButton.connect("clicked()", self.open_run)
        ui.showCurvesButton.connect("clicked()", self.show_curves)
        ui.curveComboBox.connect("activated(int)", self._curve_chosen)
        ui.copyLogButton.connect("clicked()", self.copy_log)
        ui.checkInstallationButton.connect("clicked()", self.check_installation)
        ui.deviceComboBox.connect("activated(int)", lambda index: self._can_train() and self.look_for_device())
        ui.trainCollapsibleButton.connect("contentsCollapsed(bool)", self._unfolded)
        work.on_change(self.update)

    def close(self) -> None:
        """Stop looking; a training goes on."""
        self._timer.stop()
        if self.report is not None:
            self.report.cancel()

    # ---- the training ----------------------------------------------------------------------------------------

    def train(self) -> None:
        """Check, export the cases, start."""
        error = slicer.util.tryWithErrorDisplay(_("Training cannot be started."))
        with error, self._work.busy(_("Preparing the training")) as progress:
            self._ui.learningRateSpinBox.interpretText()  # a click takes what is being typed with it
            parameters, cases = self._work.parameters, self._work.cases
            values = run_settings(parameters, cases.labels)
            self._install_missing()
            run_path = self._work.new_run_folder()
            export = export_cases(cases, run_path / "data", progress=progress)
            training = TrainingProcess(run_path)
            training.start(export.folder, values, self._initial_model(), parameters.validationCases)
            self._adopt(training)
            for remark in export.remarks:
                self._ui.logTextEdit.appendPlainText(remark)

    def _initial_model(self) -> Path | None:
        model = self._work.model if self._work.parameters.startFromLastModel else None
        return model if model and self._work.model_fits(model) else None

    def stop(self) -> None:
        """First ask for a checkpoint and an end; pressed again, end at once."""
        if self.training is not None:
            if self.training.state == "stopping":
                self.training.end_now()
            else:
                self.training.stop()
            self.update()

    def resume(self) -> None:
        """Go on from the checkpoint of the run shown."""
        with slicer.util.tryWithErrorDisplay(_("Training cannot be resumed.")):
            if self.training is not None:
                self._install_missing()
                self.training.resume()
                self._adopt(self.training)

    def open_run(self) -> None:
        """Show a training that the user names by its folder."""
        folder = dialogs.choose_folder(_("Open a training"), self._work.study)
        if folder:
            with slicer.util.tryWithErrorDisplay(_("This is not a training.")):
                RunFolder.open(folder)
                self.attach(folder)

    def find_again(self) -> None:
        """Show the run that this scene, or else this computer, trained last; one that is shown running stays."""
        if self.training is not None and self.training.active:
            return
        folder = self._work.cases.run_folder or (Path(setting("LastRun")) if setting("LastRun") else None)
        if folder is None or (self.training is not None and self.training.run.path == folder):
            return
        try:
            RunFolder.open(folder)
        except RunError:
            return
        self.attach(folder)

    def attach(self, folder: Path) -> None:
        """Show a run that this or another Slicer started."""
        self._adopt(TrainingProcess(folder))

    def _adopt(self, training: TrainingProcess) -> None:
        self.training = training
        self._announced = ""
        self._ui.logTextEdit.setPlainText("")
        training.log.position = 0
        self.curves.clear()
        if training.run.events_file.exists():
            self.curves.add(training.skip_history())
        self._work.cases.run_folder = training.run.path
        set_setting("LastRun", str(training.run.path))
        self.poll()
        self._timer.start()

    def poll(self) -> None:
        """Look what has happened; called by a timer while something runs."""
        if self._work.parameters is None:  # the scene was closed from another module: wait until this one is opened
            return
        if self.report is not None:
            self.report.poll()
            self._show_device()
        if self.training is not None:
            events = self.training.poll()
            if any(event["event"] == "resumed" for event in events):
                self.curves.clear()
                events = self.training.run.history()
            self.curves.add(events)
            for line in self.training.log.new_lines():
                self._ui.logTextEdit.appendPlainText(line)
            self._use_new_model()
        self._show_training()
        if not self._something_runs():
            self._timer.stop()

    def _something_runs(self) -> bool:
        training = self.training is not None and self.training.active
        return training or (self.report is not None and not self.report.done)

    def _use_new_model(self) -> None:
        """Once, when a training has ended: its model is the one to predict with."""
        training = self.training
        if training.active or self._announced == training.state:
            return
        self._announced = training.state
        model = next((p for p in (training.run.best_model, training.run.last_model) if p.exists()), None)
        if model and training.state in ("finished", "stopped") and self._work.model_fits(model):
            self._work.parameters.modelFile = str(model)
            self._work.changed()

    # ---- installation and device -----------------------------------------------------------------------------

    def check_installation(self) -> None:
        """Install what is missing after asking, then find the device."""
        with slicer.util.tryWithErrorDisplay(_("SemiSeg is not installed completely.")):
            self._install_missing()
            self.look_for_device()

    def look_for_device(self) -> None:
        """Ask a child process, without waiting for it."""
        if self.report is not None:
            self.report.cancel()
        log = Path(slicer.app.temporaryPath) / "semiseg-device.log"
        self.report = dependencies.DeviceReport(self._work.parameters.device.value, log)
        self._ui.deviceLabel.text = _("looking …")
        self._timer.start()

    def _unfolded(self, collapsed: bool) -> None:
        if not collapsed and self.report is None and self._work.parameters is not None and self._can_train():
            self.look_for_device()

    def _can_train(self) -> bool:
        missing = [] if paths.python_is_named() else dependencies.missing()
        if missing:
            self._ui.deviceLabel.text = _("{packages} must be installed first").format(packages=", ".join(missing))
        return not missing

    def _install_missing(self) -> None:
        """Packages of an interpreter that somebody named are that person's business."""
        if not paths.python_is_named():
            wheels = self._ui.wheelsPathLineEdit.currentPath.strip()
            dependencies.install(dependencies.missing(), Path(wheels) if wheels else None, ask=dialogs.confirm)

    def _show_device(self) -> None:
        if self.report.device is not None:
            self._ui.deviceLabel.text = self.report.device.text
        elif self.report.failure is not None:
            self._ui.deviceLabel.text = self.report.failure.text

    # ---- showing ---------------------------------------------------------------------------------------------

    @property
    def curves(self) -> TrainingCurves:
        """Made when first needed, and again in a new scene."""
        if self._curves is None:
            self._curves = TrainingCurves(slicer.mrmlScene)
        return self._curves

    def scene_closed(self) -> None:
        """The curves' nodes are gone; the training goes on."""
        self._curves = None

    def scene_opened(self) -> None:
        """Draw the curves of the run shown into the new scene."""
        if self.training is not None and self._curves is None:
            self.curves.add(self.training.run.history())

    def show_curves(self) -> None:
        """Open Slicer's plot view."""
        with slicer.util.tryWithErrorDisplay(_("The curves cannot be shown.")):
            self.curves.show(self._work.parameters.shownCurve.value)

    def _curve_chosen(self, index: int) -> None:
        if self.training is not None:
            self.show_curves()

    def copy_log(self) -> None:
        """The whole end of the log, with the failure in words, to the clipboard."""
        failure = self.training.failure if self.training else None
        text = self.training.log.tail(size=500_000) if self.training else self._ui.logTextEdit.toPlainText()
        slicer.app.clipboard().setText(f"{failure.text}\n\n{text}" if failure else text)

    def update(self) -> None:
        """Show method, readiness and training as they are."""
        self._ui.methodLabel.text = methods.title(self._work.parameters.method.value)
        self._show_training()

    def _show_training(self) -> None:
        training, ui = self.training, self._ui
        running = training is not None and training.active
        problem = self._why_not_ready()
        ui.readyLabel.text = problem or self._what_will_happen()
        ui.trainButton.enabled = not running and not problem
        ui.stopButton.enabled = running
        ui.stopButton.text = _("End now") if running and training.state == "stopping" else _("Stop")
        ui.resumeButton.enabled = training is not None and training.resumable
        ui.showCurvesButton.enabled = training is not None
        ui.stateLabel.text = state_text(training)
        failure = training.failure if training else None
        ui.failureLabel.text = failure.text if failure else ""
        ui.failureLabel.visible = failure is not None
        ui.trainingProgressBar.maximum = max(1, training.status.iterations) if training else 1
        ui.trainingProgressBar.value = training.status.iteration if training else 0

    def _why_not_ready(self) -> str:
        cases = self._work.cases
        if not any(case.state.trains_with_mask for case in cases):
            return _("Annotate at least one scan and mark it as done; then training can start.")
        labelled = len(cases.in_state(State.ANNOTATED, State.CORRECTED))
        if self._work.parameters.validationCases >= labelled:
            return _("{held} of {count} annotated scans cannot be held out: at least one must be learnt from.").format(
                held=self._work.parameters.validationCases, count=labelled
            )
        return ""

    def _what_will_happen(self) -> str:
        cases, held = self._work.cases, self._work.parameters.validationCases
        labelled = len(cases.in_state(State.ANNOTATED, State.CORRECTED)) - held
        unlabelled = len(cases.in_state(State.UNLABELLED, State.PREDICTED))
        text = _("Learns from {labelled} annotated and {unlabelled} unlabeled scans.").format(
            labelled=labelled, unlabelled=unlabelled
        )
        if held:
            text += _(" Held out to measure with: {held}.").format(held=held)
        if self._initial_model():
            text += _(" Starts from the model in use.")
        return text


def state_text(training: TrainingProcess | None) -> str:
    """State, progress, speed, time left and score of a training in one line."""
    if training is None:
        return _("No training yet")
    status = training.status
    name = {
        "new": _("Not started"),
        "starting": _("Starting"),
        "preparing": _("Preparing the scans"),
        "training": _("Training"),
        "validating": _("Validating"),
        "reporting": _("Writing the report"),
        "stopping": _("Stopping: the checkpoint is being written"),
        "finished": _("Finished"),
        "stopped": _("Stopped; it can be resumed"),
        "interrupted": _("Interrupted"),
        "failed": _("Failed"),
    }[training.state]
    parts = [name]
    if status.iterations and training.state not in ("new", "starting"):
        parts.append(_("iteration {done} of {count}").format(done=status.iteration, count=status.iterations))
    if training.active and status.eta_seconds is not None:
        left = max(1, status.iterations - status.iteration)
        parts.append(_("{speed:.2g} s each").format(speed=status.eta_seconds / left))
        parts.append(_("{time} left").format(time=duration(status.eta_seconds)))
    if training.memory:
        parts.append(_("{gigabytes:.1f} GB of memory").format(gigabytes=training.memory / 1e9))
    if training.active and status.device_memory is not None and status.device_memory_total:
        parts.append(
            _("GPU memory {used:.1f} of {all:.1f} GB").format(
                used=status.device_memory / _GPU_GB, all=status.device_memory_total / _GPU_GB
            )
        )
    if status.best_dsc is not None:
        parts.append(_("best validation DSC {dsc:.3f}").format(dsc=status.best_dsc))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time for people: 40 s, 12 min, 3 h 5 min."""
    if seconds < 60:
        return _("{seconds} s").format(seconds=math.ceil(seconds))
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    if not hours:
        return _("{minutes} min").format(minutes=minutes)
    return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)
