"""Keeps up with the scene: tells when cases come, go or look different, whoever changed them.

>>> watch = Watch(StudyNodes(slicer.mrmlScene))                         # doctest: +SKIP
>>> watch.case_changed.connect(lambda case: print(case.name))           # doctest: +SKIP
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import slicer
import vtk

from SemiSegLib.errors import SemiSegError

from ..signal import Signal
from .case import PREDICTION_MARK, ROLE, Case
from .merging import Merging
from .study_nodes import StudyNodes
from .volumes import VoxelBox


class Watch:
    """`changed` tells, without content, that cases came or went; `case_changed` names the one case that is different.

    Each looks only at what may have changed: a study of hundreds of scans stays quick.
    """

    def __init__(self, nodes: StudyNodes) -> None:
        self.changed = Signal()
        self.case_changed = Signal()
        self._nodes, self._scene = nodes, nodes.scene
        self._observed: dict[str, tuple] = {}  # node ID: node, tags of the observers
        self._owners: dict[str, str] = {}  # node ID: ID of the case that it belongs to
        self._last_seen: dict[str, tuple] = {}  # case ID: what was seen of it
        self._pauses = 0
        self._touched: set[str] | None = set()  # IDs of cases that changed during a pause; None: look at all
        self._merging = Merging(nodes)
        self._scene_tags = self._observe_scene()

    def close(self) -> None:
        """Stop observing."""
        for tag in self._scene_tags:
            self._scene.RemoveObserver(tag)
        for identifier in list(self._observed):
            self._forget(identifier)
        self._scene_tags = []
        self.changed.clear()
        self.case_changed.clear()

    def refresh(self) -> None:
        """Look at everything anew and tell what is different."""
        for key in [key for key, (node, _) in self._observed.items() if self._scene.GetNodeByID(key) is not node]:
            self._forget(key)  # a deleted scan must not stay in memory
        known, self._owners = set(self._last_seen), {}
        seen = {case.id: self._see(case) for case in self._nodes.cases}
        seen = {identifier: look for identifier, look in seen.items() if look is not None}
        before, self._last_seen = self._last_seen, seen
        if set(seen) != known:
            self.changed.emit()
            return
        for identifier in [key for key in seen if seen[key] != before[key]]:
            self.case_changed.emit(Case(self._scene.GetNodeByID(identifier)))

    def look_at(self, identifier: str) -> None:
        """Look at one case anew, now or at the end of a pause, and tell if it came, went or changed."""
        if self._busy():
            if self._touched is not None:
                self._touched.add(identifier)
            return
        node, before = self._scene.GetNodeByID(identifier), self._last_seen.get(identifier)
        if node is None and before is None:
            return
        look = self._see(Case(node)) if node is not None else None
        if look == before:
            return
        if look is None:
            self._last_seen.pop(identifier, None)
        else:
            self._last_seen[identifier] = look
        if look is None or before is None:
            self.changed.emit()
        else:
            self.case_changed.emit(Case(node))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Make several changes and look at what they concern once, at the end."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._busy():
                touched, self._touched = self._touched, set()
                if touched is None or len(touched) > 1:
                    self.refresh()
                else:
                    for identifier in touched:
                        self.look_at(identifier)

    def _see(self, case: Case) -> tuple | None:
        """What there is to see of a case; None, and the case leaves the table, when its scan was deleted."""
        if case.volume is None:
            logging.info("SemiSeg: the scan of a case was deleted; the case leaves the table.")
            self._last_seen.pop(case.id, None)
            for node in (case.annotation, case.prediction, case.region):  # they would lie over the next scan
                if node is not None and node.GetDisplayNode() is not None:
                    node.GetDisplayNode().SetVisibility(False)
            maps = case.all_maps()
            self._scene.RemoveNode(case.node)
            for node in maps:  # they would stay in front of the next scan
                self._scene.RemoveNode(node)
            return None
        case.forget_deleted()
        for node in (case.node, case.volume, case.region):
            if node is not None:
                self._observe(node, case.id)
        nodes = tuple(node.GetID() for node in case.nodes())
        self._owners.update(dict.fromkeys(nodes, case.id))
        drawn = case.has_drawing, case.began_as_prediction
        figures = case.confidence, case.dsc, case.quality, case.suggestion, case.slice_plan
        return case.name, case.state, case.partial, *figures, nodes, drawn, _part_of(case)

    def _observe(self, node, identifier: str) -> None:
        if node.GetID() not in self._observed:
            events = [vtk.vtkCommand.ModifiedEvent]
            if node.IsA("vtkMRMLTransformableNode"):  # a scan or region that is moved by its transform
                events.append(slicer.vtkMRMLTransformableNode.TransformModifiedEvent)
            tags = [node.AddObserver(event, lambda *_: self.look_at(identifier)) for event in events]
            self._observed[node.GetID()] = node, tags

    def _forget(self, identifier: str) -> None:
        node, tags = self._observed.pop(identifier)
        for tag in tags:
            node.RemoveObserver(tag)

    def _observe_scene(self) -> list[int]:
        """Cases, and nodes of cases, that come and go one by one, and whole scenes."""

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def added(_scene, _event, node) -> None:
            if node.GetAttribute(ROLE) == "case":
                self.look_at(node.GetID())

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_scene, _event, node) -> None:
            identifier = node.GetID()
            if identifier in self._observed and self._observed[identifier][0] is node:
                self._forget(identifier)
            owner = identifier if identifier in self._last_seen else self._owners.pop(identifier, None)
            case = self._nodes.case(owner or "")
            if case is not None and node.GetAttribute(PREDICTION_MARK):  # somebody deleted it, and what is known of it
                case.confidence = case.dsc = case.quality = None
            if owner is not None:
                self.look_at(owner)

        scene = self._scene
        handlers = {
            "NodeAddedEvent": added,
            "NodeRemovedEvent": removed,
            "StartImportEvent": lambda *_: self._merging.begin(),
            "EndImportEvent": lambda *_: self._import_ends(),
            "EndBatchProcessEvent": lambda *_: self._scene_changed(),
            "EndCloseEvent": lambda *_: self._scene_changed(),
        }
        return [scene.AddObserver(getattr(scene, name), handler) for name, handler in handlers.items()]

    def _import_ends(self) -> None:
        self._merging.end()
        self._scene_changed()

    def _scene_changed(self) -> None:
        if self._busy():
            self._touched = None
        else:
            self.refresh()

    def _busy(self) -> bool:
        scene = self._scene
        return bool(self._pauses or scene.IsBatchProcessing() or scene.IsImporting() or scene.IsClosing())


def _part_of(case: Case) -> VoxelBox | str | None:
    """What of a scan a region leaves, or why that is not known; None without a region."""
    try:
        return case.box() if case.region is not None else None
    except SemiSegError as error:
        return str(error)
