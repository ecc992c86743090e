"""One scan of the work with everything that is known of it: a view of a node in the scene."""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Sequence

import numpy as np
import slicer

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from . import segments
from .region import voxel_box
from .volumes import VoxelBox

ROLE = "SemiSeg.Role"  # attribute of the nodes that keep the work: 'case' or 'work'
ANNOTATION_MARK = "SemiSeg.Annotation"
ORIENTATIONS = ("axial", "coronal", "sagittal")


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
        return self.corrected and self._get("accepted") == json.dumps(segments.counts_by_segment(self.annotation))

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
    def confidence(self) -> float | None:
        """How sure the network is of its prediction, 0 to 1, before anybody has looked: the mean probability in the
        mask. None when that is not known."""
        return self._number("confidence")

    @confidence.setter
    def confidence(self, value: float | None) -> None:
        self._set_number("confidence", value)

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

    def forget_deleted(self) -> None:
        """After the user deleted the annotation: a new one has to be marked as done anew."""
        if self.annotation is None and (self._flag("done") or self.partial):
            self._set_flag("done", False)
            self.partial = ""

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
        every += [*self.sdms.values(), *self.probabilities.values()]
        return [node for node in every if node is not None]

    def _maps(self, kind: str) -> dict[int, object]:
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
