"""The Results section: the model, predictions for many scans, overlays, and the review of case after case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from SemiSegLib.models import named_models

from ..i18n import _
from ..logic.model_card import read_card
from ..logic.work import Work
from ..processes.prediction_process import PredictionProcess
from ..scene.annotations import accept_prediction
from ..scene.case import Case, State
from ..scene.overlays import Overlays
from ..scene.predictions import find_prediction, load_prediction
from ..scene.training_files import export_cases
from . import dialogs
from .data_panel import state_text
from .train_panel import POLL_MILLISECONDS, duration


class ResultsPanel:
    """Connects the widgets of the Results section; `prediction` is the one that runs, or the last one."""

    def __init__(self, ui: Any, work: Work) -> None:
        self._ui, self._work = ui, work
        self.prediction: PredictionProcess | None = None
        self.overlays = Overlays(work.cases)
        self._filling = False
        self._timer = qt.QTimer(ui.predictAllButton)
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self.poll)
        ui.loadModelButton.connect("clicked()", self.load_model)
        ui.predictAllButton.connect("clicked()", self.predict_all)
        ui.predictOneButton.connect("clicked()", self.predict_one)
        ui.cancelPredictionButton.connect("clicked()", self.cancel)
        ui.previousCaseButton.connect("clicked()", lambda: self.step(-1))
        ui.nextCaseButton.connect("clicked()", lambda: self.step(1))
        ui.acceptButton.connect("clicked()", self.accept)
        ui.correctButton.connect("clicked()", self.correct)
        ui.overlayLabelComboBox.connect("currentIndexChanged(int)", self._label_chosen)
        self._set_up_named_models()
        work.on_change(self.update)

    def close(self) -> None:
        """Stop looking; what is predicted already stays on disk."""
        self._timer.stop()
        self.cancel()

    # ---- predicting ------------------------------------------------------------------------------------------

    def load_model(self) -> None:
        """Use a model file from elsewhere, and its labels when no case is annotated yet."""
        path = dialogs.choose_model()
        if path:
            self._use_model(path, str(path))

    def _use_model(self, path: Path, name: str) -> None:
        with slicer.util.tryWithErrorDisplay(_("The model cannot be used.")):
            card = read_card(path)
            if not any(case.annotation for case in self._work.cases):
                self._work.cases.labels = card.settings.data.labels
            self._work.parameters.modelFile = name
            self._work.changed()

    def _set_up_named_models(self) -> None:
        """A menu of the models that come with SemiSeg, where there are any."""
        models = named_models()
        self._menu = qt.QMenu(self._ui.namedModelButton)
        for name, path in models.items():
            action = self._menu.addAction(name)
            action.connect("triggered()", lambda path=path, name=name: self._use_model(path, name))
        self._ui.namedModelButton.setMenu(self._menu)
        self._ui.namedModelButton.visible = bool(models)

    def predict_all(self) -> None:
        """Every case without a finished annotation."""
        self._predict(self._work.cases.in_state(State.UNLABELLED, State.PREDICTED))

    def predict_one(self) -> None:
        """The case at hand, annotated or not: an annotation is never touched."""
        self._predict([self._work.case] if self._work.case else [])

    def _predict(self, cases: Sequence[Case]) -> None:
        error = slicer.util.tryWithErrorDisplay(_("The prediction cannot be started."))
        with error, self._work.busy(_("Preparing the scans")) as progress:
            if self._work.model is None or not cases:
                raise ValueError(_("A model and at least one scan are needed."))
            folder = self._work.study / "predictions"
            export = export_cases(self._work.cases, folder / "scans", cases, progress=progress)
            self.prediction = PredictionProcess(folder / "masks")
            options = ["--sdm", "--probabilities", "--format", "seg.nrrd", "--overwrite"]
            options += ["--device", self._work.parameters.device.value]
            self.prediction.start(self._work.model, export.images, len(cases), options)
            self._timer.start()
            self.poll()

    def cancel(self) -> None:
        """End the prediction that runs."""
        if self.prediction is not None and self.prediction.active:
            self._timer.stop()
            self.prediction.cancel()
            self._work.changed()

    def poll(self) -> None:
        """Load what is done; called by a timer while a prediction runs."""
        done = self.prediction.poll()
        if not self.prediction.active:
            self._timer.stop()
        with slicer.util.tryWithErrorDisplay(_("A prediction cannot be shown.")):
            for name in done:
                self._load(name)
        self.update()

    def _load(self, file_name: str) -> None:
        case = self._work.cases.by_file_name(file_name)
        files = find_prediction(self.prediction.output, file_name)
        if case is not None and files is not None:  # the case may have been removed meanwhile
            load_prediction(self._work.cases, case, files.mask, files.sdms, files.probabilities)
            if self._work.case is None:
                self._work.case = case

    # ---- reviewing -------------------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """Show the next case, or the one before."""
        with slicer.util.tryWithErrorDisplay(_("The scan cannot be shown.")):
            self._work.case = self._work.cases.next(self._work.case, step)

    def accept(self) -> None:
        """The prediction is right as it is."""
        self._take_over(done=True)

    def correct(self) -> None:
        """Edit a copy of the prediction; it counts once it is marked as done."""
        if self._take_over(done=False):
            self._ui.annotateCollapsibleButton.collapsed = False

    def _take_over(self, done: bool) -> bool:
        case = self._work.case
        if case is None:
            return False
        question = _("{name} has an annotation already. Replace it by the prediction?").format(name=case.name)
        if case.has_drawing and not dialogs.confirm(question):
            return False
        with slicer.util.tryWithErrorDisplay(_("The prediction cannot be taken over."), waitCursor=True):
            accept_prediction(self._work.cases, case, overwrite=case.has_drawing, done=done)
            self._work.changed()
        return True

    # ---- showing ---------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show model, progress and overlays as they are."""
        self._show_model()
        self._show_progress()
        self._show_case()

    def _show_model(self) -> None:
        model = self._work.model
        running = self.prediction is not None and self.prediction.active
        waiting = self._work.cases.in_state(State.UNLABELLED, State.PREDICTED)
        self._ui.modelLabel.text = _model_text(model)
        self._ui.modelLabel.toolTip = str(model or "")
        self._ui.predictAllButton.enabled = model is not None and bool(waiting) and not running
        self._ui.predictOneButton.enabled = model is not None and self._work.case is not None and not running
        self._ui.cancelPredictionButton.enabled = running
        self._ui.exportModelButton.enabled = model is not None

    def _show_progress(self) -> None:
        prediction = self.prediction
        self._ui.predictionProgressBar.maximum = max(1, prediction.count) if prediction else 1
        self._ui.predictionProgressBar.value = prediction.index if prediction else 0
        self._ui.predictionLabel.text = prediction_text(prediction)

    def _show_case(self) -> None:
        case, labels = self._work.case, self._work.cases.labels
        self._ui.resultLabel.text = _result_text(case) if case else ""
        several = len(self._work.cases) > 1
        self._ui.previousCaseButton.enabled = several
        self._ui.nextCaseButton.enabled = several
        reviewable = case is not None and case.prediction is not None
        self._ui.acceptButton.enabled = reviewable
        self._ui.correctButton.enabled = reviewable
        self._ui.showSdmCheckBox.enabled = bool(case and case.sdms)
        self._ui.showProbabilityCheckBox.enabled = bool(case and case.probabilities)
        self._fill_label_choice([label.name for label in labels])
        self._apply_overlays(case)

    def _fill_label_choice(self, names: list[str]) -> None:
        box = self._ui.overlayLabelComboBox
        if [box.itemText(index) for index in range(box.count)] != names:
            self._filling = True
            box.clear()
            for name in names:
                box.addItem(name)
            self._filling = False

    def _label_chosen(self, index: int) -> None:
        if not self._filling and self._work.parameters is not None:
            self._apply_overlays(self._work.case)

    def _apply_overlays(self, case: Case | None) -> None:
        parameters, settings, labels = self._work.parameters, self.overlays.settings, self._work.cases.labels
        settings.mask_style = "fill and outline" if parameters.showMask else "hidden"
        settings.mask_opacity = parameters.maskOpacity
        settings.map, settings.map_opacity = "none", 0.0
        if parameters.showSdm:
            settings.map, settings.map_opacity = "sdm", parameters.sdmOpacity
        elif parameters.showProbability:
            settings.map, settings.map_opacity = "probability", parameters.probabilityOpacity
        index = self._ui.overlayLabelComboBox.currentIndex
        settings.label = labels[index].value if 0 <= index < len(labels) else 0
        wanted = (case.id if case else "", *vars(settings).values(), *(node.GetID() for node in _shown(case)))
        if case is not None and wanted != self._applied:
            self._applied = wanted
            self.overlays.show(case)

    _applied: tuple = ()


def _result_text(case: Case) -> str:
    text = _("{name}: {state}") if not case.predicted_elsewhere else _("{name}: {state}, for another part of the scan")
    return text.format(name=case.name, state=state_text(case.state))


def _shown(case: Case | None) -> list[Any]:
    return case.nodes() if case else []


def _model_text(model: Path | None) -> str:
    if model is None:
        return _("none; train or load one")
    try:
        return read_card(model).text
    except ValueError as error:
        return str(error)


def prediction_text(prediction: PredictionProcess | None) -> str:
    """What a prediction is doing, in one line."""
    if prediction is None:
        return ""
    if prediction.failure is not None:
        return prediction.failure.text
    count = _("{done} of {count} scans").format(done=prediction.index, count=prediction.count)
    text = {
        "new": "",
        "running": _("Predicting: {count}").format(count=count),
        "finished": _("Predicted {count}").format(count=count),
        "cancelled": _("Cancelled after {count}").format(count=count),
        "failed": "",
    }[prediction.state]
    left = prediction.eta_seconds
    return text if left is None else _("{text}, {time} left").format(text=text, time=duration(left))
