"""The Train section: method, device, the big button, and everything that is seen of a training while it runs."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..i18n import _
from ..logic.run_settings import uses_unlabelled
from ..logic.workbench import Workbench
from ..processes.training_process import TrainingProcess
from . import dialogs, texts
from .busy import Busy
from .fields import TextField

_LOG_LINES = 2000
_MESSAGE_MILLISECONDS = 20_000
_OF_THE_PLAN = {
    "validationCases",
    "startFromLastModel",
    "modelFile",
    "studyFolder",
    "task",
    "trainingTime",
    "iterations",
    "method",
}


class TrainPanel:
    """Shows the training at hand and forwards clicks to it."""

    def __init__(self, ui: Any, logic: Workbench, busy: Busy) -> None:
        self._ui, self._busy = ui, busy
        self._study, self._training, self._installation = logic.study, logic.training, logic.installation
        ui.logTextEdit.setMaximumBlockCount(_LOG_LINES)
        ui.wheelsPathLineEdit.currentPath = str(self._installation.wheels or "")
        ui.wheelsPathLineEdit.connect("currentPathChanged(QString)", self._wheels_chosen)
        self._more_settings = TextField(ui.extraSettingsTextEdit, self._study, "extraSettings")
        ui.trainButton.connect("clicked()", self.train)
        ui.stopButton.connect("clicked()", self.stop)
        ui.endNowButton.connect("clicked()", self.end_now)
        ui.resumeButton.connect("clicked()", self.resume)
        ui.openRunButton.connect("clicked()", self.open_run)
        ui.showCurvesButton.connect("clicked()", self.show_curves)
        ui.reportButton.connect("clicked()", self.open_report)
        ui.curveComboBox.connect("activated(int)", self._curve_chosen)
        ui.copyLogButton.connect("clicked()", self.copy_log)
        ui.checkInstallationButton.connect("clicked()", self.check_installation)
        ui.deviceComboBox.connect("activated(int)", lambda index: self._can_train() and self.look_for_device())
        ui.trainCollapsibleButton.connect("contentsCollapsed(bool)", self._unfolded)
        self._listen()

    def _listen(self) -> None:
        study, training = self._study, self._training
        study.opened.connect(self.update)
        study.cases_changed.connect(self._show_plan)
        study.case_changed.connect(lambda case: self._show_plan())
        study.labels_changed.connect(self._show_plan)
        study.settings_changed.connect(self._settings_changed)
        training.adopted.connect(self._show_another)
        training.changed.connect(self._show_training)
        training.log_lines.connect(self._append_log)
        training.failed.connect(lambda error: self._show_failure(_("The training cannot be watched: ") + str(error)))
        training.ended.connect(self._tell_of_the_end)
        self._installation.changed.connect(self._show_device)

    # ---- clicks ----------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Check, export the cases, start."""
        taking_part = [case for case in self._study.cases if not case.excluded]
        if not dialogs.settle_unfinished(taking_part, _("Train without these masks")):
            return
        if not dialogs.may_copy_scans(self._study):
            return
        error = slicer.util.tryWithErrorDisplay(_("Training cannot be started."))
        with error, self._busy(_("Preparing the training")) as progress:
            self._ui.learningRateSpinBox.interpretText()  # a click takes what is being typed with it
            self._installation.install(dialogs.confirm)
            self._training.start(progress)

    def stop(self) -> None:
        """Ask for a checkpoint and an end."""
        self._training.stop()

    def end_now(self) -> None:
        """End at once, after asking: it cannot be taken back."""
        if dialogs.confirm(_("End the training now? What was learnt since the last checkpoint is lost.")):
            self._training.end_now()

    def resume(self) -> None:
        """Go on from the checkpoint of the run shown."""
        error = slicer.util.tryWithErrorDisplay(_("Training cannot be resumed."))
        with error, self._busy(_("Preparing the training")) as progress:
            self._installation.install(dialogs.confirm)
            progress(0, 0, "")  # somebody may have cancelled while it installed
            self._training.resume()

    def open_run(self) -> None:
        """Show a training that the user names by its folder."""
        folder = dialogs.choose_folder(_("Open a training"), self._study.folder)
        if folder:
            with slicer.util.tryWithErrorDisplay(_("This is not a training.")):
                self._training.attach(folder)

    def check_installation(self) -> None:
        """Install what is missing after asking, then find the device."""
        error = slicer.util.tryWithErrorDisplay(_("SemiSeg is not installed completely."))
        with error, self._busy(_("Checking the installation")) as progress:
            self._installation.install(dialogs.confirm)
            progress(0, 0, "")  # somebody may have cancelled while it installed
            self.look_for_device()

    def look_for_device(self) -> None:
        """Ask which device will be used."""
        self._installation.look_for_device(self._study.parameters.device.value)

    def show_curves(self) -> None:
        """Open Slicer's plot view."""
        with slicer.util.tryWithErrorDisplay(_("The curves cannot be shown.")):
            self._training.curves.show(self._study.parameters.shownCurve.value)

    def open_report(self) -> None:
        """Open the page of the training shown in the browser."""
        page = self._training.report_page
        if page is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(page)))

    def copy_log(self) -> None:
        """The whole end of the log, with the failure in words, to the clipboard."""
        process = self._training.process
        text = process.log.tail(size=500_000) if process else self._ui.logTextEdit.toPlainText()
        failure = process.failure if process else None
        slicer.app.clipboard().setText(f"{failure.text}\n\n{text}" if failure else text)

    def _curve_chosen(self, index: int) -> None:
        if self._training.process is not None:
            self.show_curves()

    def _wheels_chosen(self, path: str) -> None:
        self._installation.wheels = path

    def _unfolded(self, collapsed: bool) -> None:
        looked = self._installation.report is not None
        if not collapsed and not looked and self._study.parameters is not None and self._can_train():
            self.look_for_device()

    def _can_train(self) -> bool:
        missing = self._installation.missing()
        if missing:
            self._ui.deviceLabel.text = _("{packages} must be installed first").format(packages=", ".join(missing))
        return not missing

    # ---- showing ---------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show method, readiness and training as they are."""
        self._ui.methodLabel.text = texts.method_text(self._study.parameters)
        self._show_plan()
        self._show_training()

    def _settings_changed(self, names: set[str]) -> None:
        if "method" in names:
            self._ui.methodLabel.text = texts.method_text(self._study.parameters)
        if names & _OF_THE_PLAN:
            self._show_plan()

    def _show_plan(self) -> None:
        """What a training would learn from, or what is missing for one."""
        problem = self._why_not_ready()
        self._ui.readyLabel.text = problem or self._what_will_happen()
        self._ui.trainButton.enabled = not problem and not self._training.active

    def _show_another(self) -> None:
        self._ui.logTextEdit.setPlainText("")
        for remark in self._training.remarks:
            self._ui.logTextEdit.appendPlainText(remark)

    def _tell_of_the_end(self, process: TrainingProcess) -> None:
        """In the window's status bar, which is seen from every module."""
        slicer.util.showStatusMessage(
            _("SemiSeg: {state}").format(state=texts.training(process)), _MESSAGE_MILLISECONDS
        )

    def _append_log(self, lines: list[str]) -> None:
        for line in lines:
            self._ui.logTextEdit.appendPlainText(line)

    def _show_training(self) -> None:
        process, ui = self._training.process, self._ui
        running = self._training.active
        ui.trainButton.enabled = not running and not self._why_not_ready()
        stopping = running and process.state == "stopping"
        ui.stopButton.enabled = running and not stopping
        ui.endNowButton.visible = stopping  # elsewhere: under the cursor nothing turns into something worse
        ui.resumeButton.enabled = process is not None and process.resumable
        ui.showCurvesButton.enabled = process is not None
        ui.reportButton.enabled = self._training.report_page is not None
        last = self._study.cases.run_folder
        ui.stateLabel.text = texts.training(process, self._training.running_elsewhere, last)
        ui.trainingProgressBar.maximum = max(1, process.status.iterations) if process else 1
        ui.trainingProgressBar.value = process.status.iteration if process else 0
        self._show_failure(self._why_it_failed() if process and process.failure else self._training.unused)

    def _why_it_failed(self) -> str:
        text = self._training.process.failure.text
        named = self._study.in_names(text)
        if named == text:
            return text
        text = _("{reason}. Leave that scan out (section 1) to train without it.")
        return text.format(reason=named.rstrip(" .\n"))

    def _show_failure(self, text: str) -> None:
        self._ui.failureLabel.text = text
        self._ui.failureLabel.visible = bool(text)

    def _show_device(self) -> None:
        report = self._installation.report
        if report.device is not None:
            self._ui.deviceLabel.text = report.device.text
        else:
            self._ui.deviceLabel.text = report.failure.text if report.failure is not None else _("looking …")

    def _why_not_ready(self) -> str:
        if not any(case.state.trains_with_mask for case in self._study.cases):
            return _("Annotate at least one scan and mark it as done; then training can start.")
        problem = self._training.why_not_kept_aside()
        if problem:
            return problem
        parameters = self._study.parameters
        correction = parameters.trainingTime.value == "correction" and not parameters.iterations
        if correction and self._training.initial_model() is None:
            return _("Five minutes are for going on from a model after corrections: choose a longer time.")
        return ""

    def _what_will_happen(self) -> str:
        learnt, held_out, unlabelled = self._training.counts()
        if uses_unlabelled(self._study.parameters):
            text = _("Learns from {labelled} annotated and {unlabelled} unlabeled scans.")
        else:
            text = _("Learns from {labelled} annotated scans alone.")
        text = text.format(labelled=learnt, unlabelled=unlabelled)
        if held_out:
            text += _(" Kept aside to measure with: {held}.").format(held=held_out)
        if self._training.initial_model():
            text += _(" Starts from the model in use.")
        seen = self._training.seen_before()
        if seen:
            text += _(
                " That has learnt from {count} of those kept aside: their DSC will be too good, and no expected DSC "
                "follows from them. Untick Start from the last model (Advanced) to measure fairly."
            ).format(count=len(seen))
        return text
