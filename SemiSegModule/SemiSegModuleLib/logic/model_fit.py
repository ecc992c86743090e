"""Whether a model suits the scans at hand, before it predicts: what a person should know, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SemiSegLib.config import Label

from ..i18n import _
from ..scene.case import Case
from .model_card import ModelCard

COARSER = 2.0  # times the model's spacing: details that it learnt to see are not there (our choice)
SMALLEST_VIEW = 0.5  # of the patch that the model looks at (our choice)
AIR_CT = -500.0  # Hounsfield units; no MR or ultrasound scan holds values below zero so far


def misfits(card: ModelCard, own: Sequence[Label], cases: Sequence[Case], labels: Sequence[Label]) -> list[str]:
    """Why the model may not suit these scans; empty when nothing speaks against it.

    :param own: the model's labels, in the words of the study
    """
    return [*_labels(own, labels), *_scans(card, cases)]


def _labels(own_labels: Sequence[Label], labels: Sequence[Label]) -> list[str]:
    own, wanted = ([label.name for label in some] for some in (own_labels, labels))
    if {name.casefold() for name in own} == {name.casefold() for name in wanted}:
        return []
    text = _("The model segments {own}; this study wants {wanted}.")
    return [text.format(own=", ".join(own), wanted=", ".join(wanted))]


def _scans(card: ModelCard, cases: Sequence[Case]) -> list[str]:
    own_axes = np.array(card.settings.data.spacing or ()) > 0  # 0: as the scan has it
    spacing = np.array(card.settings.data.spacing or (), float)[own_axes]
    reach = spacing * np.array(card.settings.training.patch_size, float)[: len(own_axes)][own_axes]
    found: dict[str, list[Case]] = {}
    for case in cases:
        image = case.volume.GetImageData() if case.volume is not None else None
        if image is None:
            continue
        own = np.sort(np.array(case.volume.GetSpacing()))
        view = np.sort(np.array(image.GetDimensions()) * np.array(case.volume.GetSpacing()))
        axes = len(spacing)
        if (own[:axes] > COARSER * np.sort(spacing)).any():
            found.setdefault("coarse", []).append(case)
        if (view[len(view) - axes :] < SMALLEST_VIEW * np.sort(reach)).any():
            found.setdefault("small", []).append(case)
        if _looks_like_ct(case) != (_is_for_ct(card)):
            found.setdefault("modality", []).append(case)
    return [_scan_text(kind, some, card) for kind, some in found.items()]


def _scan_text(kind: str, cases: Sequence[Case], card: ModelCard) -> str:
    names = ", ".join(case.name for case in cases[:3]) + (" …" if len(cases) > 3 else "")
    spacing = " × ".join(f"{part:g}" for part in card.settings.data.spacing or () if part)
    return {
        "coarse": _("{names}: voxels more than twice as large as those the model learnt from ({spacing} mm)."),
        "small": _("{names}: shows less than half of what the model looks at in one piece."),
        "modality": _("{names}: looks like CT, the model learnt from other scans.")
        if not _is_for_ct(card)
        else _("{names}: does not look like CT, from which the model learnt."),
    }[kind].format(names=names, spacing=spacing)


def _is_for_ct(card: ModelCard) -> bool:
    window = card.settings.data.window
    return window is not None and window[0] < 0


def _looks_like_ct(case: Case) -> bool:
    return case.volume.GetImageData().GetScalarRange()[0] < AIR_CT  # VTK remembers it
