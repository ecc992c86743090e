"""The two ways in, above all sections, and one sentence on what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from SemiSegLib.models import named_models

from ..i18n import _
from ..logic.workbench import Workbench
from ..scene.records import State
from . import dialogs


class StartPanel:
    """Opens the section that is needed next; the clicks in between stay the user's."""

    def __init__(self, ui: Any, logic: Workbench) -> None:
        self._ui, self._logic, self._study = ui, logic, logic.study
        self._menu = qt.QMenu(ui.startSegmentButton)
        self._menu.connect("aboutToShow()", self._fill_menu)
        self._fill_menu()
        ui.startSegmentButton.setMenu(self._menu)
        ui.startTrainButton.connect("clicked()", self.train)
        for signal in (self._study.opened, self._study.cases_changed, self._study.labels_changed):
            signal.connect(self.update)
        self._study.case_changed.connect(lambda case: self.update())
        self._study.settings_changed.connect(lambda names: "modelFile" in names and self.update())
        logic.training.changed.connect(self.update)
        logic.training.ended.connect(self._training_ended)
        logic.predicting.changed.connect(self.update)

    # ---- segment ---------------------------------------------------------------------------------------------

    def _fill_menu(self) -> None:
        """The models to choose from: the one in use, those that come with SemiSeg, a file."""
        self._menu.clear()
        model = self._study.model if self._study.parameters is not None else None
        if model is not None and model not in named_models().values():
            own = self._menu.addAction(_("With the model in use"))
            own.connect("triggered()", lambda: self.segment(self._study.parameters.modelFile))
        for name in named_models():
            action = self._menu.addAction(_("With the ready model {name}").format(name=name))
            action.connect("triggered()", lambda name=name: self.segment(name))
        action = self._menu.addAction(_("With a model from a file…"))
        action.connect("triggered()", self._segment_with_file)

    def _segment_with_file(self) -> None:
        path = dialogs.choose_model()
        if path:
            self.segment(path)

    def segment(self, model: Path | str) -> None:
        """Take the scans of the scene and this model; then its limits are seen, and "Predict all" is one click away."""
        with slicer.util.tryWithErrorDisplay(_("The model cannot be used.")):
            if not dialogs.may_use_model(self._study, model):
                return
            self._study.use_model(model, agreed=True)
            self._study.select_first(self._study.cases.add_new_volumes())
            self._unfold("results")

    # ---- train -----------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Take the scans of the scene and open the first one that has no annotation in the editor."""
        with slicer.util.tryWithErrorDisplay(_("The scans cannot be added."), waitCursor=True):
            self._study.cases.add_new_volumes()
            unlabelled = self._study.cases.in_state(State.UNLABELLED)
            if unlabelled:
                self._study.case = unlabelled[0]
                self._logic.annotate(unlabelled[0])
            self._unfold("annotate", "train") if unlabelled else self._unfold("data")

    def _training_ended(self, process: Any) -> None:
        if process.state in ("finished", "stopped"):  # the other sections stay: somebody may be drawing
            self._ui.resultsCollapsibleButton.collapsed = False

    def _unfold(self, *names: str) -> None:
        for name in ("data", "annotate", "train", "results", "export"):
            getattr(self._ui, f"{name}CollapsibleButton").collapsed = name not in names

    # ---- showing ---------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Say what comes next."""
        if self._study.parameters is not None:
            self._ui.guideLabel.text = self._what_next()

    def _what_next(self) -> str:
        states = [case.state for case in self._study.cases]
        predicted, annotated = states.count(State.PREDICTED), sum(state.trains_with_mask for state in states)
        if self._logic.training.active:
            return _("The training goes on by itself, also when Slicer is closed.")
        if self._logic.predicting.active:
            return _("Masks appear one after the other; look at them meanwhile.")
        if predicted:
            text = _("1 mask waits: {do}") if predicted == 1 else _("{count} masks wait: {do}")
            return text.format(count=predicted, do=_("press Review one by one in section 4."))
        if not states:
            return _("Load scans in Slicer (or add them in section 1), then press one of these.")
        if self._study.model is not None and State.UNLABELLED in states:
            return _("Press Predict all in section 4.")
        if annotated:
            text = _("1 scan is annotated: {do}") if annotated == 1 else _("{count} scans are annotated: {do}")
            return text.format(count=annotated, do=_("annotate more, or press Train in section 3."))
        return _("Draw in a scan and mark it as done in section 2; three to eight are a good start.")
