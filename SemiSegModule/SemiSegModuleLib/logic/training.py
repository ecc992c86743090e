"""The trainings of a study: started from its cases, watched, stopped, resumed, found again.

>>> training = Training(study)                                          # doctest: +SKIP
>>> training.ended.connect(lambda process: print(process.state))        # doctest: +SKIP
>>> training.start()                                                    # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import slicer

from SemiSegLib.data.patients import last_patients
from SemiSegLib.models import ModelError
from SemiSegLib.runs import RunError, RunFolder, read_json

from ..i18n import _
from ..processes.training_process import TrainingProcess
from ..scene.case import Case, CaseError
from ..scene.curves import TrainingCurves
from ..scene.names_list import write_names
from ..scene.records import State
from ..scene.training_files import Progress, export_cases
from ..signal import Signal
from . import starting
from .poller import Poller
from .run_settings import run_settings
from .storage import CACHE, only_if_started
from .study import Study, set_setting, setting


@contextlib.contextmanager
def _announced(run: Path) -> Iterator[None]:
    """Other windows know of the start, unless it fails."""
    starting.announce(run)
    try:
        yield
    except BaseException:
        starting.withdraw(run)
        raise


class Training:
    """`process` is the training at hand, if any: running, ended, or one of another session."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.process: TrainingProcess | None = None
        self.running_elsewhere: Path | None = None  # the training of another study that runs on this computer
        self._left: TrainingProcess | None = None  # ran when its study was closed
        self.unused = ""  # why the model of the one that ended is not used
        self.remarks: list[str] = []  # what was left out of the scans and masks of the last start
        self.started = Signal()  # the process of a new training
        self.adopted = Signal()  # another training is at hand
        self.changed = Signal()  # something happened in it
        self.log_lines = Signal()  # the new lines that it printed
        self.ended = Signal()  # the process, once, when it has ended
        self._curves: TrainingCurves | None = None
        self._announced = ""
        self._poller = Poller(self._poll)
        self.failed = self._poller.failed
        study.opened.connect(self._scene_opened)
        study.settings_changed.connect(lambda names: "studyFolder" in names and self.find_again())

    def close(self) -> None:
        """Stop looking; a training goes on."""
        self._poller.stop()

    @property
    def active(self) -> bool:
        """A training runs."""
        return self.process is not None and self.process.active

    @property
    def watched(self) -> bool:
        """A training runs, and somebody looks what it does: not while its scene is closed from another module."""
        return self.active and self._poller.running and self.study.parameters is not None

    @property
    def report_page(self) -> Path | None:
        """The page about the training at hand; None where it was not written yet."""
        page = self.process.run.report / "index.html" if self.process is not None else None
        return page if page is not None and page.is_file() else None

    # ---- before it starts ------------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Cases to learn from with their annotation, cases to measure with, cases without annotation."""
        annotated = sum(case.state.trains_with_mask for case in self.study.cases)
        bare = self.study.cases.in_state(State.UNLABELLED, State.PREDICTED)
        aside = self.kept_aside()
        patients = {case.patient_key for case in aside}
        return annotated - len(aside), len(aside), sum(case.patient_key not in patients for case in bare)

    def kept_aside(self) -> list[Case]:
        """Annotated cases to measure with, as the library chooses them."""
        cases = sorted(self.study.cases, key=lambda case: case.file_name)
        masks = [case for case in cases if case.state.trains_with_mask]
        accepted = [case.origin == "accepted" for case in masks]
        count = self.study.parameters.validationCases
        aside = last_patients([case.patient_key for case in masks], count, accepted)
        return [case for case in masks if case.patient_key in aside]

    def why_not_kept_aside(self) -> str:
        """Why so many cannot be kept aside; '' when they can."""
        learnt, held_out, _bare = self.counts()
        text = _("{held} of {count} annotated scans cannot be kept aside: at least one must be learnt from.")
        wanted = self.study.parameters.validationCases
        return text.format(held=wanted, count=held_out) if held_out and not learnt else ""

    def seen_before(self) -> list[Case]:
        """Those of them that the model to start from has learnt from: they measure nothing any more."""
        aside, model = self.kept_aside(), self.initial_model()
        run = RunFolder(model.parent.parent) if aside and model is not None else None
        if run is None or not run.path.is_relative_to(self.study.folder) or not run.cases_file.is_file():
            return []
        learnt = {case["name"] for case in read_json(run.cases_file)["labelled"]}
        return [case for case in aside if case.file_name in learnt]

    def initial_model(self) -> Path | None:
        """The model to start from instead of from nothing: the one in use, when it fits and that is wanted."""
        model = self.study.model if self.study.parameters.startFromLastModel else None
        return model if model and self.study.model_fits(model) else None

    # ---- the training ----------------------------------------------------------------------------------------

    def start(self, progress: Progress | None = None, settings: Mapping[str, Any] | None = None) -> TrainingProcess:
        """Check the settings, write scans and annotations into a new run folder, start the child process.

        :param settings: over those of the parameter node, by their names in SemiSegLib
        :raises SemiSegError: a setting is wrong, or a scan or annotation cannot be exported
        :raises OSError: the interpreter cannot be started, or the folder cannot be written
        """
        parameters, cases = self.study.parameters, self.study.cases
        self._refuse_beside_another()
        if not any(case.state.trains_with_mask for case in cases):
            raise CaseError(_("Annotate at least one scan and mark it as done; then training can start."))
        if problem := self.why_not_kept_aside():
            raise CaseError(problem)
        values = {"data.cache": f"../{CACHE}", **run_settings(parameters, cases.labels, settings)}
        run_path = self._new_run_folder()
        with only_if_started(run_path), _announced(run_path):
            export = export_cases(cases, run_path / "data", progress=progress, pool=self.study.pool)
            write_names(run_path.parent, {case.file_name: case for case in cases})
            process = TrainingProcess(run_path)
            process.start(export.folder, values, self.initial_model(), parameters.validationCases)
        self.remarks = export.remarks
        self.started.emit(process)
        self._adopt(process)
        return process

    def stop(self) -> None:
        """Ask for a checkpoint and an end."""
        if self.active:
            self.process.stop()
            self.changed.emit()

    def end_now(self) -> None:
        """End at once: what was learnt since the last checkpoint is lost."""
        if self.active:
            self.process.end_now()
            self.changed.emit()

    def resume(self) -> None:
        """Go on from the checkpoint of the training at hand."""
        if self.process is not None:
            self._refuse_beside_another()
            with _announced(self.process.run.path):
                self.process.resume()
            self._adopt(self.process)

    def _refuse_while_active(self) -> None:
        """Two trainings would share the memory of one computer, and nobody would watch the first."""
        if self.active:
            raise CaseError(_("A training runs: stop it first, or wait until it has ended."))

    def _refuse_beside_another(self) -> None:
        self._refuse_while_active()
        elsewhere = self._running_elsewhere()
        if elsewhere is not None:
            text = _(
                "A training of another study runs on this computer: {path}. Stop it first, or wait until it has ended; "
                "Open training… shows it."
            )
            if elsewhere.parent == self.study.folder:
                text = _(
                    "A training of this study runs already, from another window: {path}. Stop it first, or wait until "
                    "it has ended; Open training… shows it."
                )
            raise CaseError(text.format(path=elsewhere))

    def attach(self, folder: Path) -> TrainingProcess:
        """Take a training to hand that this or another Slicer started; raises RunError, or CaseError while one runs."""
        self._refuse_while_active()
        RunFolder.open(folder)
        process = TrainingProcess(folder)
        self._adopt(process)
        return process

    def find_again(self) -> None:
        """Take the training to hand that this scene began last, or one of its study that runs: it began after the scene
        was saved.

        That of another study, closed meanwhile or on this computer, is not: its model knows other patients and labels.
        It goes on, and if it still runs, `running_elsewhere` names it.
        """
        folder = self.study.cases.run_folder
        folder = self.study.moved_along(folder, 1) if folder is not None else None
        if self.process is not None and self.process.run.path != folder:
            self._let_go()
        if self.process is None and folder is not None:
            with contextlib.suppress(RunError, OSError):
                RunFolder.open(folder)
                self._adopt(TrainingProcess(folder), known_end=self.study.cases.run_end)
        elif folder is None:
            self.running_elsewhere = self._running_elsewhere()
            self.changed.emit()
        elif self.process is not None:
            self._poller.start()  # its disk may have been away
        self._find_unsaved()

    def _find_unsaved(self) -> None:
        running = self._running_elsewhere() if not self.active else None
        if running is not None and running.parent == self.study.folder:
            with contextlib.suppress(RunError, OSError):  # one that starts has no files yet
                self.attach(running)

    def _let_go(self) -> None:
        """No training is at hand any more; this one goes on."""
        self._poller.stop()
        self._left = self.process if self.active else self._left
        self.process, self.remarks, self.unused = None, [], ""
        self.curves.clear()
        self.adopted.emit()
        self.changed.emit()

    def _running_elsewhere(self) -> Path | None:
        """One that ran here when its study was closed, or the last one of any window."""
        last = setting("LastRun")
        known = [self._left, TrainingProcess(Path(last)) if last else None]
        for process in [process for process in known if process is not None]:
            with contextlib.suppress(RunError, OSError):
                process.poll()
                if process.active and not process.elsewhere:
                    return process.run.path
        if self._left is not None:
            starting.withdraw(self._left.run.path)  # nobody else looks whether it has ended
        return starting.announced()

    def _new_run_folder(self) -> Path:
        """A folder for a new training, not there yet."""
        name = datetime.now().strftime("training-%Y%m%d-%H%M%S")
        folder, number = self.study.claim_folder(), 1
        path = folder / name
        while path.exists():
            number += 1
            path = folder / f"{name}-{number}"
        return path

    def _adopt(self, process: TrainingProcess, known_end: str = "") -> None:
        """:param known_end: the state in which this scene saw it end: what somebody chose since stays"""
        self.process, self.running_elsewhere = process, None
        self._announced, self.unused = known_end, ""
        process.log.position = 0
        self.curves.clear()
        if process.run.events_file.exists():
            self.curves.add(process.skip_history())
        self.study.cases.run_folder, self.study.cases.run_end = process.run.path, known_end
        self.adopted.emit()
        self._poller.start()
        self._poller.look()
        if process.active:  # the study that is opened may have one that ended, while that of another runs
            set_setting("LastRun", str(process.run.path))

    def poll(self) -> None:
        """Look now what has happened."""
        self._poller.look()

    def _poll(self) -> bool:
        if self.process is None:
            return False
        if self.study.parameters is None:  # the scene was closed from another module: wait until this one is opened
            return True
        events = self.process.poll()
        if any(event["event"] == "resumed" for event in events):
            self.curves.clear()
            events = self.process.run.history()
        self.curves.add(events)
        lines = self.process.log.new_lines()
        if lines:
            self.log_lines.emit(lines)
        if self.process.state != "starting":
            starting.withdraw(self.process.run.path)
        self._conclude()
        self.changed.emit()
        return self.process.active

    def _conclude(self) -> None:
        """Once, when it has ended: its model is the one to predict with."""
        process = self.process
        if process.active or self._announced == process.state:
            return
        self._announced = self.study.cases.run_end = process.state
        if process.state in ("finished", "stopped"):
            self._use_model(process.run.last_model)  # it predicts everywhere; the best was chosen on validation scans
        self.ended.emit(process)

    def _use_model(self, model: Path) -> None:
        self.unused = ""
        if not model.exists():
            return
        if self.study.model_fits(model):
            self.study.parameters.modelFile = str(model)
            return
        try:
            named = [[label.name for label in some] for some in (self.study.labels_of(model), self.study.cases.labels)]
        except ModelError as error:
            self.unused = str(error)
            return
        text = _("The model of this training is not used: it segments {own}; this study wants {wanted}.")
        self.unused = text.format(own=", ".join(named[0]), wanted=", ".join(named[1]))

    # ---- curves ----------------------------------------------------------------------------------------------

    @property
    def curves(self) -> TrainingCurves:
        """Nodes of the scene; made when first needed, and again in a new scene or when somebody deleted some."""
        if self._curves is None:
            self._curves = TrainingCurves(slicer.mrmlScene)
        elif not self._curves.complete:
            self._curves = TrainingCurves(slicer.mrmlScene)
            self._curves.add(self.process.run.history() if self.process is not None else [])
        return self._curves

    def scene_closed(self) -> None:
        """The curves' nodes are gone; the training goes on."""
        self._curves = None

    def _scene_opened(self) -> None:
        """Draw the curves of the training at hand into the new scene, or find one."""
        self.find_again()
        if self.process is not None and self._curves is None:
            self.curves.add(self.process.run.history())
