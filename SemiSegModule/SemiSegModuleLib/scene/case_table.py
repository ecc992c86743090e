"""The cases of the work and the task's labels, kept in the scene, so that saving the scene saves the work.

>>> table = CaseTable(slicer.mrmlScene)                   # doctest: +SKIP
>>> table.labels = settings.data.labels                   # doctest: +SKIP
>>> case = table.add_volume(volume_node)                  # doctest: +SKIP
>>> table.changed.connect(panel.fill)                     # doctest: +SKIP
>>> table.case_changed.connect(panel.update_row)          # doctest: +SKIP

Each case is one hidden vtkMRMLScriptedModuleNode with references to its volume, annotation and prediction; what
concerns all of them (labels, run folder) is in one more. Nothing is kept in Python, so a scene that is loaded, or
whose nodes are deleted, is always shown as it is.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
import vtk

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from ..signal import Signal
from . import segments, sequences
from .case import PREDICTION_MARK, ROLE, Case, CaseError
from .identity import new_identifier
from .left_annotations import leave_annotation, left_annotation, rename_left, take_up_annotation, volume_of_left
from .merging import keep_meaning, tell_apart
from .records import State, labels_from_text, labels_to_text
from .scan import removed_frames, shown_name, stem_of, was_removed
from .volumes import VoxelBox


class CaseTable:
    """The cases of a scene, in the order they were added. Two tables of one scene show the same.

    `changed` tells, without content, that cases came or went; `case_changed` names the one case that is different;
    `labels_changed` that the task's labels are. Each looks only at what may have changed: a study of hundreds of scans
    stays quick.
    """

    def __init__(self, scene=None) -> None:
        self.scene = scene or slicer.mrmlScene
        self.changed = Signal()
        self.case_changed = Signal()
        self.labels_changed = Signal()
        self._observed: dict[str, tuple] = {}  # node ID: node, tags of the observers
        self._owners: dict[str, str] = {}  # node ID: ID of the case that it belongs to
        self._last_seen: dict[str, tuple] = {}  # case ID: what was seen of it
        self._pauses = 0
        self._giving_way: list[str] = []
        self._here_already: set[str] = set()  # IDs of cases and work before another scene is added
        self._touched: set[str] | None = set()  # IDs of cases that changed during a pause; None: look at all
        self._scene_tags = self._observe_scene()
        tell_apart(self)
        self.refresh()

    def close(self) -> None:
        """Stop observing; the cases stay in the scene."""
        for tag in self._scene_tags:
            self.scene.RemoveObserver(tag)
        for identifier in list(self._observed):
            self._forget(identifier)
        self._scene_tags = []
        for signal in (self.changed, self.case_changed, self.labels_changed):
            signal.clear()

    # ---- the cases -------------------------------------------------------------------------------------------

    @property
    def cases(self) -> list[Case]:
        """All cases, the excluded ones, too."""
        return [Case(node) for node in self._nodes("case")]

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self._nodes("case"))

    def in_state(self, *states: State) -> list[Case]:
        """Cases that are in one of the states."""
        return [case for case in self if case.state in states]

    def case_of(self, node) -> Case | None:
        """The case that a volume, annotation, prediction or map belongs to."""
        if node is None:
            return None
        return next((case for case in self if node.GetID() in [own.GetID() for own in case.nodes()]), None)

    def by_id(self, identifier: str) -> Case | None:
        """The case whose node has this ID."""
        node = self.scene.GetNodeByID(identifier) if identifier else None
        return Case(node) if node is not None and node.GetAttribute(ROLE) == "case" else None

    def by_file_name(self, file_name: str) -> Case | None:
        """The case whose files have this stem."""
        return next((case for case in self if case.file_name == file_name), None)

    def next(self, case: Case | None, step: int = 1) -> Case | None:
        """The case `step` rows further, round the end; the first when `case` is None or gone."""
        cases = self.cases
        if not cases:
            return None
        return cases[(cases.index(case) + step) % len(cases)] if case in cases else cases[0]

    def add_volume(self, volume_node, annotation=None) -> Case:
        """Add a scan of the scene, perhaps with its human annotation; one that is there already is returned. One that
        was in the table before has its annotation again, which nothing else here would lead to.

        :raises CaseError: not a scalar volume with voxels, or not a 3D scan, or the annotation is that of another scan
        """
        _check_volume(volume_node)
        if volume_node.GetID() in sequences.proxies(self.scene) and self.case_of(volume_node) is None:
            raise CaseError(
                f"'{volume_node.GetName()}' shows the frames of a sequence one after the other, so a mask would be of "
                "none of them: add the sequence, or the frame that is shown."
            )
        _check_annotation(annotation, volume_node, self.case_of(annotation))
        existing = self.case_of(volume_node)
        case = existing or self._new_case(volume_node)
        if annotation is not None:
            segments.make_voxels(annotation, volume_node)
            if case.annotation is not annotation:
                case.forget_annotation()
            case.annotation = annotation
        elif existing is None:
            self._give_annotation_back(case)
        self._look_at(case.id)
        return case

    def _give_annotation_back(self, case: Case) -> None:
        left = left_annotation(case.volume)
        if left is not None and self.case_of(left) is None:
            take_up_annotation(case, left, self.labels)

    def add_volumes(self, nodes: Iterable | None = None) -> list[Case]:
        """Add several scans, and all frames of sequences; without an argument everything of the scene that could be a
        case."""
        chosen = [*self.candidates(), *self.sequence_candidates()] if nodes is None else list(nodes)
        cases: list[Case] = []
        with self.paused():
            for node in chosen:
                frames = node is not None and node.IsA("vtkMRMLSequenceNode")
                cases += self.add_frames(node) if frames else [self.add_volume(node)]
        return list(dict.fromkeys(cases))

    def add_new_volumes(self) -> list[Case]:
        """Add everything of the scene that could be a case and never was one: what somebody took off the table stays
        off it, unless nothing else is there."""
        if not len(self):
            return self.add_volumes()
        with self.paused():
            cases = self.add_volumes(node for node in self.candidates() if not was_removed(node))
            for sequence in self.sequence_candidates():
                former = removed_frames(self.scene, sequences.series_of(sequence))
                cases += self.add_frames(sequence, set(range(sequences.frame_count(sequence))) - former.keys())
        return cases

    def add_frames(self, sequence, numbers: Iterable[int] | None = None) -> list[Case]:
        """Add frames of a sequence of volumes, each as a case of its own, all of one patient; those that are there
        already are returned.

        :param numbers: from 0; None: all of them
        """
        group, count = sequences.series_of(sequence), sequences.frame_count(sequence)
        known = {case.frame: case for case in self if case.group == group}
        former = removed_frames(self.scene, group)
        cases = []
        with self.paused():
            for number in range(count) if numbers is None else numbers:
                if number not in known:
                    known[number] = self.add_volume(former.get(number) or sequences.frame_volume(sequence, number))
                    known[number].group, known[number].frame = group, number
                cases.append(known[number])
        return cases

    def candidates(self) -> list:
        """Volumes of the scene that are not in the table and could be cases: no masks, maps, colours or vectors, and
        none that shows a sequence."""
        taken = {node.GetID() for case in self for node in case.nodes()} | sequences.proxies(self.scene).keys()
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", self.scene)
        return [node for node in volumes if node.GetID() not in taken and not _why_not(node)]

    def sequence_candidates(self) -> list:
        """Sequences of the scene with frames that are not in the table."""
        known = Counter(case.group for case in self if case.frame is not None)
        every = sequences.volume_sequences(self.scene)
        return [node for node in every if known[sequences.known_series(node)] < sequences.frame_count(node)]

    def remove(self, case: Case) -> None:
        """Take a case off the table. Its predictions and region go with it; its volume and annotation stay."""
        self.forget_prediction(case)
        self.remove_region(case)
        case.leave_word()
        leave_annotation(case, self.labels)
        self.scene.RemoveNode(case.node)

    def forget_prediction(self, case: Case) -> None:
        """Delete what was predicted for a case: mask, distance maps, probabilities."""
        made = [case.prediction, *case.sdms.values(), *case.probabilities.values(), case.uncertainty]
        with self.paused():
            for node in [node for node in made if node is not None]:
                self.scene.RemoveNode(node)
            case.confidence = case.dsc = case.quality = None
            case.predicted_parts, case.predicted_at_once = [], True

    def remove_region(self, case: Case) -> None:
        """Delete the region of interest: the whole scan counts again."""
        if case.region is not None:
            self.scene.RemoveNode(case.region)

    # ---- what concerns all cases -----------------------------------------------------------------------------

    @property
    def labels(self) -> list[Label]:
        """The task's labels; every annotation and prediction has segments for these, called as they are."""
        return labels_from_text(self._read("labels"))

    @labels.setter
    def labels(self, labels: Sequence[Label]) -> None:
        names = {label.name.strip().casefold() for label in labels}
        if len({label.value for label in labels}) < len(labels) or len(names) < len(labels):
            raise CaseError("Labels must differ in value and in name (capital letters make no difference).")
        text = labels_to_text(labels)
        if text != self._read("labels"):
            before = self.labels
            self._work().SetParameter("labels", text)
            with self.paused():
                for node in [node for case in self for node in (case.annotation, case.prediction) if node is not None]:
                    segments.follow_labels(node, before, labels)
            self.labels_changed.emit()

    def rename_label(self, value: int, name: str) -> None:
        """Call a label otherwise: it is the same structure, also in annotations whose scan is off the table now.

        :raises CaseError: another label is called so
        """
        then = segments.by_value(self.labels)[value]
        self.labels = [dataclasses.replace(label, name=name) if label == then else label for label in self.labels]
        rename_left(self.scene, then, name)

    def free_label_value(self) -> int:
        """One that no label has, nor had: masks of those that were removed are still there."""
        nodes = [node for case in self for node in (case.annotation, case.prediction) if node is not None]
        used = {label.value for label in self.labels}.union(*(segments.values_of_ids(node) for node in nodes))
        return max(used, default=0) + 1

    @property
    def identifier(self) -> str:
        """Of this study alone, in every scene and on every computer; made when it is first asked for."""
        if not self._read("identifier"):
            self._work().SetParameter("identifier", new_identifier())
        return self._read("identifier")

    @property
    def names_hidden(self) -> bool:
        """Cases are called by their numbers, everywhere in this module and in its files."""
        return self._read("names_hidden") == "true"

    @names_hidden.setter
    def names_hidden(self, hidden: bool) -> None:
        self._work().SetParameter("names_hidden", "true" if hidden else "false")
        with self.paused():
            for case in self:
                case.name_hidden = hidden

    @property
    def run_folder(self) -> Path | None:
        """The folder of the last training of this scene, to be found again after a restart."""
        text = self._read("run_folder")
        return Path(text) if text else None

    @run_folder.setter
    def run_folder(self, path: Path | None) -> None:
        self._work().SetParameter("run_folder", str(path) if path else "")

    @property
    def run_end(self) -> str:
        """The state in which that training was seen to end; '' as long as it was not."""
        return self._read("run_end")

    @run_end.setter
    def run_end(self, state: str) -> None:
        self._work().SetParameter("run_end", state)

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """What was annotated for each training, how long that took, and what it brought; see `logic.rounds`."""
        return json.loads(self._read("rounds") or "[]")

    @rounds.setter
    def rounds(self, rounds: Sequence[dict[str, Any]]) -> None:
        self._work().SetParameter("rounds", json.dumps(list(rounds)))

    # ---- keeping up with the scene ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at everything anew and tell what is different."""
        for key in [key for key, (node, _) in self._observed.items() if self.scene.GetNodeByID(key) is not node]:
            self._forget(key)  # a deleted scan must not stay in memory
        known, self._owners = set(self._last_seen), {}
        seen = {node.GetID(): self._see(Case(node)) for node in self._nodes("case")}
        seen = {identifier: look for identifier, look in seen.items() if look is not None}
        before, self._last_seen = self._last_seen, seen
        if set(seen) != known:
            self.changed.emit()
            return
        for identifier in [key for key in seen if seen[key] != before[key]]:
            self.case_changed.emit(Case(self.scene.GetNodeByID(identifier)))

    def _look_at(self, identifier: str) -> None:
        """Look at one case anew, now or at the end of a pause, and tell if it came, went or changed."""
        if self._busy():
            if self._touched is not None:
                self._touched.add(identifier)
            return
        node, before = self.scene.GetNodeByID(identifier), self._last_seen.get(identifier)
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

    def _see(self, case: Case) -> tuple | None:
        """What there is to see of a case; None, and the case leaves the table, when its scan was deleted."""
        if case.volume is None:
            logging.info("SemiSeg: the scan of a case was deleted; the case leaves the table.")
            self._last_seen.pop(case.id, None)
            for node in (case.annotation, case.prediction, case.region):  # they would lie over the next scan
                if node is not None and node.GetDisplayNode() is not None:
                    node.GetDisplayNode().SetVisibility(False)
            self.scene.RemoveNode(case.node)
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
            tags = [node.AddObserver(event, lambda *_: self._look_at(identifier)) for event in events]
            self._observed[node.GetID()] = node, tags

    def _forget(self, identifier: str) -> None:
        node, tags = self._observed.pop(identifier)
        for tag in tags:
            node.RemoveObserver(tag)

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
                        self._look_at(identifier)

    def _observe_scene(self) -> list[int]:
        """Cases, and nodes of cases, that come and go one by one, and whole scenes."""

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def added(_scene, _event, node) -> None:
            if node.GetAttribute(ROLE) == "case":
                self._look_at(node.GetID())

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_scene, _event, node) -> None:
            identifier = node.GetID()
            if identifier in self._observed and self._observed[identifier][0] is node:
                self._forget(identifier)
            owner = identifier if identifier in self._last_seen else self._owners.pop(identifier, None)
            case = self.by_id(owner or "")
            if case is not None and node.GetAttribute(PREDICTION_MARK):  # somebody deleted it, and what is known of it
                case.confidence = case.dsc = case.quality = None
            if owner is not None:
                self._look_at(owner)

        scene = self.scene
        handlers = {
            "NodeAddedEvent": added,
            "NodeRemovedEvent": removed,
            "StartImportEvent": self._import_begins,
            "EndImportEvent": self._import_ends,
            "EndBatchProcessEvent": self._scene_changed,
            "EndCloseEvent": self._scene_changed,
        }
        return [scene.AddObserver(getattr(scene, name), handler) for name, handler in handlers.items()]

    def _import_begins(self, *_caller_and_event) -> None:
        """A study without cases gives way to the one that a loaded scene brings along."""
        self._giving_way = [node.GetID() for node in self._nodes("work")] if not len(self) else []
        self._here_already = {node.GetID() for role in ("case", "work") for node in self._nodes(role)}

    def _import_ends(self, *_caller_and_event) -> None:
        if len(self._nodes("work")) > len(self._giving_way):
            for node in [self.scene.GetNodeByID(identifier) for identifier in self._giving_way]:
                self.scene.RemoveNode(node) if node is not None else None
        self._giving_way = []
        self._merge()
        self._scene_changed()

    def _merge(self) -> None:
        """Cases that a scene brought along, into the study that was here before."""
        tell_apart(self)
        brought = [node for node in self._nodes("work") if node.GetID() not in self._here_already]
        if brought and brought[-1].GetID() != self._work().GetID():
            theirs, ours = labels_from_text(brought[-1].GetParameter("labels")), self.labels
            for case in [case for case in self if case.id not in self._here_already]:
                keep_meaning(case, theirs, ours)

    def _scene_changed(self, *_caller_and_event) -> None:
        if self._busy():
            self._touched = None
        else:
            self.refresh()

    def _busy(self) -> bool:
        scene = self.scene
        return bool(self._pauses or scene.IsBatchProcessing() or scene.IsImporting() or scene.IsClosing())

    def _nodes(self, role: str) -> list:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", self.scene)
        return [node for node in nodes if node.GetAttribute(ROLE) == role]

    def _work(self):
        existing = self._nodes("work")
        return existing[0] if existing else self.scene.AddNode(self._new_node("work", "SemiSeg work"))

    def _read(self, parameter: str) -> str:
        """A parameter of the work; reading makes no node in a scene that has nothing of SemiSeg."""
        existing = self._nodes("work")
        return (existing[0].GetParameter(parameter) or "") if existing else ""

    def _new_case(self, volume_node) -> Case:
        number = max((case.number for case in self), default=0)
        number = (
            max(number, int(self._read("last_number") or 0)) + 1
        )  # files of a case that was removed are still there
        node = self._new_node("case", f"SemiSeg case {number}")
        case = Case.new(node, volume_node, stem_of(number), self.names_hidden)
        self._work().SetParameter("last_number", str(number))
        self.scene.AddNode(case.node)  # when it is complete: a case without a scan leaves the table at once
        return case

    def _new_node(self, role: str, name: str):
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetName(self.scene.GenerateUniqueName(name))
        node.SetModuleName(f"SemiSeg.{role}")
        node.SetAttribute(ROLE, role)
        node.SetHideFromEditors(True)
        return node


