"""The review of one predicted case after the other: accepted, corrected, stepped through."""

from __future__ import annotations

from ..scene.annotations import accept_prediction
from ..scene.case import Case
from .study import Study


class Review:
    """Works on the case at hand of a study."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def step(self, step: int = 1) -> Case | None:
        """Take the next case to hand, or the one before (-1); round the end."""
        self.study.case = self.study.cases.next(self.study.case, step)
        return self.study.case

    def accept(self, overwrite: bool = False) -> None:
        """The prediction of the case at hand is right as it is; raises CaseError where it would replace a drawing."""
        self._take_over(done=True, overwrite=overwrite)

    def correct(self, overwrite: bool = False) -> None:
        """Make a copy of the prediction to be edited; it counts once it is marked as done."""
        self._take_over(done=False, overwrite=overwrite)

    def _take_over(self, done: bool, overwrite: bool) -> None:
        accept_prediction(self.study.cases, self.study.case, overwrite=overwrite, done=done)
