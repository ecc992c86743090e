"""What to annotate next, and the mask that follows the strokes: two questions to a child process, in Annotate."""

from __future__ import annotations

from typing import Any

import slicer

from ..i18n import _
from ..logic.child_work import ChildWork
from ..logic.workbench import Workbench
from ..scene.case import Case
from ..scene.overlays import jump_to
from ..scene.records import ORIENTATIONS
from ..scene.slices import place_of
from . import dialogs, texts
from .busy import Busy


class LoopPanel:
    """Connects the buttons *What to annotate next* and *Refine this scan* with their progress."""

    def __init__(self, ui: Any, logic: Workbench, busy: Busy) -> None:
        self._ui, self._busy, self._study, self._installation = ui, busy, logic.study, logic.installation
        self._suggesting, self._refining = logic.suggesting, logic.refining
        self._trouble = ""
        for text in _strokes().values():
            ui.refineComboBox.addItem(text)
        ui.suggestButton.connect("clicked()", self.suggest)
        ui.refineButton.connect("clicked()", self.refine)
        ui.loopCancelButton.connect("clicked()", self.cancel)
        ui.annotateCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self.update())
        for work in (self._suggesting, self._refining):
            work.changed.connect(lambda work=work: self._changed(work))
            work.failed.connect(self._tell_failure)
        self._suggesting.ended.connect(self._go_to_first)
        study = self._study
        for signal in (study.opened, study.cases_changed, study.current_changed, study.labels_changed):
            signal.connect(self.update)
        study.case_changed.connect(lambda case: self.update())
        study.settings_changed.connect(lambda names: "modelFile" in names and self.update())

    def scene_closed(self) -> None:
        """What could not be shown was of scans that are gone."""
        self._trouble = ""

    def suggest(self) -> None:
        """Ask which scans, and which of their slices, to annotate next."""
        if not dialogs.may_copy_scans(self._study):
            return
        self._trouble = ""
        error = slicer.util.tryWithErrorDisplay(_("Nothing can be suggested."))
        with error, self._busy(_("Preparing the scans")) as progress:
            self._installation.install(dialogs.confirm)
            self._suggesting.start(progress=progress)

    def refine(self) -> None:
        """Let the mask of the case at hand follow what was drawn."""
        if not dialogs.may_copy_scans(self._study):
            return
        self._trouble = ""
        whole = list(_strokes())[self._ui.refineComboBox.currentIndex]
        error = slicer.util.tryWithErrorDisplay(_("The scan cannot be refined."))
        with error, self._busy(_("Preparing the scan")) as progress:
            self._installation.install(dialogs.confirm)
            self._refining.start(self._study.case, whole, progress)

    def cancel(self) -> None:
        """End what runs; cases stay as they are."""
        self._suggesting.cancel()
        self._refining.cancel()

    def _go_to_first(self, process: Any) -> None:
        """The first scan to annotate, at its first slice."""
        cases = self._suggesting.cases()
        if process.state != "finished" or not cases:
            return
        self._study.case = cases[0]
        hint = cases[0].suggestion
        if hint.slices:
            with slicer.util.tryWithErrorDisplay(_("The slice cannot be shown.")):
                jump_to(cases[0], place_of(cases[0], hint.axis, hint.slices[0]))

    # ---- showing ---------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show what can be asked, and what runs."""
        ui, case = self._ui, self._study.case  # None while a scene closes
        running = self._suggesting.active or self._refining.active
        ui.suggestButton.enabled = not running and bool(self._suggesting.waiting())
        ui.refineButton.enabled = not running and self._refining.possible(case)
        ui.refineComboBox.enabled = ui.refineButton.enabled
        ui.loopCancelButton.visible = ui.loopProgressBar.visible = running
        process = self._refining.process if self._refining.active else self._suggesting.process
        if running:
            ui.loopProgressBar.maximum, ui.loopProgressBar.value = max(1, process.count), process.index
        ui.loopLabel.text = self._trouble or self._study.in_names(self._text(case))
        ui.loopLabel.visible = bool(ui.loopLabel.text)

    def _text(self, case: Case | None) -> str:
        suggesting, refining = self._suggesting, self._refining
        if refining.active or (refining.case is not None and refining.case == case):
            return texts.refining(refining.process, refining.outcome)
        return texts.suggesting(suggesting.process)

    def _changed(self, work: ChildWork) -> None:
        self._trouble = ""
        self._tell_failure(work.problems[0]) if work.problems else self.update()

    def _tell_failure(self, error: Exception | str) -> None:
        self._trouble = _("The result cannot be shown: {error}").format(error=error)
        self.update()


def _strokes() -> dict[str, str]:
    """Values of `whole` and what they are called."""
    slices = {
        "axial": _("whole axial slices where I drew"),
        "coronal": _("whole coronal slices where I drew"),
        "sagittal": _("whole sagittal slices where I drew"),
    }
    return {"": _("right is what I drew"), **{orientation: slices[orientation] for orientation in ORIENTATIONS}}
