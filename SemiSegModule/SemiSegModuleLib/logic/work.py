"""What the parts of the panel share: settings, cases, the case at hand, folders, and word of every change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import qt
import slicer

from SemiSegLib.config import Label
from SemiSegLib.models import ModelError, named_models
from SemiSegLib.presets import PRESETS

from ..panels.busy import Busy
from ..scene.case import Case
from ..scene.case_table import CaseTable
from .model_card import read_card


class Work:
    """The state of the panel; what must survive is in the scene (parameter node, case table), nothing else is here."""

    def __init__(self, busy: Busy) -> None:
        self.busy = busy
        self.parameters: Any = None
        self.cases = CaseTable(slicer.mrmlScene)
        self.cases.on_change(self.changed)
        self._listeners: list[Callable[[], None]] = []

    def close(self) -> None:
        """Stop observing the scene."""
        self.cases.close()
        self._listeners.clear()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever cases, settings or the case at hand are different."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell everybody; nobody is told while there are no settings (a scene is closing)."""
        if self.parameters is not None:
            for listener in list(self._listeners):
                listener()

    def adopt(self, parameters: Any) -> None:
        """Work with the parameter node of the scene as it is now; None while a scene closes."""
        self.parameters = parameters
        if parameters is not None:
            self.cases.refresh()
            if not self.cases.labels:
                self.use_labels_of_task()
            self.changed()

    def use_labels_of_task(self) -> None:
        """Labels of the chosen preset; one that names none leaves those that are there, or begins with one."""
        preset = PRESETS[self.parameters.task.value].get("data.labels")
        if preset:
            self.cases.labels = preset
        elif not self.cases.labels:
            self.cases.labels = [Label(1, "structure", (128, 174, 128))]

    @contextmanager
    def labels_from_data(self) -> Iterator[None]:
        """While the first scans are loaded, a task without labels of its own takes over those of the data."""
        free = "data.labels" not in PRESETS[self.parameters.task.value]
        if free and not len(self.cases):
            self.cases.labels = []
        try:
            yield
        finally:
            if not self.cases.labels:  # those of a model that was loaded stay
                self.use_labels_of_task()

    @property
    def case(self) -> Case | None:
        """The case at hand."""
        identifier = self.parameters.currentCase if self.parameters else ""
        return next((case for case in self.cases if case.id == identifier), None)

    @case.setter
    def case(self, case: Case | None) -> None:
        identifier = case.id if case else ""
        if self.parameters.currentCase != identifier:
            self.parameters.currentCase = identifier
            self.changed()

    @property
    def study(self) -> Path:
        """The folder of everything that is not in the scene."""
        return Path(self.parameters.studyFolder)

    def new_run_folder(self) -> Path:
        """A folder for a new training, not there yet."""
        name = datetime.now().strftime("training-%Y%m%d-%H%M%S")
        path, number = self.study / name, 1
        while path.exists():
            number += 1
            path = self.study / f"{name}-{number}"
        return path

    @property
    def model(self) -> Path | None:
        """The model in use: loaded, chosen by name, or that of the last training; None when there is no such file.

        A model that comes with SemiSeg is kept by name: it lies elsewhere in another Slicer.
        """
        text = self.parameters.modelFile
        return Path(text) if Path(text).is_file() else named_models().get(text)

    def model_fits(self, path: Path) -> bool:
        """The model segments the labels of this study: only then is it used, or learnt on from, unasked."""
        try:
            labels = read_card(path).settings.data.labels
        except ModelError:
            return False
        return [label.name for label in labels] == [label.name for label in self.cases.labels]


def setting(name: str, default: str = "") -> str:
    """A setting of this computer, not of a scene."""
    return str(qt.QSettings().value(f"SemiSeg/{name}", default) or default)


def set_setting(name: str, value: str) -> None:
    """Remember a setting of this computer."""
    qt.QSettings().setValue(f"SemiSeg/{name}", value)


def default_study_folder() -> Path:
    """Where a first study goes: Documents/SemiSeg."""
    documents = qt.QStandardPaths.writableLocation(qt.QStandardPaths.DocumentsLocation)
    return Path(documents or Path.home()) / "SemiSeg"
