"""How good predictions are to be expected, found out in the background while somebody looks at the first ones.

>>> judging = Judging(study, predicting)                                # doctest: +SKIP
>>> judging.judged.connect(lambda case: print(case.name, case.quality)) # doctest: +SKIP
>>> judging.start(cases)                                                # doctest: +SKIP

It begins by itself after every prediction by a model that is calibrated. One that is not can be asked as well: then
there are maps of where it is unsure, and no DSC.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..i18n import _
from ..processes.command_process import CommandProcess
from ..scene.case import Case, CaseError
from ..scene.identity import check_identity
from ..scene.quality import load_quality
from ..scene.training_files import Progress, export_cases
from ..signal import Signal
from .child_work import ChildWork
from .model_card import read_card, which
from .predicting import Predicting
from .storage import only_if_started
from .study import Study


class Judging(ChildWork):
    """What is found out is kept in the cases, one by one."""

    def __init__(self, study: Study, predicting: Predicting) -> None:
        super().__init__(study)
        self._predicting = predicting
        self.model: Path | None = None  # that is asked, or was asked last
        self.calibrated = True  # that model
        self.judged = Signal()  # the case whose quality is known now
        self._data = Path()
        predicting.started.connect(lambda process: self.cancel())  # of masks that will be others
        predicting.ended.connect(self._follow)
        study.settings_changed.connect(self._model_changed)

    def possible(self) -> list[Case]:
        """Predictions of whole scans, or of their boxes as these are now, by the model in use and unchanged: what it
        expects of its own masks says nothing of others."""
        model = self.study.model
        makers = ("", which(model)) if model is not None else ()
        predicted = [case for case in self.study.cases if case.predicted_at_once and not case.excluded]
        as_made = [case for case in predicted if case.predicted_by in makers and not case.plainly_edited]
        return [case for case in as_made if not case.predicted_elsewhere]

    def waiting(self) -> list[Case]:
        """Those of them of which nothing is known yet."""
        return [case for case in self.possible() if case.quality is None]

    def start(self, cases: Sequence[Case], progress: Progress | None = None) -> CommandProcess:
        """Write the scans and start the child process.

        :raises SemiSegError: no model, no prediction of a whole scan or of its box by it, or a scan cannot be exported
        :raises OSError: the interpreter cannot be started, or the folder cannot be written
        """
        possible = self.possible()
        chosen = [case for case in cases if case in possible]
        moved = [case.name for case in cases if case.predicted_elsewhere]
        if not chosen and moved:
            text = _("The box of {name} was changed since the prediction: predict again, then the mask can be judged.")
            raise CaseError(text.format(name=", ".join(moved[:3])))
        edited = [case.name for case in cases if case.plainly_edited]
        if not chosen and edited:
            text = _("The mask of {name} was changed since it was predicted: the model says nothing of it.")
            raise CaseError(text.format(name=", ".join(edited[:3])))
        if possible and not cases and not self.waiting():
            raise CaseError(_("What is to be expected of every mask is known already."))
        if self.study.model is None or not chosen:
            raise CaseError(_("A model and at least one scan that it has predicted as a whole are needed."))
        self.cancel()
        folder = self.study.new_folder("predictions")
        with only_if_started(folder):
            export = export_cases(self.study.cases, folder / "scans", chosen, progress=progress, pool=self.study.pool)
            self._start(self.study.model, export.folder, len(chosen))
        self._watch()
        return self.process

    def scene_closed(self) -> None:
        """What runs or has run was for cases that are gone."""
        self.model, self.calibrated = None, True
        super().scene_closed()

    def _model_changed(self, names: set[str]) -> None:
        """Of another model it is not known yet whether it is calibrated."""
        if "modelFile" in names and not self.active:
            self.calibrated = True
            self.changed.emit()

    def _follow(self, process: Any) -> None:
        """After a prediction: its scans are written already."""
        if process.state == "finished" and self._predicting.model is not None and self._predicting.part is None:
            self.model, self.calibrated = self._predicting.model, read_card(self._predicting.model).calibrated
            if self.calibrated:
                self._start(self._predicting.model, process.output.parent / "scans", process.count)
                self._watch()
        self.changed.emit()

    def _start(self, model: Path, data: Path, count: int) -> None:
        self._data, self.model, self.calibrated = data, model, read_card(model).calibrated
        output = data.parent / "quality"
        arguments = ["--model", str(model), "--input", str(data / "images")]
        arguments += ["--output", str(output / "quality.json"), "--maps", str(output / "maps")]
        self.process = CommandProcess("SemiSegLib.quality", output)
        self.process.start([*arguments, "--device", self.study.parameters.device.value], count)

    def _keep(self, report: dict[str, Any]) -> None:
        table = self.study.cases
        case = table.by_file_name(report["name"]) if report["event"] == "case" else None
        # It may have been removed meanwhile; of what somebody changed the model says nothing.
        if case is not None and case.prediction is not None and not case.prediction_edited:
            place = check_identity(self._data, table.identifier, case)
            load_quality(table, case, report, self.model, place)
            self.judged.emit(case)
