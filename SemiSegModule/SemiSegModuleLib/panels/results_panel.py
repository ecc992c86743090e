"""The Results section: the model, predictions for many scans, overlays, and the review of case after case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

from SemiSegLib.models import ModelError, named_models

from ..i18n import _
from ..logic.workbench import Workbench
from ..scene.case import Case
from ..scene.overlays import Overlays
from ..scene.volumes import VoxelBox
from . import dialogs, texts
from .busy import Busy

_MOST_PROBLEMS = 3
_SLAB_MM = 20.0  # thickness of what is predicted around a slice
_OVERLAY_SETTINGS = {
    "showMask",
    "maskOpacity",
    "show3d",
    "showSdm",
    "sdmOpacity",
    "showProbability",
    "probabilityOpacity",
    "showUncertainty",
    "uncertaintyOpacity",
}


class ResultsPanel:
    """Shows model, prediction and the case at hand, and forwards clicks."""

    def __init__(self, ui: Any, logic: Workbench, busy: Busy, edit: Callable[[], None]) -> None:
        """:param edit: shows the Segment Editor on the case at hand"""
        self._ui, self._busy, self._edit = ui, busy, edit
        self._study, self._predicting, self._review = logic.study, logic.predicting, logic.review
        self._judging, self._installation, self._training = logic.judging, logic.installation, logic.training
        self.overlays = Overlays(self._study.cases)
        self._filling = False
        ui.loadModelButton.connect("clicked()", self.load_model)
        ui.predictAllButton.connect("clicked()", self.predict_all)
        ui.predictOneButton.connect("clicked()", self.predict_one)
        ui.judgeButton.connect("clicked()", self.judge)
        ui.cancelPredictionButton.connect("clicked()", self.cancel)
        ui.previousCaseButton.connect("clicked()", lambda: self.step(-1))
        ui.nextCaseButton.connect("clicked()", lambda: self.step(1))
        ui.acceptButton.connect("clicked()", self.accept)
        ui.correctButton.connect("clicked()", self.correct)
        ui.overlayLabelComboBox.connect("currentIndexChanged(int)", self._label_chosen)
        self._set_up_named_models()
        self._set_up_parts()
        self._listen()

    def _listen(self) -> None:
        study, predicting = self._study, self._predicting
        study.opened.connect(self.update)
        study.cases_changed.connect(self.update)
        study.labels_changed.connect(self._show_fit)
        study.case_changed.connect(self._case_changed)
        study.current_changed.connect(self.update)
        study.labels_changed.connect(self._show_case)
        study.settings_changed.connect(self._settings_changed)
        predicting.changed.connect(self._show_prediction)
        predicting.failed.connect(self._show_failure)
        predicting.loaded.connect(self._show_anew)
        self._training.ended.connect(lambda process: self._show_model())  # its file keeps its name, not its content
        self._judging.changed.connect(self._show_judging)
        self._judging.failed.connect(self._show_judging_failure)

    def scene_closed(self) -> None:
        """What the views showed is gone; nodes of the next scene may have the same IDs."""
        self._applied, self.overlays.current = (), None

    # ---- predicting ------------------------------------------------------------------------------------------

    def load_model(self) -> None:
        """Use a model file from elsewhere, and its labels when no case is annotated yet."""
        path = dialogs.choose_model()
        if path:
            self._use_model(str(path))

    def _use_model(self, name: str) -> None:
        with slicer.util.tryWithErrorDisplay(_("The model cannot be used.")):
            if dialogs.may_use_model(self._study, name):
                self._study.use_model(name, agreed=True)

    def _set_up_named_models(self) -> None:
        """A menu of the models that come with SemiSeg, where there are any."""
        models = named_models()
        self._menu = qt.QMenu(self._ui.namedModelButton)
        for name in models:
            action = self._menu.addAction(name)
            action.connect("triggered()", lambda name=name: self._use_model(name))
        self._ui.namedModelButton.setMenu(self._menu)
        self._ui.namedModelButton.visible = bool(models)

    def predict_all(self) -> None:
        """Every case without a finished annotation."""
        self._predict(self._predicting.waiting())

    def predict_one(self) -> None:
        """The case at hand, annotated or not: an annotation is never touched."""
        self._predict([self._study.case] if self._study.case else [])

    def predict_part(self, name: str, thickness_mm: float = 0.0) -> None:
        """The box, or the slices shown, of the case at hand alone."""
        with slicer.util.tryWithErrorDisplay(_("The part cannot be predicted.")):
            cases = [self._study.case] if self._study.case else []
            self._predict(cases, self._predicting.part_of(cases, name, thickness_mm))

    def _set_up_parts(self) -> None:
        """A menu of the parts of a scan that can be predicted alone."""
        self._parts = qt.QMenu(self._ui.predictPartButton)
        names = {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}
        self._parts.addAction(_("The box of section 2")).connect("triggered()", lambda: self.predict_part("box"))
        for text, thickness in ((_("The {name} slice shown"), 0.0), (_("10 mm to both sides of it, {name}"), _SLAB_MM)):
            for key, name in names.items():
                action = self._parts.addAction(text.format(name=name))
                action.connect("triggered()", lambda key=key, mm=thickness: self.predict_part(key, mm))
        self._ui.predictPartButton.setMenu(self._parts)

    def _predict(self, cases: Sequence[Case], part: VoxelBox | None = None) -> None:
        edited = self._predicting.edited(cases)
        question = _("Somebody has changed these predictions. Replace them by new ones?\n\n{names}")
        if edited and not dialogs.confirm(question.format(names=dialogs.names(edited))):
            return
        if not dialogs.may_copy_scans(self._study):
            return
        error = slicer.util.tryWithErrorDisplay(_("The prediction cannot be started."))
        with error, self._busy(_("Preparing the scans")) as progress:
            self._installation.install(dialogs.confirm)
            self._predicting.start(cases, progress, part)

    def judge(self) -> None:
        """Find out how good the masks are of which that is not known; where it is known of all, anew."""
        if not dialogs.may_copy_scans(self._study):
            return
        error = slicer.util.tryWithErrorDisplay(_("The quality cannot be estimated."))
        with error, self._busy(_("Preparing the scans")) as progress:
            self._installation.install(dialogs.confirm)
            self._judging.start(self._judging.waiting() or self._judging.possible(), progress)

    def cancel(self) -> None:
        """End the prediction or the estimate that runs."""
        self._predicting.cancel()
        self._judging.cancel()

    # ---- reviewing -------------------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """Show the next case, or the one before."""
        with slicer.util.tryWithErrorDisplay(_("The scan cannot be shown.")):
            self._review.step(step)

    def accept(self) -> None:
        """The prediction is right as it is."""
        self._take_over(done=True)

    def correct(self) -> None:
        """Edit a copy of the prediction; it counts once it is marked as done."""
        if self._take_over(done=False):
            self._edit()

    def _take_over(self, done: bool) -> bool:
        case = self._study.case
        if case is None or not dialogs.may_replace(case):
            return False
        with slicer.util.tryWithErrorDisplay(_("The prediction cannot be taken over."), waitCursor=True):
            self._study.case = case  # a suggestion may have taken another one to hand while it was asked
            take_over = self._review.accept if done else self._review.correct
            take_over(overwrite=case.has_work)
        return True

    # ---- showing ---------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show model, progress and overlays as they are."""
        self._show_model()
        self._show_prediction()
        self._show_judging()
        self._show_case()

    def _case_changed(self, case: Case) -> None:
        self._show_buttons()
        if case == self._study.case:
            self._show_case()

    def _show_anew(self, case: Case) -> None:
        """The nodes of a case that is predicted again are the same, but its mask looks like any other."""
        if case == self._study.case:
            self._applied = ()
            self._show_case()

    def _settings_changed(self, names: set[str]) -> None:
        if names & {"modelFile", "studyFolder"}:
            self._show_model()
        if names & _OVERLAY_SETTINGS:
            self._apply_overlays(self._study.case)

    def _show_model(self) -> None:
        model = self._study.model
        parameters = self._study.parameters
        self._ui.modelLabel.text = texts.model(model, parameters.modelFile if parameters is not None else "")
        self._ui.modelLabel.toolTip = str(model or "")
        self._ui.exportModelButton.enabled = model is not None
        self._show_fit()
        self._show_buttons()

    def _show_fit(self) -> None:
        """What speaks against the model, before it predicts."""
        try:
            problems = self._predicting.misfits()
        except ModelError as error:
            problems = [str(error)]
        self._ui.fitLabel.text = "\n".join([_("Look twice:"), *problems]) if problems else ""
        self._ui.fitLabel.visible = bool(problems)

    def _show_buttons(self) -> None:
        ready = self._study.model is not None and not self._predicting.active
        self._ui.predictAllButton.enabled = ready and bool(self._predicting.waiting())
        at_hand = self._study.case is not None and not self._study.case.excluded
        self._ui.predictOneButton.enabled = ready and at_hand
        self._ui.predictPartButton.enabled = ready and at_hand
        busy = self._predicting.active or self._judging.active
        self._ui.judgeButton.enabled = not busy and self._can_judge()
        self._ui.cancelPredictionButton.enabled = busy
        self._ui.reviewButton.enabled = bool(self._review.cases)

    def _can_judge(self) -> bool:
        try:
            return bool(self._judging.possible())
        except ModelError:  # its file is none of SemiSeg's; the label of the model says so
            return False

    def _show_prediction(self) -> None:
        process = self._predicting.process
        if self._judging.active:
            return  # the bar is the estimate's
        self._ui.predictionProgressBar.maximum = max(1, process.count) if process else 1
        self._ui.predictionProgressBar.value = process.index if process else 0
        said = [self._study.in_names(texts.prediction(process)), *_first(self._predicting.problems)]
        self._say("\n".join(text for text in said if text))
        self._show_buttons()

    def _show_judging(self) -> None:
        process = self._judging.process
        text = self._study.in_names(texts.judging(process, self._judging.calibrated))
        said = [text, *_first(self._judging.problems)]
        self._ui.qualityLabel.text = "\n".join(text for text in said if text)
        self._ui.qualityLabel.visible = bool(self._ui.qualityLabel.text)
        if self._judging.active:
            self._ui.predictionProgressBar.maximum = max(1, process.count)
            self._ui.predictionProgressBar.value = process.index
        self._show_buttons()

    def _show_judging_failure(self, error: Exception) -> None:
        self._ui.qualityLabel.text = _("The quality of a mask cannot be shown: {error}").format(error=error)
        self._ui.qualityLabel.visible = True

    def _show_failure(self, error: Exception) -> None:
        self._say(_("A prediction cannot be shown: {error}").format(error=error))

    def _say(self, text: str) -> None:
        self._ui.predictionLabel.text = text
        self._ui.predictionLabel.visible = bool(text)

    def _show_case(self) -> None:
        case = self._study.case
        self._ui.resultLabel.text = texts.result(case) if case else ""
        several = len(self._study.cases) > 1
        self._ui.previousCaseButton.enabled = several
        self._ui.nextCaseButton.enabled = several
        reviewable = case is not None and case.prediction is not None
        self._ui.acceptButton.enabled = reviewable
        self._ui.correctButton.enabled = reviewable
        self._ui.showSdmCheckBox.enabled = bool(case and case.sdms)
        self._ui.showProbabilityCheckBox.enabled = bool(case and case.probabilities)
        self._ui.showUncertaintyCheckBox.enabled = bool(case and case.uncertainty)
        self._fill_label_choice([label.name for label in self._study.cases.labels])
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
        if not self._filling and self._study.parameters is not None:
            self._apply_overlays(self._study.case)

    def _apply_overlays(self, case: Case | None) -> None:
        parameters, settings, labels = self._study.parameters, self.overlays.settings, self._study.cases.labels
        settings.mask_style = "fill and outline" if parameters.showMask else "hidden"
        settings.mask_opacity = parameters.maskOpacity
        settings.show_3d = parameters.show3d
        settings.map, settings.map_opacity = "none", 0.0
        if parameters.showSdm:
            settings.map, settings.map_opacity = "sdm", parameters.sdmOpacity
        elif parameters.showProbability:
            settings.map, settings.map_opacity = "probability", parameters.probabilityOpacity
        elif parameters.showUncertainty:
            settings.map, settings.map_opacity = "uncertainty", parameters.uncertaintyOpacity
        index = self._ui.overlayLabelComboBox.currentIndex
        settings.label = labels[index].value if 0 <= index < len(labels) else 0
        wanted = (*vars(settings).values(), *_look(case))
        if wanted != self._applied:
            self._applied = wanted
            self.overlays.show(case)

    _applied: tuple = ()


def _first(problems: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = len(problems) - _MOST_PROBLEMS
    return [*problems[:_MOST_PROBLEMS], *([_("and {count} more").format(count=more)] if more > 0 else [])]


def _look(case: Case | None) -> tuple[Any, ...]:
    """What the views depend on, of a case."""
    return (case.id, case.has_drawing, *(node.GetID() for node in case.nodes())) if case else ()
