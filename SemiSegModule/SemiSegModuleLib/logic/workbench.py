"""Everything that can be done with a study, in one hand: what the panels and the scripting interface work with."""

from __future__ import annotations

from typing import Any

from ..scene.annotations import make_annotation
from ..scene.case import Case
from .installation import Installation
from .predicting import Predicting
from .review import Review
from .storage import Storage, storage_of
from .study import Study
from .training import Training


class Workbench:
    """A study with its training, predictions and review; nothing here needs a panel."""

    def __init__(self) -> None:
        self.study = Study()
        self.installation = Installation()
        self.training = Training(self.study)
        self.predicting = Predicting(self.study)
        self.review = Review(self.study)

    def adopt(self, parameters: Any) -> None:
        """Work with these settings of the scene; None while a scene closes."""
        self.study.adopt(parameters)

    @property
    def active(self) -> bool:
        """A training or a prediction runs."""
        return self.training.active or self.predicting.active

    def annotate(self, case: Case) -> Any:
        """Make the segments of the task for a case, to be drawn; returns the segmentation node."""
        return make_annotation(self.study.cases, case)

    def storage(self) -> Storage:
        """What the study takes on the disk."""
        running = [self.training.process.run.path] if self.training.active else []
        running += [self.predicting.process.output] if self.predicting.active else []
        return storage_of(self.study.folder, running)

    def scene_closed(self) -> None:
        """What belonged to the scene is gone; a training goes on."""
        self.study.adopt(None)
        self.training.scene_closed()
        self.review.undo.clear()
        self.predicting.cancel()

    def close(self) -> None:
        """Stop looking at scene and processes; trainings go on."""
        self.training.close()
        self.predicting.close()
        self.installation.close()
        self.study.close()
