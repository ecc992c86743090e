"""The cases of the work and the task's labels, kept in the scene, so that saving the scene saves the work.

>>> table = CaseTable(slicer.mrmlScene)                   # doctest: +SKIP
>>> table.labels = settings.data.labels                   # doctest: +SKIP
>>> case = table.add_volume(volume_node)                  # doctest: +SKIP
>>> table.on_change(panel.update)                         # doctest: +SKIP

Each case is one hidden vtkMRMLScriptedModuleNode with references to its volume, annotation and prediction; what
concerns all of them (labels, run folder) is in one more. Nothing is kept in Python, so a scene that is loaded, or
whose nodes are deleted, is always shown as it is.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import slicer
import vtk

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from . import segments
from .region import voxel_box
from .volumes import VoxelBox

ORIENTATIONS = ("axial", "coronal", "sagittal")
_ROLE = "SemiSeg.Role"
_SCENE_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndImportEvent", "EndCloseEvent")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


class CaseError(SemiSegError):
    """Something cannot be done with this case; the message names it."""


class State(str, enum.Enum):
    """What a case is to the training."""

    UNLABELLED = "unlabelled"
    ANNOTATED = "annotated"
    PREDICTED = "predicted"
    CORRECTED = "corrected"
    EXCLUDED = "excluded"

    @property
    def trains_with_mask(self) -> bool:
        """The human mask of the case takes part in the training."""
        return self in (State.ANNOTATED, State.CORRECTED)


@dataclasses.dataclass(frozen=True)
class Quality:
    """How good a prediction is, 0 to 1, and by which measure."""

    value: float
    measure: str


class Case:
    """One scan with what is known of it: a view of a node in the scene. Equal when the node is the same."""

    def __init__(self, node) -> None:
        self.node = node

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Case({self.name!r}, {self.state.value})"

    @property
    def id(self) -> str:
        """ID of the case's node in the scene."""
        return self.node.GetID() or ""

    @property
    def name(self) -> str:
        """What the user sees: the name of the volume, followed when it is renamed."""
        return self.volume.GetName() if self.volume else self.node.GetName()

    @property
    def file_name(self) -> str:
        """Stem of the case's files: unique in the scene, safe on every system, fixed once the case is added."""
        return self._get("file_name")

    @property
    def volume(self):
        """The scan, a vtkMRMLScalarVolumeNode; None when it was deleted."""
        return self._reference("volume")

    @property
    def annotation(self):
        """The segmentation node that a human draws in, or None."""
        return self._reference("annotation")

    @annotation.setter
    def annotation(self, node) -> None:
        if node is not None and self.prediction is not None and node.GetID() == self.prediction.GetID():
            raise CaseError(f"'{node.GetName()}' is the prediction of '{self.name}': accept or correct it instead.")
        self._refer("annotation", node)

    @property
    def prediction(self):
        """The segmentation node with the predicted mask, or None."""
        return self._reference("prediction")

    @prediction.setter
    def prediction(self, node) -> None:
        if node is not None and self.annotation is not None and node.GetID() == self.annotation.GetID():
            raise CaseError(f"'{node.GetName()}' is a human annotation: a prediction needs its own node.")
        self._refer("prediction", node)

    @property
    def region(self):
        """The vtkMRMLMarkupsROINode that training and prediction are limited to, or None."""
        return self._reference("region")

    @region.setter
    def region(self, node) -> None:
        self._refer("region", node)

    def box(self) -> VoxelBox:
        """The voxels of the scan that training and prediction use: all, or those in the region of interest.

        :raises SemiSegError: the region misses the scan, is too thin, or lies under a non-linear transform
        """
        return voxel_box(self.region, self.volume)

    @property
    def predicted_box(self) -> VoxelBox | None:
        """The voxels that the prediction was made for; None when that is not known."""
        text = self._get("predicted_box")
        return VoxelBox.of(*json.loads(text)) if text else None

    @predicted_box.setter
    def predicted_box(self, box: VoxelBox | None) -> None:
        self._set("predicted_box", json.dumps([box.start, box.size]) if box else "")

    @property
    def predicted_elsewhere(self) -> bool:
        """The prediction was made for another part of the scan than the region of interest is now.

        It stays valid: it lies where it was made, and what the model says of those voxels is as true as before.
        """
        if self.prediction is None or self.predicted_box is None:
            return False
        try:
            return self.box() != self.predicted_box
        except SemiSegError:
            return True

    @property
    def sdms(self) -> dict[int, object]:
        """Signed distance volumes (mm, negative inside) by label value."""
        return self._maps("sdm")

    @property
    def probabilities(self) -> dict[int, object]:
        """Probability volumes (0 to 1) by label value."""
        return self._maps("probability")

    def set_maps(self, kind: str, nodes: dict[int, object]) -> None:
        """Refer to the volumes of `kind` ('sdm' or 'probability') by label value; earlier ones are forgotten."""
        self.node.RemoveNodeReferenceIDs(_role(kind))
        for value, node in nodes.items():
            node.SetAttribute("SemiSeg.LabelValue", str(value))
            self.node.AddNodeReferenceID(_role(kind), node.GetID())
        self.node.Modified()

    @property
    def state(self) -> State:
        """Follows from what is there, so it is never out of date."""
        if self.excluded:
            return State.EXCLUDED
        if self.done:
            return State.CORRECTED if self.corrected else State.ANNOTATED
        return State.PREDICTED if self.prediction is not None else State.UNLABELLED

    @property
    def excluded(self) -> bool:
        """The case takes no part in training and prediction."""
        return self._flag("excluded")

    @excluded.setter
    def excluded(self, value: bool) -> None:
        self._set_flag("excluded", value)

    @property
    def done(self) -> bool:
        """A human has said that the annotation is finished (and it still exists)."""
        return self._flag("done") and self.annotation is not None

    @property
    def corrected(self) -> bool:
        """The finished annotation began as a prediction."""
        return self._flag("corrected") and self.done

    def mark_done(self, done: bool = True, corrected: bool | None = None) -> None:
        """Say that the annotation is finished, or is not after all.

        :param corrected: whether it began as a prediction; None leaves that as it is
        :raises CaseError: there is no annotation, or nothing is drawn in it
        """
        if done and self.annotation is None:
            raise CaseError(f"'{self.name}' has no annotation yet: draw one first.")
        if done and not self.has_drawing:
            raise CaseError(f"Nothing is drawn in the annotation of '{self.name}' yet.")
        if corrected is not None:
            self._set_flag("corrected", corrected)
        self._set_flag("done", done)

    @property
    def has_drawing(self) -> bool:
        """Some voxel is annotated, finished or not."""
        node = self.annotation
        if node is None:
            return False
        return any(not segments.is_empty(node, identifier) for identifier in node.GetSegmentation().GetSegmentIDs())

    @property
    def partial(self) -> str:
        """'' when the whole scan is annotated; 'axial', 'coronal' or 'sagittal' when only slices of that
        orientation with something drawn in them count, and nobody has looked at the others."""
        return self._get("partial")

    @partial.setter
    def partial(self, orientation: str) -> None:
        if orientation and orientation not in ORIENTATIONS:
            raise CaseError(f"Slices are {', '.join(ORIENTATIONS)}, not '{orientation}'.")
        self._set("partial", orientation)

    @property
    def quality(self) -> Quality | None:
        """Of the prediction, where known."""
        text = self._get("quality")
        return Quality(**json.loads(text)) if text else None

    @quality.setter
    def quality(self, quality: Quality | None) -> None:
        self._set("quality", json.dumps(dataclasses.asdict(quality)) if quality else "")

    @property
    def exported_world_matrix(self) -> list[list[float]] | None:
        """4 x 4 from the volume's frame to the world of its exported file; None before the first export."""
        text = self._get("exported_world_matrix")
        return json.loads(text) if text else None

    @exported_world_matrix.setter
    def exported_world_matrix(self, matrix: Sequence[Sequence[float]]) -> None:
        self._set("exported_world_matrix", json.dumps([[float(value) for value in row] for row in matrix]))

    def forget_deleted(self) -> None:
        """After the user deleted the annotation: a new one has to be marked as done anew."""
        if self.annotation is None and (self._flag("done") or self.partial):
            self._set_flag("done", False)
            self.partial = ""

    def shown_segmentation(self):
        """What counts for this case: the annotation once something is drawn in it, else the prediction, or None."""
        return self.annotation if self.has_drawing else self.prediction

    def volumes_ml(self, labels: Sequence[Label]) -> dict[int, float]:
        """Millilitres by label value, of `shown_segmentation`; labels without voxels are left out."""
        node = self.shown_segmentation()
        measured = segments.volumes_ml(node, labels) if node is not None else {}
        return {value: volume for value, volume in measured.items() if volume > 0}

    def labels_present(self, labels: Sequence[Label]) -> list[Label]:
        """Labels with at least one voxel in `shown_segmentation`."""
        node = self.shown_segmentation()
        counts = segments.voxel_counts(node, labels) if node is not None else {}
        return [label for label in labels if counts.get(label.value)]

    def nodes(self) -> list[object]:
        """The case's nodes that exist: volume, annotation, region of interest, prediction, maps."""
        every = [self.volume, self.annotation, self.region, self.prediction]
        every += [*self.sdms.values(), *self.probabilities.values()]
        return [node for node in every if node is not None]

    def _maps(self, kind: str) -> dict[int, object]:
        count = self.node.GetNumberOfNodeReferences(_role(kind))
        nodes = [self.node.GetNthNodeReference(_role(kind), number) for number in range(count)]
        return {int(node.GetAttribute("SemiSeg.LabelValue") or 1): node for node in nodes if node is not None}

    def _reference(self, kind: str):
        return self.node.GetNodeReference(_role(kind))

    def _refer(self, kind: str, node) -> None:
        self.node.SetNodeReferenceID(_role(kind), node.GetID() if node is not None else None)

    def _get(self, name: str) -> str:
        return self.node.GetParameter(name) or ""

    def _set(self, name: str, value: str) -> None:
        self.node.SetParameter(name, value)

    def _flag(self, name: str) -> bool:
        return self._get(name) == "true"

    def _set_flag(self, name: str, value: bool) -> None:
        self._set(name, "true" if value else "false")


