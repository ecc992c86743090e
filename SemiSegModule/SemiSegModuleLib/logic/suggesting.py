"""Which scans, and which of their slices, to annotate next: asked of a child process.

>>> suggesting = Suggesting(study)                                      # doctest: +SKIP
>>> suggesting.ended.connect(lambda process: print(suggesting.cases()))  # doctest: +SKIP
>>> suggesting.start(budget=3, slices=5)                                # doctest: +SKIP

With a model the scans are looked at with it; before the first training, they are chosen by what they look like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..i18n import _
from ..processes.command_process import CommandProcess
from ..scene.case import Case, CaseError
from ..scene.identity import check_identity
from ..scene.records import Suggestion
from ..scene.training_files import Progress, export_cases
from ..scene.volumes import VoxelBox
from .child_work import ChildWork
from .storage import only_if_started
from .study import Study

BUDGET, SLICES = 3, 5


class Suggesting(ChildWork):
    """Its result is kept in the cases."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._data = Path()
        self._boxes: dict[str, VoxelBox] = {}  # of the scans, by the stems of their files, as they were written

    def waiting(self) -> list[Case]:
        """Scans that could be suggested: neither done nor left out."""
        return [case for case in self.study.cases if not case.done and not case.excluded]

    def cases(self) -> list[Case]:
        """Scans that were suggested and are not done since, the first to annotate first."""
        found = [(case.suggestion.rank, case) for case in self.study.cases if case.suggestion is not None]
        return [case for _rank, case in sorted(found, key=lambda entry: entry[0])]

    def start(self, budget: int = BUDGET, slices: int = SLICES, progress: Progress | None = None) -> CommandProcess:
        """Write the scans and finished masks as they are now, and start the child process.

        :raises SemiSegError: every scan is annotated, or one cannot be exported
        :raises OSError: the interpreter cannot be started, or the folder cannot be written
        """
        table, model = self.study.cases, self.study.model
        values = [label.value for label in table.labels]  # of the masks that are written
        chosen = [case for case in table if not case.excluded]
        bare = self.waiting()
        if not bare:
            raise CaseError(_("Every scan is annotated: there is nothing left to suggest."))
        self.cancel()
        folder = self.study.new_folder("suggestions")
        with only_if_started(folder):
            self._boxes = {case.file_name: case.box() for case in chosen}
            self._data = export_cases(table, folder / "data", chosen, progress=progress, pool=self.study.pool).folder
            arguments = ["--data", str(self._data), "--budget", str(budget), "--slices", str(slices)]
            if model is not None and self.study.model_fits(model) and self.study.model_values(model) == values:
                arguments += ["--run", str(model), "--device", self.study.parameters.device.value]
            self.process = CommandProcess("SemiSegLib.suggest", folder)
            self.process.start([*arguments, "--output", str(folder / "suggestions.json")], len(bare))
        self._watch()
        return self.process

    def _keep(self, report: dict[str, Any]) -> None:
        if report["event"] == "suggested":
            self._suggest(report["suggestions"])

    def _suggest(self, entries: list[dict[str, Any]]) -> None:
        table = self.study.cases
        with table.paused():
            for case in table:
                case.suggestion = None
            for rank, entry in enumerate(entries, start=1):
                case = table.by_file_name(entry["name"])
                if case is not None:  # it may have been removed meanwhile
                    check_identity(self._data, table.identifier, case)
                    case.suggestion = _suggestion(rank, entry, self._boxes[case.file_name])


def _suggestion(rank: int, entry: dict[str, Any], written: VoxelBox) -> Suggestion:
    """Slices of the file are counted from the region of interest, which is all that was written."""
    places = entry["slices"]
    axis = places[0]["axis"] if places else 2
    first = written.start[axis]
    return Suggestion(rank, entry["uncertainty"], axis, tuple(first + place["index"] for place in places))
