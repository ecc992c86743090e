"""One scan of the work with everything that is known of it: a view of a node in the scene."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import slicer

from SemiSegLib.config import Label
from SemiSegLib.data.frames import patient_of as patient_of_frame
from SemiSegLib.errors import SemiSegError

from . import segments
from .region import voxel_box
from .volumes import VoxelBox

ROLE = "SemiSeg.Role"  # attribute of the nodes that keep the work: 'case' or 'work'
ANNOTATION_MARK = "SemiSeg.Annotation"
ORIENTATIONS = ("axial", "coronal", "sagittal")
_OF_THE_ANNOTATION = ("done", "corrected", "accepted", "partial", "slices", "refinement")  # names of parameters
Kept = TypeVar("Kept")  # a dataclass of plain values, kept as text in a node


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
class Expected:
    """The DSC to expect, and the bounds it lies between; None without calibration. `empty`: nothing was found."""

    dsc: float
    low: float | None
    high: float | None
    empty: bool = False


@dataclasses.dataclass(frozen=True)
class Quality:
    """What a model (its file) lets expect of its prediction as a whole, and of each structure by its name."""

    whole: Expected
    classes: dict[str, Expected]
    model: str = ""


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A scan to annotate next: its place among those suggested, from 1, and the slices to begin with.

    `uncertainty` from 0 to 1, None without a model; slices are indices of the volume along its axis `axis` (0 for i),
    the most useful first.
    """

    rank: int
    uncertainty: float | None
    axis: int
    slices: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class SlicePlan:
    """The slices of one orientation that are to be annotated, in the order to do so, and what is known of them.

    `suggested` are those that matter most; in `empty` somebody has looked and found nothing to draw.
    """

    orientation: str
    proposed: tuple[int, ...]
    suggested: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()


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
    def identifier(self) -> str:
        """Of this case alone, in every scene and on every computer."""
        if not self._get("identifier"):  # a scene of an earlier version
            self._set("identifier", uuid.uuid4().hex)
        return self._get("identifier")

    @property
    def name(self) -> str:
        """What the user sees: patient, where known, and the name of the volume; a number while names are hidden."""
        return " · ".join(part for part in (self.patient, self.scan_name) if part)

    @property
    def scan_name(self) -> str:
        """The name of the volume (with DICOM that of the series), followed when it is renamed; or the number."""
        if self._flag("name_hidden"):
            return f"Scan {self.number}"
        return self.volume.GetName() if self.volume is not None else self.node.GetName()

    @property
    def patient(self) -> str:
        """The patient above the scan in the subject hierarchy, where DICOM loading puts one; '' without one."""
        return patient_of(self.volume) if self.volume is not None and not self._flag("name_hidden") else ""

    @property
    def group(self) -> str:
        """The same for all frames of one sequence, or other scans that data says are of one patient; else ''."""
        return self._get("group")

    @group.setter
    def group(self, group: str) -> None:
        self._set("group", group)

    @property
    def frame(self) -> int | None:
        """The number, from 0, of a frame that was taken out of a sequence of the scene."""
        return int(self._get("frame")) if self._get("frame") else None

    @frame.setter
    def frame(self, frame: int) -> None:
        self._set("frame", str(frame))

    @property
    def patient_key(self) -> str:
        """Equal for scans of one patient, as far as that is known: by the subject hierarchy, a group, or the name."""
        name = self.volume.GetName() if self.volume is not None else ""
        item = patient_item(self.volume) if self.volume is not None else 0
        named = f"name {patient_of_frame(name)}" if patient_of_frame(name) != name else self.id
        return f"patient {item}" if item else self.group or named

    @property
    def patient_name(self) -> str:
        """Of the patient, or of what the scan is a frame of, or of the scan; the number while names are hidden."""
        return self.patient or (self.scan_name if self._flag("name_hidden") else patient_of_frame(self.scan_name))

    @property
    def number(self) -> int:
        """Of the case in its study, from 1, as in `file_name`."""
        digits = self.file_name.rpartition("_")[2]
        return int(digits) if digits.isdigit() else 0

    @property
    def file_name(self) -> str:
        """Stem of the case's files, `scan_001`: unique in the scene, fixed once the case is added, and says of nobody
        who that is; `scans.csv` beside the files does."""
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
        if node is not None:
            node.SetAttribute(ANNOTATION_MARK, "true")  # it stays in the scene when the case leaves the table

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
    def predicted_parts(self) -> list[VoxelBox]:
        """The blocks of voxels that the prediction was made for, one after the other; empty when that is not known."""
        stored = json.loads(self._get("predicted_box") or "[]")
        one = bool(stored) and isinstance(stored[0][0], int)  # a scene of an earlier version
        return [VoxelBox.of(*box) for box in ([stored] if one else stored)]

    @predicted_parts.setter
    def predicted_parts(self, boxes: Sequence[VoxelBox]) -> None:
        self._set("predicted_box", json.dumps([[box.start, box.size] for box in boxes]))

    def predicted_voxels(self) -> np.ndarray:
        """Where the network predicted, bool (k, j, i) on the scan's voxels; everywhere when that is not known."""
        boxes, shape = self.predicted_parts, slicer.util.arrayFromVolume(self.volume).shape
        inside = np.full(shape, not boxes)
        for box in boxes:
            inside[box.slices] = True
        return inside

    @property
    def predicted_at_once(self) -> bool:
        """All of the prediction was made in one go. What is expected of a model's masks is not expected of one in which
        parts were predicted on their own."""
        return self.prediction is not None and not self._flag("joined")

    @predicted_at_once.setter
    def predicted_at_once(self, value: bool) -> None:
        self._set_flag("joined", not value)

    @property
    def predicted_by(self) -> str:
        """The model, as `logic.model_card.which` names it, that made the prediction; '' when that is not known."""
        return self._get("predicted_by")

    @predicted_by.setter
    def predicted_by(self, model: str) -> None:
        self._set("predicted_by", model)

    @property
    def prediction_edited(self) -> bool:
        """Somebody has changed the prediction since it was loaded: another one would destroy that work."""
        loaded = self._get("prediction_fingerprint")
        return bool(loaded) and self.prediction is not None and segments.fingerprint(self.prediction) != loaded

    def remember_prediction(self, edited: bool = False) -> None:
        """The prediction is now as the network made it; or, with `edited`, holds somebody's changes still."""
        self._set("prediction_fingerprint", "edited" if edited else segments.fingerprint(self.prediction))

    @property
    def predicted_elsewhere(self) -> bool:
        """The prediction was made for another part of the scan than the region of interest is now.

        It stays valid: it lies where it was made, and what the model says of those voxels is as true as before.
        """
        if self.prediction is None or not self.predicted_parts:
            return False
        try:
            return self.box() not in self.predicted_parts
        except SemiSegError:
            return True

    @property
    def sdms(self) -> dict[int, object]:
        """Signed distance volumes (mm, negative inside) by label value."""
        return self.maps("sdm")

    @property
    def probabilities(self) -> dict[int, object]:
        """Probability volumes (0 to 1) by label value."""
        return self.maps("probability")

    @property
    def uncertainty(self):
        """Volume of how unsure the network is of all structures (0 certain, 1 no idea), or None."""
        return next(iter(self.maps("uncertainty").values()), None)

    def set_maps(self, kind: str, nodes: dict[int, object]) -> None:
        """Refer to the volumes of `kind` ('sdm', 'probability' or 'uncertainty', the latter by 0) by label value;
        earlier ones are forgotten."""
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
    def unfinished(self) -> bool:
        """Something is drawn that nobody has called finished. It is shown, and it counts nowhere: it is neither learnt
        from nor given away, and nothing is given away in its place."""
        return not self.done and self.has_drawing

    @property
    def corrected(self) -> bool:
        """The finished annotation began as a prediction."""
        return self.began_as_prediction and self.done

    @property
    def accepted(self) -> bool:
        """The finished annotation is a prediction as it was accepted: nobody has drawn in it since."""
        if not self.corrected or not self._get("accepted"):
            return False
        then = {key: count for key, count in json.loads(self._get("accepted")).items() if count}
        return then == segments.counts_by_segment(self.annotation)

    @property
    def origin(self) -> str:
        """How the finished mask came about, as `SemiSegLib.data.origins` has it: drawn, corrected or accepted."""
        return "accepted" if self.accepted else "corrected" if self.corrected else "drawn"

    def remember_accepted(self, accepted: bool) -> None:
        """Note what is drawn now, so that `accepted` knows when somebody edits it; or forget it."""
        self._set("accepted", json.dumps(segments.counts_by_segment(self.annotation)) if accepted else "")

    @property
    def began_as_prediction(self) -> bool:
        """The annotation, finished or not, is an accepted or corrected prediction."""
        return self._flag("corrected") and self.annotation is not None

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
        """Some voxel is annotated, finished or not; *not sure* alone is no annotation."""
        node = self.annotation
        return node is not None and bool(segments.counts_by_segment(node).keys() - {segments.NOT_SURE})

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
    def refinement(self) -> str:
        """Name of the folder of the refinement that the annotation has followed last; '' when it has none."""
        return self._get("refinement")

    @refinement.setter
    def refinement(self, name: str) -> None:
        self._set("refinement", name)

    @property
    def seconds(self) -> float:
        """Time that somebody has spent on this scan in the editor and the review."""
        return self._number("seconds") or 0.0

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._set_number("seconds", seconds)

    @property
    def slice_plan(self) -> SlicePlan | None:
        """The slices that are to be annotated; None when none are proposed for the orientation of `partial`."""
        return self.slice_plan_of(self.partial)

    @slice_plan.setter
    def slice_plan(self, plan: SlicePlan | None) -> None:
        self._write("slices", plan)
        if plan is not None:
            self.partial = plan.orientation

    def slice_plan_of(self, orientation: str) -> SlicePlan | None:
        """The last plan, if it is of slices of this orientation."""
        plan = self._read("slices", SlicePlan)
        return plan if plan is not None and plan.orientation == orientation else None

    @property
    def empty_slices(self) -> tuple[int, ...]:
        """Slices of the orientation of `partial` in which somebody has looked and found nothing to draw."""
        plan = self.slice_plan
        return plan.empty if plan is not None else ()

    @property
    def suggestion(self) -> Suggestion | None:
        """That this scan should be annotated next; None when it was not suggested, or is done since."""
        return None if self.done else self._read("suggestion", Suggestion)

    @suggestion.setter
    def suggestion(self, suggestion: Suggestion | None) -> None:
        self._write("suggestion", suggestion)

    @property
    def confidence(self) -> float | None:
        """How sure the network is of its prediction, 0 to 1, before anybody has looked: the mean probability in the
        mask. None when that is not known."""
        return self._number("confidence")

    @confidence.setter
    def confidence(self, value: float | None) -> None:
        self._set_number("confidence", value)

    @property
    def quality(self) -> Quality | None:
        """The DSC to expect of the prediction, before anybody has looked; None when that is not known."""
        text = self._get("quality")
        if not text:
            return None
        content = json.loads(text)
        classes = {name: Expected(**figures) for name, figures in content["classes"].items()}
        return Quality(Expected(**content["whole"]), classes, content.get("model", ""))

    @quality.setter
    def quality(self, quality: Quality | None) -> None:
        self._write("quality", quality)

    @property
    def expected_dsc(self) -> float | None:
        """That of the case as a whole, where a calibrated model says so; agreement alone is no DSC."""
        quality = self.quality
        return quality.whole.dsc if quality is not None and quality.whole.low is not None else None

    def expected_of(self, node) -> Expected | None:
        """The DSC to expect of this segmentation of the case: of its prediction, as long as nobody has changed it, and
        of an annotation that is that prediction as it was accepted; None of any other, or when it is not known."""
        quality, known = self.quality, self.expected_dsc is not None
        if not known or node is None or self.prediction is None or self.prediction_edited:
            return None
        same = self.accepted and segments.fingerprint(self.annotation) == segments.fingerprint(self.prediction)
        is_it = node is self.prediction or (node is self.annotation and same)
        return quality.whole if is_it else None

    @property
    def dsc(self) -> float | None:
        """Agreement of the prediction with a finished annotation (Dice coefficient, mean of the labels); else None."""
        return self._number("dsc")

    @dsc.setter
    def dsc(self, value: float | None) -> None:
        self._set_number("dsc", value)

    @property
    def exported_world_matrix(self) -> list[list[float]] | None:
        """4 x 4 from the volume's frame to the world of its exported file; None before the first export."""
        text = self._get("exported_world_matrix")
        return json.loads(text) if text else None

    @exported_world_matrix.setter
    def exported_world_matrix(self, matrix: Sequence[Sequence[float]]) -> None:
        self._set("exported_world_matrix", json.dumps([[float(value) for value in row] for row in matrix]))

    def kept_annotation(self) -> dict[str, str]:
        """All that is known of the annotation beside what is drawn, to be given back to `restore_annotation`."""
        return {name: self._get(name) for name in _OF_THE_ANNOTATION}

    def restore_annotation(self, kept: dict[str, str]) -> None:
        """What `kept_annotation` returned is true again."""
        for name, text in kept.items():
            self._set(name, text)

    def forget_deleted(self) -> None:
        """After the user deleted the annotation: a new one has to be marked as done anew."""
        if self.annotation is None and (self._flag("done") or self.partial):
            self._set_flag("done", False)
            self.partial = self.refinement = ""

    def shown_segmentation(self):
        """What is seen of this case: the annotation once something is drawn in it, else the prediction, or None."""
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
        every += [*self.sdms.values(), *self.probabilities.values(), self.uncertainty]
        return [node for node in every if node is not None]

    def maps(self, kind: str) -> dict[int, object]:
        """Volumes of `kind` by label value."""
        count = self.node.GetNumberOfNodeReferences(_role(kind))
        nodes = [self.node.GetNthNodeReference(_role(kind), number) for number in range(count)]
        return {int(node.GetAttribute("SemiSeg.LabelValue") or 1): node for node in nodes if node is not None}

    def _reference(self, kind: str):
        return self.node.GetNodeReference(_role(kind))

    def add_reference(self, kind: str, node) -> None:
        """Refer to a node of this kind, unless it is referred to already."""
        if not self.node.HasNodeReferenceID(_role(kind), node.GetID()):
            self.node.AddNodeReferenceID(_role(kind), node.GetID())

    def _refer(self, kind: str, node) -> None:
        self.node.SetNodeReferenceID(_role(kind), node.GetID() if node is not None else None)

    def _get(self, name: str) -> str:
        return self.node.GetParameter(name) or ""

    def _set(self, name: str, value: str) -> None:
        self.node.SetParameter(name, value)

    def _read(self, name: str, kind: type[Kept]) -> Kept | None:
        text = self._get(name)
        if not text:
            return None
        content = json.loads(text)
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})

    def _write(self, name: str, value: object | None) -> None:
        self._set(name, json.dumps(dataclasses.asdict(value)) if value is not None else "")

    def _number(self, name: str) -> float | None:
        text = self._get(name)
        return float(text) if text else None

    def _set_number(self, name: str, value: float | None) -> None:
        self._set(name, "" if value is None else repr(float(value)))

    def _flag(self, name: str) -> bool:
        return self._get(name) == "true"

    def _set_flag(self, name: str, value: bool) -> None:
        self._set(name, "true" if value else "false")


def patient_of(node) -> str:
    """Name of the patient above a node in the subject hierarchy; '' where there is none."""
    above = patient_item(node)
    return _hierarchy(node).GetItemName(above) if above else ""


def patient_item(node) -> int:
    """The item of that patient, which two patients of one name do not share; 0 where there is none."""
    hierarchy = _hierarchy(node)
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    return hierarchy.GetItemAncestorAtLevel(item, level) if item else 0


def _hierarchy(node):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())


def _role(kind: str) -> str:
    return f"SemiSeg.{kind}"
