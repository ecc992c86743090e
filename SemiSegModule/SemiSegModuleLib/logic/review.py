"""The review of predicted cases: in an order, stepped through, accepted, corrected; steps can be taken back.

>>> review = Review(study)                                              # doctest: +SKIP
>>> review.order = "expected"                                           # doctest: +SKIP
>>> review.begin()                                                      # doctest: +SKIP
>>> review.accept()                                                     # doctest: +SKIP
>>> review.undo.undo()                                                  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..i18n import _
from ..scene.annotations import accept_prediction
from ..scene.case import Case, CaseError
from ..scene.records import State
from ..scene.undo import drawn_since, keep_annotation, keep_removed
from ..signal import Signal
from .study import Study
from .undo import Undo

_UNKNOWN = 2.0  # sorts behind every score


def _known(score: float | None) -> float:
    return _UNKNOWN if score is None else score


ORDERS: dict[str, Callable[[Case], Any]] = {
    "name": lambda case: (case.name.casefold(), case.number),
    "state": lambda case: (case.state.value, case.number),
    "expected": lambda case: (_known(case.expected_dsc), _known(case.confidence), case.number),
    "confidence": lambda case: (_known(case.confidence), case.number),
    "dsc": lambda case: (_known(case.dsc), case.number),
}


class Review:
    """Works on the case at hand of a study.

    `order` is a key of ORDERS, and `descending` turns it round; the order is kept until `sort` is called again, so that
    no row runs away while somebody works on it.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.undo = Undo()
        self.sorted = Signal()
        self.order, self.descending = "expected", False  # where nothing is expected, by confidence
        self._ids: list[str] = []

    # ---- the order -------------------------------------------------------------------------------------------

    @property
    def cases(self) -> list[Case]:
        """Predicted cases in the order of the review."""
        found = {case.id: case for case in self.study.cases if case.prediction is not None and not case.excluded}
        known = [found.pop(identifier) for identifier in self._ids if identifier in found]
        return [*known, *found.values()]

    def sort(self, order: str = "", descending: bool | None = None) -> None:
        """Put the cases in order anew; without arguments as before."""
        self.order = order or self.order
        self.descending = self.descending if descending is None else descending
        cases = sorted(self.cases, key=ORDERS[self.order], reverse=self.descending)
        self._ids = [case.id for case in cases]
        self.sorted.emit()

    def begin(self) -> Case | None:
        """Put the cases in order and take the first that nobody has looked at to hand."""
        self.sort()
        self.study.case = next(iter(self.open()), next(iter(self.cases), None))
        return self.study.case

    def open(self) -> list[Case]:
        """Cases that were neither accepted nor corrected yet."""
        return [case for case in self.cases if case.state is State.PREDICTED]

    def step(self, step: int = 1) -> Case | None:
        """Take the next case to hand, or the one before (-1); round the end. All cases where none is predicted."""
        cases = self.cases or self.study.cases.cases
        if not cases:
            return None
        case = self.study.case
        self.study.case = cases[(cases.index(case) + step) % len(cases)] if case in cases else cases[0]
        return self.study.case

    # ---- decisions -------------------------------------------------------------------------------------------

    def accept(self, overwrite: bool = False) -> None:
        """The prediction of the case at hand is right as it is; raises CaseError where it would replace a drawing."""
        self._take_over(done=True, overwrite=overwrite)

    def accept_and_go_on(self, overwrite: bool = False) -> Case | None:
        """The same, then take the next case that nobody has looked at to hand; None when that was the last."""
        self.accept(overwrite)
        cases, case = self.cases, self.study.case
        start = cases.index(case) if case in cases else 0
        following = [other for other in [*cases[start:], *cases[:start]] if other.state is State.PREDICTED]
        if following:
            self.study.case = following[0]
        return following[0] if following else None

    def correct(self, overwrite: bool = False) -> None:
        """Make a copy of the prediction to be edited; it counts once it is marked as done."""
        self._take_over(done=False, overwrite=overwrite)

    def leave_out(self, case: Case, out: bool = True) -> None:
        """Take a case out of training and prediction, or in again."""
        before = case.excluded
        case.excluded = out

        def back() -> Case:
            case.excluded = before
            return case

        self.undo.add(_("leaving out {name}").format(name=case.name), back)

    def remove(self, case: Case) -> None:
        """Take a case off the table, with its prediction and region; another is at hand then."""
        following = self.study.cases.next(case)
        text, back = _("removing {name}").format(name=case.name), keep_removed(self.study.cases, case)
        self.study.cases.remove(case)
        self.study.case = following if following != case else None
        self.undo.add(text, back)

    def take_back(self) -> None:
        """Undo the last of these steps and show the case that it concerned."""
        case = self.undo.undo()
        if case in self.study.cases.cases:  # its scan may have been deleted since
            self.study.case = case

    def _take_over(self, done: bool, overwrite: bool) -> None:
        case = self.study.case
        if case is None:
            raise CaseError(_("Select a scan first."))
        back = keep_annotation(self.study.cases, case)
        accept_prediction(self.study.cases, case, overwrite=overwrite, done=done)
        text = _("accepting {name}") if done else _("correcting {name}")
        self.undo.add(text.format(name=case.name), back, drawn_since(case))
