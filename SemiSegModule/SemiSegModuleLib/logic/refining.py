"""The mask of one scan follows what was drawn on it, in seconds: a child process adapts the network to that scan.

>>> refining = Refining(study, review.undo)                             # doctest: +SKIP
>>> refining.start(case)                                                # doctest: +SKIP
>>> review.undo.undo()                                                  # doctest: +SKIP

The annotation is changed once, at the end: whoever cancels, or whose process fails, has it as it was. What is drawn
meanwhile stays, and so does the model. The next correction of the same scan adds to what was drawn for the one before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..i18n import _
from ..processes.command_process import CommandProcess
from ..scene import volumes
from ..scene.case import Case, CaseError
from ..scene.strokes import Corrections, base_of, corrections, follow_strokes, renumbered
from ..scene.training_files import Progress, export_cases
from ..scene.undo import drawn_since, keep_annotation
from ..scene.volumes import VoxelBox
from ..signal import Signal
from . import refinement_files
from .child_work import ChildWork
from .storage import only_if_started
from .study import Study
from .undo import Undo

STEPS, SECONDS = 60, 20.0  # most of an adaptation, as SemiSegLib.training.refinement has it
_STROKES, _MASK = "strokes.nrrd", "refined.nrrd"  # of the part of the scan that the child process sees


class Refining(ChildWork):
    """`outcome` is what a refinement said at its end; whatever ends one, the annotation stays as it is."""

    def __init__(self, study: Study, undo: Undo) -> None:
        super().__init__(study)
        self._undo = undo
        self.case: Case | None = None
        self.outcome: dict[str, Any] = {}
        self.seconds = SECONDS  # of adaptation at most; prediction before and after comes on top
        self.refined = Signal()  # the case whose mask has followed
        self._before: Corrections | None = None
        self._box: VoxelBox | None = None  # of the scan, that the child process sees
        self._values: dict[int, int] = {}  # of the model's labels by those of the study

    def possible(self, case: Case | None) -> bool:
        """A model of these labels is in use, and something is drawn in the annotation of the case, which takes part."""
        model, drawn = self.study.model, case is not None and case.has_drawing and not case.excluded
        return model is not None and drawn and self.study.model_fits(model)

    def start(self, case: Case, whole: str = "", progress: Progress | None = None) -> CommandProcess:
        """Write the scan and what was drawn on it, and start the child process.

        :param whole: 'axial', 'coronal' or 'sagittal' when slices in which something was drawn are right as a whole
        :raises SemiSegError: no model, nothing drawn, or the scan cannot be exported
        :raises OSError: the interpreter cannot be started, or the folder cannot be written
        """
        if not self.possible(case):
            raise CaseError(_("A model of these labels, and something drawn on the scan, are needed to refine it."))
        labels = self.study.cases.labels
        self.cancel()
        earlier, base = refinement_files.read(self.study, case)
        before = corrections(case, labels, base if base is not None else base_of(case, labels), earlier, whole)
        folder = self.study.new_folder(refinement_files.FOLDERS)
        with only_if_started(folder):
            export = export_cases(self.study.cases, folder / "scan", [case], progress=progress, pool=self.study.pool)
            pairs = zip((label.value for label in labels), self.study.model_values(self.study.model), strict=True)
            self._values = dict(pairs)
            strokes = renumbered(before.strokes, self._values)
            volumes.write_image(volumes.world_image(case.volume, strokes, case.box()), folder / _STROKES)
            self.case, self._before, self._box, self.outcome = case, before, case.box(), {}
            arguments = ["--model", str(self._model()), "--scan", str(export.images / f"{case.file_name}.nrrd")]
            arguments += ["--strokes", str(folder / _STROKES), "--output", str(folder / _MASK)]
            arguments += ["--seconds", str(self.seconds)]
            self.process = CommandProcess("SemiSegLib.refine", folder)
            self.process.start([*arguments, "--device", self.study.parameters.device.value], STEPS)
        self._watch()
        return self.process

    def scene_closed(self) -> None:
        """What runs or has run was for cases that are gone."""
        super().scene_closed()
        self.case = self._before = None

    def _keep(self, report: dict[str, Any]) -> None:
        self.process.index = int(report.get("step", self.process.index))
        if report["event"] == "refined":
            self.outcome = report

    def _finish(self) -> None:
        """The annotation becomes the refined mask; one step of Undo brings the former back."""
        case, table, folder = self.case, self.study.cases, self.process.output
        removed = case not in table.cases or case.annotation is None  # meanwhile
        if removed or self.process.state != "finished":
            return
        refined = sitk.GetArrayFromImage(volumes.read_image(folder / _MASK))
        refined = renumbered(refined, {theirs: ours for ours, theirs in self._values.items()})
        if case.box() != self._box or refined.shape != self._before.mask[self._box.slices].shape:
            raise CaseError(_("The region of interest of {name} was changed meanwhile.").format(name=case.name))
        back = keep_annotation(table, case)
        try:
            now = follow_strokes(table, case, self._before, refined)
            refinement_files.write(folder, case, self._before.strokes, now)
        except Exception:  # without these files the next one would take what the network changed for strokes
            back()
            raise
        self._undo.add(_("refining {name}").format(name=case.name), back, drawn_since(case))
        self.refined.emit(case)

    def _model(self) -> Path:
        """The model in use; as the run that it is of where it is its last one, so that old annotations are replayed."""
        model = self.study.model
        run = model.parent.parent
        return run if model.name == "last.safetensors" and (run / "run.json").is_file() else model
