"""The panel: its five sections around one piece of work."""

from __future__ import annotations

from typing import Any

from ..logic.work import Work
from .annotate_panel import AnnotatePanel
from .busy import Busy
from .data_panel import DataPanel
from .export_panel import ExportPanel
from .results_panel import ResultsPanel
from .train_panel import TrainPanel


class Panel:
    """All sections; the module's widget tells it about scene and settings."""

    def __init__(self, ui: Any) -> None:
        sections = [
            ui.dataCollapsibleButton,
            ui.annotateCollapsibleButton,
            ui.trainCollapsibleButton,
            ui.resultsCollapsibleButton,
            ui.exportCollapsibleButton,
        ]
        busy = Busy(ui.busyWidget, ui.busyLabel, ui.busyProgressBar, ui.busyCancelButton, sections)
        self.work = Work(busy)
        self.data = DataPanel(ui, self.work)
        self.annotate = AnnotatePanel(ui, self.work)
        self.train = TrainPanel(ui, self.work)
        self.results = ResultsPanel(ui, self.work)
        self.export = ExportPanel(ui, self.work)

    def adopt(self, parameters: Any) -> None:
        """Work with these settings; None while a scene closes."""
        if parameters is not None:
            self.annotate.use_scene()
        self.work.adopt(parameters)
        if parameters is not None:
            self.train.scene_opened()
            self.train.find_again()

    def sceneClosed(self) -> None:
        """What belonged to the scene is gone."""
        self.annotate.leave()
        self.train.scene_closed()
        self.results.cancel()

    def enter(self) -> None:
        """The module is shown."""
        self.annotate.enter()

    def leave(self) -> None:
        """Another module is shown."""
        self.annotate.leave()

    def close(self) -> None:
        """The window is going; trainings go on."""
        self.train.close()
        self.results.close()
        self.work.close()
