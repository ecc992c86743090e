"""What to look at before masks are given away: each remark names a case, says why, and where in the scan that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

from SemiSegLib.config import Label

from ..i18n import _
from . import segments, volumes
from .case import Case
from .training_files import Progress

FEWEST_VOLUMES = 5  # of fewer scans nobody can say which one is unusual (our choice)
FAR = 3.5  # median absolute deviations, as Iglewicz and Hoaglin (1993) suggest for outliers
SMALL_PART = 0.001  # of the structure: smaller parts and holes are specks (our choice)
UNSURE = 0.8  # mean probability in the mask (our choice)


@dataclasses.dataclass(frozen=True)
class Remark:
    """Something unusual; `place` is in the world (RAS, mm), None where it is nowhere in particular."""

    case: Case
    text: str
    place: tuple[float, float, float] | None


def check_masks(cases: Iterable[Case], labels: Sequence[Label], progress: Progress | None = None) -> list[Remark]:
    """All remarks on what is shown for these cases, in their order."""
    shown = [case for case in cases if case.shown_segmentation() is not None]
    remarks = {}
    for number, case in enumerate(shown):
        if progress:
            progress(number, len(shown), case.name)
        remarks[case.id] = (
            _of_no_label(case, labels) or _slices_alone(case) or [*_uncertain(case), *_shapes(case, labels)]
        )
    whole = [case for case in shown if not _slices_alone(case)]
    for remark in _volumes_far_from_the_others(whole, labels):
        remarks[remark.case.id].insert(0, remark)
    return [remark for case in shown for remark in remarks[case.id]]


def _of_no_label(case: Case, labels: Sequence[Label]) -> list[Remark]:
    """Nothing else can be said of such a mask: it would be given away as an empty one."""
    strays = segments.strays(case.shown_segmentation(), labels)
    text = _("All that is drawn is in {names}: that is no label of the task")
    return [Remark(case, text.format(names=", ".join(strays)), None)] if strays else []


def _slices_alone(case: Case) -> list[Remark]:
    """Neither the volume nor the shape of such a mask says anything."""
    if not (case.partial and case.has_drawing):
        return []
    slices = {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}[case.partial]
    text = _("Only {slices} slices are annotated: elsewhere this mask is empty")
    return [Remark(case, text.format(slices=slices), None)]


def _uncertain(case: Case) -> list[Remark]:
    if case.done or case.confidence is None or case.confidence >= UNSURE:
        return []
    return [Remark(case, _("The network is not sure: {value:.2f}").format(value=case.confidence), None)]


def _volumes_far_from_the_others(cases: Sequence[Case], labels: Sequence[Label]) -> list[Remark]:
    remarks = []
    measured = {case.id: case.volumes_ml(labels) for case in cases}
    for label in labels:
        with_label = [case for case in cases if label.value in measured[case.id]]
        amounts = np.array([measured[case.id][label.value] for case in with_label])
        if len(amounts) < FEWEST_VOLUMES:
            continue
        middle = float(np.median(amounts))
        deviation = 1.4826 * float(np.median(np.abs(amounts - middle)))
        for case, amount in zip(with_label, amounts, strict=True):
            if deviation > 0 and abs(amount - middle) / deviation > FAR:
                text = _("{label}: {amount:.1f} ml, while {middle:.1f} ml are usual here")
                remarks.append(Remark(case, text.format(label=label.name, amount=amount, middle=middle), None))
    return remarks


def _shapes(case: Case, labels: Sequence[Label]) -> list[Remark]:
    """Several parts, holes, and masks that the border of the scan cuts off; one remark each and label."""
    mask = segments.voxels_on_grid(case.shown_segmentation(), case.volume, labels)
    to_world = segments.world_matrix(case.volume) @ volumes.ijk_to_ras(case.volume)
    remarks = []
    for label in labels:
        structure = mask == label.value
        for text, voxel in _findings(structure, mask > 0, label.name):
            place = (to_world @ [*voxel[::-1], 1.0])[:3]
            remarks.append(Remark(case, text, tuple(float(part) for part in place)))
    return remarks


def _findings(structure: np.ndarray, drawn: np.ndarray, name: str) -> list[tuple[str, np.ndarray]]:
    """Text and voxel (k, j, i) of what is unusual about one structure; `drawn` is all of the mask."""
    if not structure.any():
        return []
    window = tuple(
        slice(max(0, part.start - 1), part.stop + 1) for part in ndimage.find_objects(structure.astype(np.uint8))[0]
    )
    first = np.array([part.start for part in window])
    inner, all_drawn = structure[window], drawn[window]
    least = max(2, SMALL_PART * np.count_nonzero(inner))
    found = []
    parts = _components(inner, least)
    if len(parts) > 1:
        found.append((_("{name}: {count} parts").format(name=name, count=len(parts)), parts[-1] + first))
    holes = _components(ndimage.binary_fill_holes(all_drawn) & ~all_drawn, least)
    if holes:
        text = _("{name}: a hole") if len(holes) == 1 else _("{name}: {count} holes")
        found.append((text.format(name=name, count=len(holes)), holes[0] + first))
    for axis in range(3):
        for end in (0, structure.shape[axis] - 1):
            face = np.take(structure, end, axis)
            if face.any():
                voxel = np.insert(np.argwhere(face).mean(axis=0), axis, end)
                return [*found, (_("{name}: cut off by the border of the scan").format(name=name), voxel)]
    return found


def _components(array: np.ndarray, least: float) -> list[np.ndarray]:
    """The middles (k, j, i) of connected parts of at least so many voxels, the largest first."""
    numbered, count = ndimage.label(array)
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    chosen = [number for number in np.argsort(-sizes) if sizes[number] >= least]
    return [np.argwhere(numbered == number + 1).mean(axis=0) for number in chosen]
