"""Everything that can be done with a study, in one hand: what the panels and the scripting interface work with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..i18n import _
from ..scene.annotations import make_annotation
from ..scene.case import Case, CaseError
from ..scene.loading import add_files
from .installation import Installation
from .judging import Judging
from .predicting import Predicting
from .refining import Refining
from .review import Review
from .rounds import Rounds
from .stopwatch import Stopwatch
from .storage import Storage, storage_of
from .study import Study
from .suggesting import Suggesting
from .training import Training


def _several(scans: Any) -> list[Any]:
    """One scan, or several."""
    return [scans] if isinstance(scans, (str, Path)) or hasattr(scans, "GetID") else list(scans)


class Workbench:
    """A study with its training, predictions and review; nothing here needs a panel."""

    def __init__(self) -> None:
        self.study = Study()
        self.installation = Installation()
        self.training = Training(self.study)
        self.stopwatch = Stopwatch()
        self.training.started.connect(lambda process: self.stopwatch.touch())  # before its round is written down
        self.predicting = Predicting(self.study)
        self.judging = Judging(self.study, self.predicting)
        self.suggesting = Suggesting(self.study)
        self.review = Review(self.study)
        self.refining = Refining(self.study, self.review.undo)
        self.rounds = Rounds(self.study, self.training, self.judging)

    @property
    def _attached(self) -> tuple[Predicting | Judging | Suggesting | Refining, ...]:
        """What ends with the window, other than a training."""
        return self.predicting, self.judging, self.suggesting, self.refining

    def adopt(self, parameters: Any) -> None:
        """Work with these settings of the scene; None while a scene closes."""
        self.study.adopt(parameters)

    @property
    def active(self) -> bool:
        """Something runs in a child process."""
        return self.training.active or any(work.active for work in self._attached)

    @property
    def watched(self) -> bool:
        """Something runs in a child process, and its end will be heard of."""
        return self.training.watched or any(work.watched for work in self._attached)

    def add_cases(self, scans: Iterable[Any] | None = None, annotations: Iterable[Any] | None = None) -> list[Case]:
        """Add volume nodes of the scene and sequences with all their frames, all that there are when None, or files and
        folders; returns their cases.

        :param annotations: finished segmentation nodes, one for each volume node, None where there is none
        :raises CaseError: annotations for other things than volume nodes, or not one for each
        """
        study, chosen = self.study, None if scans is None else _several(scans)
        finished = list(annotations or ())
        nodes = chosen is not None and all(hasattr(scan, "GetID") for scan in chosen)
        if finished and (not nodes or len(finished) != len(chosen)):
            raise CaseError(_("Annotations are given one for each volume node, None where there is none."))
        if chosen is None or nodes:
            cases = study.cases.add_volumes(chosen)
            for node, annotation in zip(chosen or (), finished, strict=False):
                if annotation is not None:
                    study.cases.add_volume(node, annotation).mark_done()
        else:
            cases = add_files(study.cases, [Path(scan) for scan in chosen], take_labels=study.takes_labels_of_data)
        study.select_first(cases)
        return cases

    def annotate(self, case: Case) -> Any:
        """Make the segments of the task for a case, to be drawn; returns the segmentation node."""
        return make_annotation(self.study.cases, case)

    def storage(self) -> Storage:
        """What the study takes on the disk."""
        running = [self.training.process.run.path] if self.training.active else []
        running += [work.process.output for work in self._attached if work.active]
        return storage_of(self.study.folder, running)

    def scene_closed(self) -> None:
        """What belonged to the scene is gone; a training goes on."""
        self.study.adopt(None)
        self.training.scene_closed()
        self.review.undo.clear()
        self.stopwatch.end()
        for work in self._attached:
            work.scene_closed()

    def close(self) -> None:
        """Stop looking at scene and processes; trainings go on."""
        self.training.close()
        self.stopwatch.end()
        for work in self._attached:
            work.close()
        self.installation.close()
        self.study.close()