class CaseTable:
    """The cases of a scene, in the order they were added. Two tables of one scene show the same."""

    def __init__(self, scene=None) -> None:
        self.scene = scene or slicer.mrmlScene
        self._observed: dict[str, tuple] = {}  # node ID: node, tags of the observers
        self._listeners: list[Callable[[], None]] = []
        self._last_seen: list[tuple] = []
        self._pauses = 0
        self._scene_tags = [
            self.scene.AddObserver(getattr(slicer.vtkMRMLScene, event), self._on_change) for event in _SCENE_EVENTS
        ]
        self.refresh()

    def close(self) -> None:
        """Stop observing; the cases stay in the scene."""
        for tag in self._scene_tags:
            self.scene.RemoveObserver(tag)
        for identifier in list(self._observed):
            self._forget(identifier)
        self._scene_tags = []
        self._listeners.clear()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after cases were added, removed or changed, by whomever."""
        self._listeners.append(listener)

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
        """Add a scan of the scene, perhaps with its human annotation; one that is there already is returned.

        :raises CaseError: not a scalar volume with voxels, or not a 3D scan
        """
        _check_volume(volume_node)
        existing = self.case_of(volume_node)
        case = existing or self._new_case(volume_node)
        if annotation is not None:
            segments.make_voxels(annotation, volume_node)
            case.annotation = annotation
        self._on_change()
        return case

    def add_volumes(self, volume_nodes: Iterable | None = None) -> list[Case]:
        """Add several scans; without an argument every scan of the scene that could be one."""
        nodes = self.candidates() if volume_nodes is None else list(volume_nodes)
        with self.paused():
            return [self.add_volume(node) for node in nodes]

    def candidates(self) -> list:
        """Volumes of the scene that are not in the table and could be cases: no masks, maps, colours or vectors."""
        taken = {node.GetID() for case in self for node in case.nodes()}
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", self.scene)
        return [node for node in volumes if node.GetID() not in taken and not _why_not(node)]

    def remove(self, case: Case) -> None:
        """Take a case off the table. Its predictions and region go with it; its volume and annotation stay."""
        self.forget_prediction(case)
        self.remove_region(case)
        self.scene.RemoveNode(case.node)
        self._on_change()

    def forget_prediction(self, case: Case) -> None:
        """Delete what was predicted for a case: mask, distance maps, probabilities."""
        made = [case.prediction, *case.sdms.values(), *case.probabilities.values()]
        with self.paused():
            for node in [node for node in made if node is not None]:
                self.scene.RemoveNode(node)
            case.quality = None
            case.predicted_box = None

    def remove_region(self, case: Case) -> None:
        """Delete the region of interest: the whole scan counts again."""
        if case.region is not None:
            self.scene.RemoveNode(case.region)

    # ---- what concerns all cases -----------------------------------------------------------------------------

    @property
    def labels(self) -> list[Label]:
        """The task's labels; every annotation and prediction has segments for these."""
        text = self._read("labels")
        return [Label(entry["value"], entry["name"], tuple(entry["color"])) for entry in json.loads(text or "[]")]

    @labels.setter
    def labels(self, labels: Sequence[Label]) -> None:
        names = {label.name.strip().casefold() for label in labels}
        if len({label.value for label in labels}) < len(labels) or len(names) < len(labels):
            raise CaseError("Labels must differ in value and in name (capital letters make no difference).")
        text = json.dumps([dataclasses.asdict(label) for label in labels])
        if text != self._read("labels"):
            self._work().SetParameter("labels", text)
            self._notify()

    @property
    def run_folder(self) -> Path | None:
        """The folder of the last training of this scene, to be found again after a restart."""
        text = self._read("run_folder")
        return Path(text) if text else None

    @run_folder.setter
    def run_folder(self, path: Path | None) -> None:
        self._work().SetParameter("run_folder", str(path) if path else "")

    # ---- keeping up with the scene ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """Drop cases whose scan was deleted, and tell the listeners if anything is different."""
        self._forget_deleted()
        for node in self._nodes("case"):
            case = Case(node)
            if case.volume is None:
                logging.info("SemiSeg: the scan of case '%s' was deleted; it leaves the table.", node.GetName())
                self.scene.RemoveNode(node)
                continue
            case.forget_deleted()
            self._observe(node)
            self._observe(case.volume)
            if case.region is not None:
                self._observe(case.region)
        seen = [self._look(case) for case in self]
        if seen != self._last_seen:
            self._last_seen = seen
            self._notify()

    def _observe(self, node) -> None:
        if node.GetID() not in self._observed:
            events = [vtk.vtkCommand.ModifiedEvent]
            if node.IsA("vtkMRMLTransformableNode"):  # a scan or region that is moved by its transform
                events.append(slicer.vtkMRMLTransformableNode.TransformModifiedEvent)
            self._observed[node.GetID()] = node, [node.AddObserver(event, self._on_change) for event in events]

    def _forget(self, identifier: str) -> None:
        node, tags = self._observed.pop(identifier)
        for tag in tags:
            node.RemoveObserver(tag)

    def _forget_deleted(self) -> None:
        """Let go of nodes that left the scene: a deleted scan must not stay in memory."""
        for key in [key for key, (node, _) in self._observed.items() if self.scene.GetNodeByID(key) is not node]:
            self._forget(key)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Make several changes and look at the scene once, at the end."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            self._on_change()

    def _on_change(self, *_caller_and_event) -> None:
        if not self._busy():
            self.refresh()

    def _busy(self) -> bool:
        scene = self.scene
        return bool(self._pauses or scene.IsBatchProcessing() or scene.IsImporting() or scene.IsClosing())

    @staticmethod
    def _look(case: Case) -> tuple:
        nodes = tuple(node.GetID() for node in case.nodes())
        return case.id, case.name, case.state, case.partial, case.quality, nodes, _part_of(case)

    def _notify(self) -> None:
        for listener in list(self._listeners):
            listener()

    def _nodes(self, role: str) -> list:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", self.scene)
        return [node for node in nodes if node.GetAttribute(_ROLE) == role]

    def _work(self):
        existing = self._nodes("work")
        return existing[0] if existing else self.scene.AddNode(self._new_node("work", "SemiSeg work"))

    def _read(self, parameter: str) -> str:
        """A parameter of the work; reading makes no node in a scene that has nothing of SemiSeg."""
        existing = self._nodes("work")
        return (existing[0].GetParameter(parameter) or "") if existing else ""

    def _new_case(self, volume_node) -> Case:
        taken = {case.file_name.casefold() for case in self}
        case = Case(self._new_node("case", f"SemiSeg case {volume_node.GetName()}"))
        case._set("file_name", safe_file_name(volume_node.GetName(), taken))
        case._refer("volume", volume_node)
        self.scene.AddNode(case.node)  # when it is complete: a case without a scan leaves the table at once
        return case

    def _new_node(self, role: str, name: str):
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetName(self.scene.GenerateUniqueName(name))
        node.SetModuleName(f"SemiSeg.{role}")
        node.SetAttribute(_ROLE, role)
        node.SetHideFromEditors(True)
        return node


def safe_file_name(name: str, taken: Iterable[str] = ()) -> str:
    """A file stem for `name` that Windows, macOS and Linux accept, different from `taken` in any case of letters.

    >>> safe_file_name("Müller: LA 3/4?"), safe_file_name("con"), safe_file_name("a b", {"a_b"})
    ('Muller_LA_3_4', 'con_', 'a_b_2')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", plain).strip("_-")[:60] or "case"
    stem = stem + "_" if stem.casefold() in _RESERVED else stem
    lowered = {other.casefold() for other in taken}
    candidate, number = stem, 2
    while candidate.casefold() in lowered:
        candidate, number = f"{stem}_{number}", number + 1
    return candidate


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


def _role(kind: str) -> str:
    return f"SemiSeg.{kind}"


def _check_volume(node) -> None:
    problem = _why_not(node)
    if problem:
        raise CaseError(problem)


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
