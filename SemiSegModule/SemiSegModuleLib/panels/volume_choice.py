"""The choice of a scan, or of frames of a sequence, that is loaded in Slicer and not in the study yet."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..i18n import _
from ..logic.study import Study
from ..scene import sequences
from ..scene.case import Case, CaseError

_SHOWN = "shown:"  # before the ID of a sequence of which the frame that is shown is meant
_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndImportEvent", "EndCloseEvent", "EndBatchProcessEvent")


class VolumeChoice:
    """Fills a combo box with what can be a case.

    Slicer's own box of nodes would list label maps, and the distance and probability maps of every prediction, too. A
    sequence is there twice, for all of its frames and for the one that is shown.
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

    def add(self) -> list[Case]:
        """Add what is chosen to the study; raises CaseError where nothing is."""
        chosen = self._box.itemData(self._box.currentIndex) or ""
        node = self._scene.GetNodeByID(chosen.removeprefix(_SHOWN)) if chosen else None
        if node is None:
            raise CaseError(_("Choose a scan first."))
        if not chosen.startswith(_SHOWN):
            return self._study.cases.add_volumes([node])
        frame = sequences.shown_frame(node)
        if frame is None:
            raise CaseError(_("No frame of '{name}' is shown.").format(name=node.GetName()))
        return self._study.cases.add_frames(node, [frame])

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
        cases = self._study.cases
        for number, node in enumerate(cases.candidates(), start=1):
            self._box.addItem(self._name(node, _("Volume {number}"), number), node.GetID())
        for number, node in enumerate(cases.sequence_candidates(), start=1):
            name = self._name(node, _("Sequence {number}"), number)
            text = _("{name}: all {count} frames").format(name=name, count=sequences.frame_count(node))
            self._box.addItem(text, node.GetID())
            if sequences.shown_frame(node) is not None:
                self._box.addItem(_("{name}: the frame shown").format(name=name), _SHOWN + node.GetID())
        if not self._box.count:
            self._box.addItem(_("no other scan is loaded"), "")
        self._box.currentIndex = max(0, self._box.findData(chosen)) if chosen else 0

    def _name(self, node: Any, hidden: str, number: int) -> str:
        return hidden.format(number=number) if self._study.cases.names_hidden else node.GetName()

    def _changed(self, *_caller_and_event: Any) -> None:
        self._timer.start()