def find_run(scene=None) -> Path | None:
    """The run folder that the scene remembers, if it is still on this computer; else None."""
    table = CaseTable(scene)
    folder = table.run_folder
    table.close()
    return folder if folder and (folder / "run.json").exists() else None


def _part_of(case: Case) -> VoxelBox | str | None:
    """What of a scan a region leaves, or why that is not known; None without a region."""
    try:
        return case.box() if case.region is not None else None
    except SemiSegError as error:
        return str(error)


def _check_volume(node) -> None:
    problem = _why_not(node)
    if problem:
        raise CaseError(problem)


def _check_annotation(annotation, volume_node, owner: Case | None) -> None:
    """No mask may count as two patients'."""
    volume = owner.volume if owner is not None else volume_of_left(annotation)
    if volume is not None and volume is not volume_node:
        raise CaseError(f"'{shown_name(annotation)}' is that of '{shown_name(volume)}': a scan needs its own mask.")


def _why_not(node) -> str:
    """Why a node cannot be a case; '' when it can."""
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return f"'{node.GetName() if node else 'nothing'}' is not a scan (a scalar volume)."
    if node.IsA("vtkMRMLVectorVolumeNode") or node.GetAttribute("SemiSeg.LabelValue"):
        return f"'{node.GetName()}' is a colour image or a map made by SemiSeg, not a scan."
    image = node.GetImageData()
    if image is None or not image.GetNumberOfPoints():
        return f"'{node.GetName()}' has no voxels."
    if image.GetNumberOfScalarComponents() != 1:
        return f"'{node.GetName()}' has {image.GetNumberOfScalarComponents()} values a voxel; a scan has one."
    return ""
