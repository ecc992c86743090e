"""The rounds of a study: what was annotated for each training, how long that took, and what it brought.

>>> rounds = Rounds(study, training, judging)                           # doctest: +SKIP
>>> for number, done in enumerate(rounds.all(), start=1):               # doctest: +SKIP
...     print(number, done.minutes, done.drawn, done.validation_dsc)

They are kept in the scene. A round begins with the start of a training; its score is known when that ends, and what is
expected of its masks when they are predicted.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..processes.training_process import TrainingProcess
from ..scene.case import Case
from ..signal import Signal
from .judging import Judging
from .study import Study
from .training import Training


@dataclasses.dataclass(frozen=True)
class Round:
    """One training with what it learnt from.

    :param run: name of the training's folder
    :param seconds: spent by people on all scans of the study until it began
    :param cases: by the stem of each annotated scan's files, how its mask came about (drawn, corrected, accepted) and
        the seconds spent on it
    :param validation_dsc: at its end, on scans kept aside; None without any
    :param expected_dsc: mean of its predictions, before anybody looked; None when that is not known
    """

    run: str
    started: str
    seconds: float
    cases: dict[str, dict[str, Any]]
    state: str = "starting"
    validation_dsc: float | None = None
    expected_dsc: float | None = None

    @property
    def minutes(self) -> float:
        """Spent by people until it began."""
        return self.seconds / 60

    def count(self, how: str) -> int:
        """Masks that came about in this way: drawn, corrected or accepted."""
        return sum(case["how"] == how for case in self.cases.values())


class Rounds:
    """Listens to trainings and to estimates of quality; `changed` tells that a round is new or has a score."""

    def __init__(self, study: Study, training: Training, judging: Judging) -> None:
        self._study, self._judging = study, judging
        self.changed = Signal()
        training.started.connect(self._begin)
        training.ended.connect(self._end)
        judging.ended.connect(self._expect)
        study.opened.connect(self.changed.emit)

    def all(self) -> list[Round]:
        """The rounds of the study, the first one first."""
        return [Round(**entry) for entry in self._study.cases.rounds]

    def _begin(self, process: TrainingProcess) -> None:
        cases = list(self._study.cases)
        annotated = {case.file_name: _annotation(case) for case in cases if case.state.trains_with_mask}
        seconds = sum(case.seconds for case in cases)
        started = datetime.now().isoformat(timespec="seconds")
        self._keep([*self.all(), Round(process.run.path.name, started, seconds, annotated)])

    def _end(self, process: TrainingProcess) -> None:
        scores = [event["dsc"] for event in process.run.history() if event["event"] == "validation"]
        last = scores[-1] if scores else None
        self._update(process.run.path, state=process.state, validation_dsc=last)

    def _expect(self, process: Any) -> None:
        """Mean of all masks that this model predicted, now or before."""
        model = self._judging.model
        judged = [case for case in self._study.cases if case.quality is not None and case.quality.model == str(model)]
        known = [case.expected_dsc for case in judged if case.expected_dsc is not None]
        if process.state == "finished" and known and model is not None:
            self._update(model.parent.parent, expected_dsc=float(np.mean(known)))

    def _update(self, run: Path, **change: Any) -> None:
        """Change the round of this training, if it is one of the study's."""
        rounds = self.all()
        if run.name in [each.run for each in rounds]:
            self._keep([dataclasses.replace(each, **change) if each.run == run.name else each for each in rounds])

    def _keep(self, rounds: list[Round]) -> None:
        self._study.cases.rounds = [dataclasses.asdict(each) for each in rounds]
        self.changed.emit()


def _annotation(case: Case) -> dict[str, Any]:
    return {"how": case.origin, "seconds": case.seconds, "slices": case.partial}
