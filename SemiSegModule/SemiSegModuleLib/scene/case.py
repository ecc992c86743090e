"""One scan of the work with everything that is known of it: a view of a node in the scene."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import slicer

from SemiSegLib.config import Label
from SemiSegLib.errors import SemiSegError

from . import segments
from .contents import contents, has_checksums, holds
from .node_values import Amount, Flag, Number, Plain, Record, Reference, Stored, Text, role
from .records import ORIENTATIONS, Expected, Quality, SlicePlan, State, Suggestion, labels_from_text
from .region import voxel_box
from .scan import Scan, was_removed
from .volumes import VoxelBox

ROLE = "SemiSeg.Role"  # attribute of the nodes that keep the work: 'case' or 'work'
ANNOTATION_MARK = "SemiSeg.Annotation"
PREDICTION_MARK = "SemiSeg.Prediction"
_EDITED = "edited"
_OWN = [role(kind) for kind in ("volume", "annotation", "region", "prediction", "sdm", "probability", "uncertainty")]
_KNOWN = "SemiSeg.Known"  # attribute of a volume whose case has left the table: what was known of the scan


class CaseError(SemiSegError):
    """Something cannot be done with this case; the message names it."""


class Case(Scan):
    """One scan with what is known of it: a view of a node in the scene. Equal when the node is the same."""

    region = Reference("region", "The vtkMRMLMarkupsROINode that training and prediction are limited to, or None.")
    predicted_by = Text(
        "predicted_by",
        "The model, as `logic.model_card.which` names it, that made the prediction; '' when that is not known.",
    )
    confidence = Number(
        "confidence",
        "How sure the network is of its prediction, 0 to 1, before anybody has looked: the mean probability in the "
        "mask. None when that is not known.",
    )
    excluded = Flag("excluded", "The case takes no part in training, prediction and export.")
    refinement = Text(
        "refinement", "Name of the folder of the refinement that the annotation has followed last; '' when it has none."
    )
    seconds = Amount("seconds", "Time that somebody has spent on this scan in the editor and the review.")
    _of_the_scan = (excluded, seconds)

    # As it was set; the properties of these names, below, check what is set and say when it holds.
    _annotation = Reference("annotation")
    _prediction = Reference("prediction")
    _done = Flag("done")
    _empty = Flag("empty", "Somebody has said that nothing is there to be drawn.")
    _corrected = Flag("corrected")
    _accepted = Plain("accepted", "Contents (see `contents`) of the annotation when the prediction was accepted.")
    _began_as = Text("began_as", "Fingerprint of the prediction that the annotation was when it was taken over.")
    _partial = Text("partial")
    _slice_plan = Record("slices", SlicePlan)
    _suggestion = Record("suggestion", Suggestion)
    _of_the_annotation = (_done, _empty, _corrected, _accepted, _began_as, _partial, _slice_plan, refinement)

    _predicted_box = Plain("predicted_box", "[start, size] of each part; earlier versions have that of one alone.")
    _predicted_of = Plain("predicted_of", "Size of the scan then; None in scenes of earlier versions.")
    _joined = Flag("joined", "Parts of the prediction were made on their own.")
    _fingerprint = Text("prediction_fingerprint", "Of the prediction as it was loaded, or 'edited'.")
    _loaded = Plain("prediction_counts", "Contents of the prediction as it was loaded.")
    _quality = Record("quality", Quality.of)
    _dsc = Number("dsc")
    _measured = Plain("measured", "Contents of annotation and prediction whose DSC that is.")
    _of_the_prediction = (confidence, _quality, _dsc, _measured, _predicted_box, _predicted_of, _joined)

    @classmethod
    def new(cls, node, volume, file_name: str, name_hidden: bool) -> Case:
        """That of a node that knows nothing of a scan yet; one that was left out when its case left the table still
        is."""
        case = super().new(node, volume, file_name, name_hidden)
        if was_removed(volume):
            case.restore(json.loads(volume.GetAttribute(_KNOWN) or "{}"))
        return case

    def leave_word(self) -> None:
        """The volume says itself what is known of it: it stays in the scene, and may be added again."""
        super().leave_word()
        self.volume.SetAttribute(_KNOWN, json.dumps(self.kept_scan()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Case({self.name!r}, {self.state.value})"

    @property
    def annotation(self):
        """The segmentation node that a human draws in, or None."""
        return self._annotation

    @annotation.setter
    def annotation(self, node) -> None:
        if node is not None and self.prediction is not None and node.GetID() == self.prediction.GetID():
            raise CaseError(f"'{node.GetName()}' is the prediction of '{self.name}': accept or correct it instead.")
        self._annotation = node
        if node is not None:
            node.SetAttribute(ANNOTATION_MARK, "true")  # it stays in the scene when the case leaves the table

    @property
    def prediction(self):
        """The segmentation node with the predicted mask, or None."""
        return self._prediction

    @prediction.setter
    def prediction(self, node) -> None:
        if node is not None and self.annotation is not None and node.GetID() == self.annotation.GetID():
            raise CaseError(f"'{node.GetName()}' is a human annotation: a prediction needs its own node.")
        self._prediction = node

    def box(self) -> VoxelBox:
        """The voxels of the scan that training and prediction use: all, or those in the region of interest.

        :raises SemiSegError: the region misses the scan, is too thin, or lies under a non-linear transform
        """
        return voxel_box(self.region, self.volume)

    @property
    def predicted_parts(self) -> list[VoxelBox]:
        """The blocks of voxels that the prediction was made for, one after the other; empty when that is not known, or
        was all of a scan that has other voxels now."""
        stored = self._predicted_box or []
        one = bool(stored) and isinstance(stored[0][0], int)  # a scene of an earlier version
        boxes = [VoxelBox.of(*box) for box in ([stored] if one else stored)]
        former = self._predicted_of
        resampled = bool(boxes) and former is not None and former != self._size_of_scan()
        return [] if resampled and VoxelBox.of((0, 0, 0), former) in boxes else boxes

    @predicted_parts.setter
    def predicted_parts(self, boxes: Sequence[VoxelBox]) -> None:
        self._predicted_box = [[box.start, box.size] for box in boxes]
        self._predicted_of = self._size_of_scan() if boxes else None

    def _size_of_scan(self) -> list[int] | None:
        image = self.volume.GetImageData() if self.volume is not None else None
        return list(image.GetDimensions()) if image is not None else None

    def predicted_voxels(self) -> np.ndarray:
        """Where the network predicted, bool (k, j, i) on the scan's voxels; everywhere when that is not known."""
        boxes, shape = self.predicted_parts, segments.grid_shape(self.volume)
        inside = np.full(shape, not boxes)
        for box in boxes:
            inside[box.slices] = True
        return inside

    @property
    def predicted_at_once(self) -> bool:
        """All of the prediction was made in one go. What is expected of a model's masks is not expected of one in which
        parts were predicted on their own."""
        return self.prediction is not None and not self._joined

    @predicted_at_once.setter
    def predicted_at_once(self, value: bool) -> None:
        self._joined = not value

    @property
    def prediction_edited(self) -> bool:
        """Somebody has changed the prediction since it was loaded: another one would destroy that work."""
        loaded = self._fingerprint
        if not loaded or self.prediction is None:
            return False
        certain = self._loaded is not None and has_checksums(self._loaded)  # a fingerprint takes seconds, each time
        return self.plainly_edited or (not certain and segments.fingerprint(self.prediction) != loaded)

    @property
    def plainly_edited(self) -> bool:
        """The same where it is asked of hundreds of cases: quick, and of scenes that kept only the number of voxels, no
        more than whether that is another one."""
        if self.prediction is None:
            return False
        changed = self._loaded is not None and not holds(self._loaded, self.prediction, self.volume)
        return changed or self._fingerprint == _EDITED

    def remember_prediction(self, edited: bool = False) -> None:
        """The prediction is now as the network made it; or, with `edited`, holds somebody's changes still."""
        self._fingerprint = _EDITED if edited else segments.fingerprint(self.prediction)
        self._loaded = None if edited else contents(self.prediction, self.volume)

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
        self.node.RemoveNodeReferenceIDs(role(kind))
        for value, node in nodes.items():
            node.SetAttribute("SemiSeg.LabelValue", str(value))
            self.node.AddNodeReferenceID(role(kind), node.GetID())
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
    def done(self) -> bool:
        """A human has said that the annotation is finished (and it still exists), and what was drawn was not erased."""
        return self._done and (self.has_drawing or self.confirmed_empty)

    @property
    def confirmed_empty(self) -> bool:
        """Somebody has looked at the whole scan and said that nothing is there: the mask is an empty one."""
        return self._empty and not self.partial and self.annotation is not None and not self.has_drawing

    @property
    def unfinished(self) -> bool:
        """Somebody has worked on the annotation, and perhaps erased all of it, and nobody has called it finished. It is
        shown, and it counts nowhere: it is neither learnt from nor given away, and nothing is given away in its
        place."""
        return not self.done and self.has_work

    @property
    def corrected(self) -> bool:
        """The finished annotation began as a prediction."""
        return self.began_as_prediction and self.done

    @property
    def accepted(self) -> bool:
        """The finished annotation is a prediction as it was accepted: nobody has drawn in it since."""
        accepted = self._accepted
        return self.corrected and accepted is not None and holds(accepted, self.annotation, self.volume)

    @property
    def origin(self) -> str:
        """How the finished mask came about, as `SemiSegLib.data.origins` has it: drawn, corrected or accepted."""
        return "accepted" if self.accepted else "corrected" if self.corrected else "drawn"

    def remember_accepted(self, accepted: bool) -> None:
        """Note what is drawn now, so that `accepted` knows when somebody edits it; or forget it."""
        self._accepted = contents(self.annotation, self.volume) if accepted else None

    @property
    def began_as_prediction(self) -> bool:
        """The annotation, finished or not, is an accepted or corrected prediction."""
        return self._corrected and self.annotation is not None

    @property
    def began_as_this_prediction(self) -> bool:
        """It is the prediction as it is now, and not one that was replaced or changed since."""
        here = self.began_as_prediction and self.prediction is not None
        return here and segments.fingerprint(self.prediction) == self._began_as

    def remember_beginning(self) -> None:
        """The annotation begins as the prediction that is there now."""
        self._began_as = segments.fingerprint(self.prediction)

    def mark_done(self, done: bool = True, corrected: bool | None = None, empty: bool = False) -> None:
        """Say that the annotation is finished, or is not after all.

        :param corrected: whether it began as a prediction; None leaves that as it is
        :param empty: where nothing is drawn, that is right: somebody has looked at the whole scan
        :raises CaseError: there is no annotation, or nothing is drawn in it for the labels of the task
        """
        if done and self.annotation is None:
            raise CaseError(f"'{self.name}' has no annotation yet: draw one first.")
        nothing = done and not self.has_drawing
        if nothing and (not empty or self.partial):
            raise CaseError(f"Nothing is drawn in the annotation of '{self.name}' yet.")
        if done:
            self._refuse_strays()
        if corrected is not None:
            self._corrected = corrected
        self._done, self._empty = done, nothing

    def _refuse_strays(self) -> None:
        labels = _labels_of_study(self.node.GetScene())
        strays = segments.strays(self.annotation, labels) if labels else []
        if strays:
            raise CaseError(
                f"Nothing is drawn in the annotation of '{self.name}' for {_quoted(label.name for label in labels)}, "
                f"but in {_quoted(strays)}, which is no label of the task: copy that into the label's segment with "
                "Logical operators or, where it has none, rename the segment as the label is called."
            )

    @property
    def has_drawing(self) -> bool:
        """Some voxel is annotated, finished or not; *not sure* alone is no annotation."""
        return self.annotation is not None and segments.has_voxels(self.annotation)

    @property
    def has_work(self) -> bool:
        """The annotation is somebody's work, also where nothing is in it now: it was called finished, and its file may
        be on a disk that is away; or it began as a prediction, and all of that was wrong."""
        return self.has_drawing or (self.annotation is not None and (self._done or self._corrected))

    @property
    def partial(self) -> str:
        """'' when the whole scan is annotated; 'axial', 'coronal' or 'sagittal' when only slices of that
        orientation with something drawn in them count, and nobody has looked at the others."""
        return self._partial

    @partial.setter
    def partial(self, orientation: str) -> None:
        if orientation and orientation not in ORIENTATIONS:
            raise CaseError(f"Slices are {', '.join(ORIENTATIONS)}, not '{orientation}'.")
        self._partial = orientation

    @property
    def slice_plan(self) -> SlicePlan | None:
        """The slices that are to be annotated; None when none are proposed for the orientation of `partial`."""
        return self.slice_plan_of(self.partial)

    @slice_plan.setter
    def slice_plan(self, plan: SlicePlan | None) -> None:
        self._slice_plan = plan
        if plan is not None:
            self.partial = plan.orientation

    def slice_plan_of(self, orientation: str) -> SlicePlan | None:
        """The last plan, if it is of slices of this orientation."""
        plan = self._slice_plan
        return plan if plan is not None and plan.orientation == orientation else None

    @property
    def empty_slices(self) -> tuple[int, ...]:
        """Slices of the orientation of `partial` in which somebody has looked and found nothing to draw."""
        plan = self.slice_plan
        return plan.empty if plan is not None else ()

    @property
    def suggestion(self) -> Suggestion | None:
        """That this scan should be annotated next; None when it was not suggested, or is done since."""
        return None if self.done else self._suggestion

    @suggestion.setter
    def suggestion(self, suggestion: Suggestion | None) -> None:
        self._suggestion = suggestion

    @property
    def quality(self) -> Quality | None:
        """The DSC to expect of the prediction, before anybody has looked; None when that is not known, and of a mask
        that somebody has changed (`plainly_edited`)."""
        quality = self._quality
        return None if quality is None or self.plainly_edited else quality

    @quality.setter
    def quality(self, quality: Quality | None) -> None:
        self._quality = quality

    @property
    def dsc(self) -> float | None:
        """Agreement of the prediction with a finished annotation (Dice coefficient, mean of the labels); None when it
        was not measured, or of other masks than these."""
        measured = self._measured
        if measured is not None and (not self.done or self.partial or not self._hold(measured)):
            return None
        return self._dsc  # a scene of an earlier version does not say of which masks

    @dsc.setter
    def dsc(self, dsc: float | None) -> None:
        now = [contents(node, self.volume) for node in (self.annotation, self.prediction)] if dsc is not None else None
        self._dsc, self._measured = dsc, now

    def _hold(self, measured: Sequence[Mapping[str, Any]]) -> bool:
        masks = zip(measured, (self.annotation, self.prediction), strict=True)
        return all(holds(known, node, self.volume) for known, node in masks)

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

    def kept_annotation(self) -> dict[str, str]:
        """All that is known of the annotation beside what is drawn, to be given back to `restore`."""
        return self._kept(self._of_the_annotation)

    def kept_prediction(self) -> dict[str, str]:
        """The same of the prediction beside its mask and maps."""
        return self._kept(self._of_the_prediction)

    def kept_scan(self) -> dict[str, str]:
        """What was decided about the scan itself, and the time spent on it."""
        return self._kept(self._of_the_scan)

    def _kept(self, values: Iterable[Stored]) -> dict[str, str]:
        return {kept.name: self.node.GetParameter(kept.name) or "" for kept in values}

    def restore(self, kept: Mapping[str, str]) -> None:
        """What one of these three returned is true again."""
        for name, text in kept.items():
            self.node.SetParameter(name, text)

    def forget_deleted(self) -> None:
        """After the user deleted the annotation: a new one is no prediction, and has to be marked as done anew. One in
        which something is drawn is empty no more."""
        if self.annotation is None and (self._done or self.partial or self._corrected or self.refinement):
            self.forget_annotation()
        if self._empty and self.has_drawing:
            self._empty = False

    def forget_annotation(self) -> None:
        """Nothing is known of the annotation any more: it is another one, or none."""
        self._done = self._empty = self._corrected = False
        self._accepted = None
        self._began_as = self.partial = self.refinement = ""

    def shown_segmentation(self):
        """What is seen of this case: the annotation once somebody has worked on it, else the prediction, or None."""
        return self.annotation if self.has_work else self.prediction

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

    def has_label(self, label: Label) -> bool:
        """Some voxel of the annotation or the prediction is of this label."""
        nodes = [node for node in (self.annotation, self.prediction) if node is not None]
        try:
            return any(count for node in nodes for count in segments.voxel_counts(node, [label]).values())
        except SemiSegError:  # two segments for it
            return True

    def nodes(self) -> list[object]:
        """The case's nodes that exist: volume, annotation, region of interest, prediction, maps."""
        every = [self.volume, self.annotation, self.region, self.prediction]
        return [node for node in every if node is not None] + self.all_maps()

    def all_maps(self) -> list[object]:
        """What a prediction brought beside the mask: distance maps, probabilities, uncertainty."""
        every = [*self.sdms.values(), *self.probabilities.values(), self.uncertainty]
        return [node for node in every if node is not None]

    def refers_to(self, node) -> bool:
        """It is one of these."""
        return any(self.node.HasNodeReferenceID(each, node.GetID()) for each in _OWN)

    def maps(self, kind: str) -> dict[int, object]:
        """Volumes of `kind` by label value."""
        count = self.node.GetNumberOfNodeReferences(role(kind))
        nodes = [self.node.GetNthNodeReference(role(kind), number) for number in range(count)]
        return {int(node.GetAttribute("SemiSeg.LabelValue") or 1): node for node in nodes if node is not None}

    def add_reference(self, kind: str, node) -> None:
        """Refer to a node of this kind, unless it is referred to already."""
        if not self.node.HasNodeReferenceID(role(kind), node.GetID()):
            self.node.AddNodeReferenceID(role(kind), node.GetID())


def _labels_of_study(scene) -> list[Label]:
    """The task's labels, as the scene keeps them."""
    keepers = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", scene)
    texts = [keeper.GetParameter("labels") for keeper in keepers if keeper.GetAttribute(ROLE) == "work"]
    return labels_from_text(texts[0] if texts else "")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
