"""The choice of a scan that is loaded in Slicer and not in the study yet."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..i18n import _
from ..logic.study import Study

_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndImportEvent", "EndCloseEvent", "EndBatchProcessEvent")


class VolumeChoice:
    """Fills a combo box with what can be a case.

    Slicer's own box of nodes would list label maps, and the distance and probability maps of every prediction, too.
    """

    def __init__(self, box: Any, study: Study) -> None:
        self._box, self._study = box, study
        self._timer = qt.QTimer(box)  # once for many nodes that come together
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self.update)
        scene = slicer.mrmlScene
        self._scene, self._tags = scene, [scene.AddObserver(getattr(scene, name), self._changed) for name in _EVENTS]
        study.opened.connect(self.update)
        study.cases_changed.connect(self.update)

    def close(self) -> None:
        """Stop looking at the scene."""
        self._timer.stop()
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def current(self) -> Any:
        """The chosen volume node, or None."""
        identifier = self._box.itemData(self._box.currentIndex)
        return self._scene.GetNodeByID(identifier) if identifier else None

    def choose(self, node: Any) -> None:
        """Choose this volume."""
        self.update()
        self._box.currentIndex = self._box.findData(node.GetID())

    def update(self) -> None:
        """Show what there is, and keep the choice where it still is one."""
        if self._study.parameters is None or self._scene.IsBatchProcessing():
            return
        chosen = self._box.itemData(self._box.currentIndex)
        self._box.clear()
        nodes = self._study.cases.candidates()
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        if not nodes:
            self._box.addItem(_("no other scan is loaded"), "")
        self._box.currentIndex = max(0, self._box.findData(chosen)) if chosen else 0

    def _changed(self, *_caller_and_event: Any) -> None:
        self._timer.start()
