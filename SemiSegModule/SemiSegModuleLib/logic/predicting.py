"""Predictions for cases of a study: started, loaded into the scene one by one as they are done, cancelled.

>>> predicting = Predicting(study)                                      # doctest: +SKIP
>>> predicting.loaded.connect(lambda case: print(case.name))            # doctest: +SKIP
>>> predicting.start(predicting.waiting())                              # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..i18n import _
from ..processes.prediction_process import PredictionProcess
from ..scene.case import Case, CaseError
from ..scene.identity import check_identity, new_identifier, write_identity
from ..scene.mask_files import read_labels
from ..scene.names_list import write_names
from ..scene.predictions import find_prediction, load_part, load_prediction
from ..scene.records import ORIENTATIONS, State
from ..scene.region import shown_place, slab
from ..scene.training_files import Progress, export_cases
from ..scene.volumes import VoxelBox
from ..signal import Signal
from .child_work import ChildWork
from .model_card import read_card, which
from .model_fit import misfits
from .refinement_files import keep_base
from .storage import only_if_started
from .study import Study


class Predicting(ChildWork):
    """Predictions come into the scene one by one; what is done stays, also on disk."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.model: Path | None = None  # with which it predicts
        self._identifier = self._which = ""  # of the prediction that runs, and of its model
        self.part: VoxelBox | None = None  # of the scan, which it predicts alone
        self._replaceable: set[str] = set()  # IDs of cases whose changed prediction somebody gave up
        self.started = Signal()  # the process
        self.loaded = Signal()  # the case whose prediction is in the scene now

    def waiting(self) -> list[Case]:
        """Every case without a finished annotation."""
        return self.study.cases.in_state(State.UNLABELLED, State.PREDICTED)

    def edited(self, cases: Iterable[Case]) -> list[Case]:
        """Those of the cases whose prediction somebody has changed: ask before they are predicted again."""
        return [case for case in cases if case.prediction_edited]

    def misfits(self) -> list[str]:
        """Why the model in use may not suit the scans that wait; empty when nothing speaks against it."""
        study, model = self.study, self.study.model
        if model is None:
            return []
        return misfits(read_card(model), study.labels_of(model), self.waiting(), study.cases.labels)

    def start(
        self, cases: Sequence[Case], progress: Progress | None = None, part: VoxelBox | None = None
    ) -> PredictionProcess:
        """Write the scans and start the child process; annotations are never touched.

        :param part: predict these voxels of one scan alone; what an earlier prediction says of the others stays
        :raises SemiSegError: no model, no case, or a scan cannot be exported
        :raises OSError: the interpreter cannot be started, or the folder cannot be written
        """
        if self.study.model is None or not cases:
            raise CaseError(_("A model and at least one scan are needed."))
        if part is not None and len(cases) != 1:
            raise CaseError(_("A part is predicted of one scan at a time."))
        self.cancel()
        self._identifier, self.part = new_identifier(), part
        self._replaceable = {case.id for case in self.edited(cases)}
        folder = self.study.new_folder("predictions", self._identifier)
        with only_if_started(folder):
            export = export_cases(
                self.study.cases,
                folder / "scans",
                cases,
                progress=progress,
                pool=self.study.pool,
                whole=part is not None,
            )
            self.process = PredictionProcess(folder / "masks")
            write_names(self.study.folder, {case.file_name: case for case in cases})
            write_identity(
                self.process.output, self.study.cases.identifier, cases, export.places, prediction=self._identifier
            )
            options = ["--probabilities", "--format", "seg.nrrd", "--overwrite"]
            options += ["--sdm"] if part is None else ["--box", ",".join(map(str, (*part.start, *part.size)))]
            options += ["--device", self.study.parameters.device.value]
            self.model, self._which = self.study.model, which(self.study.model)
            self.study.agree_on_words(self.model)
            self.process.start(self.model, export.images, len(cases), options)
        self.started.emit(self.process)
        self._watch()
        return self.process

    @staticmethod
    def part_of(cases: Sequence[Case], name: str, thickness_mm: float = 0.0) -> VoxelBox:
        """The part of a scan that goes by a name: 'box', the region of interest; 'axial', 'coronal', 'sagittal', the
        slice that is shown, with what is around it up to a thickness. Raises SemiSegError where there is none."""
        if len(cases) != 1 or name not in ("box", *ORIENTATIONS):
            raise CaseError(_("The part of one scan is one of box, {names}.").format(names=", ".join(ORIENTATIONS)))
        (case,) = cases
        if name != "box":
            return slab(case.volume, name, shown_place(case.volume, name), thickness_mm)
        if case.region is None:
            raise CaseError(_("{name} has no box: make one in section 2.").format(name=case.name))
        return case.box()

    def _keep(self, report: str) -> None:
        case = self.study.cases.by_file_name(report)
        files = find_prediction(self.process.output, report)
        if case is not None and files is not None:  # the case may have been removed meanwhile
            if case.id not in self._replaceable and case.prediction_edited:
                raise CaseError(
                    _("The prediction of {name} was changed meanwhile and stays: predict again to replace it.").format(
                        name=case.name
                    )
                )
            place = check_identity(self.process.output, self.study.cases.identifier, case, self._identifier)
            maps = files.sdms, files.probabilities
            keep_base(self.study, case)
            table, labels = self.study.cases, self.study.meant_by(self.model, read_labels(files.mask) or [])
            if self.part is None:
                load_prediction(table, case, files.mask, *maps, labels, self._which, place)
            else:
                load_part(table, case, files.mask, files.probabilities, labels, place)
            self.study.select_first([case])
            self.loaded.emit(case)
