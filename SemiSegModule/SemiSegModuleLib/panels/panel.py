"""The panel: its five sections around one piece of work."""

from __future__ import annotations

from typing import Any

from ..logic.workbench import Workbench
from .annotate_panel import AnnotatePanel
from .busy import Busy
from .data_panel import DataPanel
from .export_panel import ExportPanel
from .history_panel import HistoryPanel
from .loop_panel import LoopPanel
from .results_panel import ResultsPanel
from .review_panel import ReviewPanel
from .slices_panel import SlicesPanel
from .start_panel import StartPanel
from .train_panel import TrainPanel


class Panel:
    """All sections; the module's widget tells it about scene and settings."""

    def __init__(self, ui: Any, logic: Workbench) -> None:
        sections = [
            ui.dataCollapsibleButton,
            ui.annotateCollapsibleButton,
            ui.trainCollapsibleButton,
            ui.resultsCollapsibleButton,
            ui.exportCollapsibleButton,
        ]
        self.logic = logic
        everything = [ui.startWidget, *sections]
        self.busy = Busy(ui.busyWidget, ui.busyLabel, ui.busyProgressBar, ui.busyCancelButton, everything)
        self.data = DataPanel(ui, logic, self.busy)
        self.annotate = AnnotatePanel(ui, logic.study, logic.stopwatch)
        self.slices = SlicesPanel(ui, logic.study)
        self.loop = LoopPanel(ui, logic, self.busy)
        self.annotate.drawn.connect(self.slices.update)
        self.annotate.drawn.connect(self.loop.update)
        self.train = TrainPanel(ui, logic, self.busy)
        self.history = HistoryPanel(ui, logic)
        self.results = ResultsPanel(ui, logic, self.busy, self.annotate.show)
        self.export = ExportPanel(ui, logic.study, self.busy)
        self.start = StartPanel(ui, logic)
        self.review = ReviewPanel(ui, logic, everything, self.annotate.show)
        self.review.shown.connect(self.annotate.take_up_or_put_down)

    def adopt(self, parameters: Any) -> None:
        """Work with these settings; None while a scene closes."""
        if parameters is not None:
            self.annotate.use_scene()
        self.logic.adopt(parameters)

    def sceneClosed(self) -> None:
        """What belonged to the scene is gone."""
        self.busy.cancel()
        for section in (self.data, self.annotate, self.loop, self.history, self.results, self.export):
            section.scene_closed()
        self.review.end()
        self.logic.scene_closed()

    def close(self) -> None:
        """The window is going."""
        self.review.close()
        self.annotate.close()
        self.data.close()

    def enter(self) -> None:
        """The module is shown."""
        self.annotate.enter()

    def leave(self) -> None:
        """Another module is shown."""
        self.review.end()
        self.annotate.leave()
