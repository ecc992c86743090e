"""What the settings leave open is taken from the scans: labels, spacing, patch size, plan of the run."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from SemiSegLib.config import DataSettings, Label, Settings, SettingsError
from SemiSegLib.constants import IGNORE, SPARE_COLORS
from SemiSegLib.data.cases import Case, CaseList, listed
from SemiSegLib.data.geometry import to_array
from SemiSegLib.data.images import read_geometry, read_mask, relabel
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.errors import SemiSegError

logger = logging.getLogger(__name__)

_PATCH_VOXELS = {2: 256 * 256, 3: 96 * 96 * 96}  # of an automatic patch: the size of the literature's


def complete(settings: Settings, cases: CaseList) -> None:
    """Fill in labels, spacing and patch size where they are open; raises SemiSegError when that is impossible."""
    if not cases.labelled:
        raise SemiSegError("No case is annotated: training needs at least one, better four or more.")
    if not settings.data.labels:
        settings.data.labels = list(cases.labels or _labels_in(cases.labelled, settings.data))
    _refuse_other_numbers(settings, cases)
    _warn_of_other_names(settings, cases)
    sizes, spacings = _geometry([*cases.labelled, *cases.unlabelled][:50])
    if settings.data.dimensions == 3 and np.median(sizes[:, 2]) == 1:
        logger.warning(
            "%s: most scans are single slices, and a network of volumes sees little but padding in them: stop, and add "
            "--set data.dimensions=2.",
            cases.root,
        )
    if settings.data.spacing is None:
        settings.data.spacing = _median_spacing(spacings, settings.data.dimensions)
    if settings.training.patch_size is None:
        settings.training.patch_size = automatic_patch(sizes, spacings, settings.data)
    settings.check()


def _refuse_other_numbers(settings: Settings, cases: CaseList) -> None:
    """Masks are read by their numbers: where the data gives a class another one than the task, it would be mistaken."""
    wanted = {label.name.casefold(): label.value for label in settings.data.labels}
    for label in cases.labels or []:
        value = wanted.get(label.name.casefold(), label.value)
        if value != label.value:
            raise SettingsError(
                f"{cases.root}: its masks have {label.name} as {label.value}, the task '{settings.preset}' as {value}, "
                "so classes would be mistaken for each other. Name them as they are: --set "
                f'"data.labels={_as_text(cases.labels or [])}".'
            )


def _warn_of_other_names(settings: Settings, cases: CaseList) -> None:
    """Masks are read by their numbers: other names for these may be synonyms, or other structures."""
    wanted = {label.value: label.name for label in settings.data.labels}
    pairs = [(label, wanted.get(label.value, label.name)) for label in cases.labels or []]
    unlike = [f"{own.value} '{own.name}' ('{name}')" for own, name in pairs if own.name.casefold() != name.casefold()]
    if unlike:
        logger.warning(
            "%s: its masks call %s, in brackets what the task '%s' calls them. If these are not the same structures, "
            'stop and name the masks\' own: --set "data.labels=%s".',
            cases.root,
            listed(unlike),
            settings.preset,
            _as_text(cases.labels or []),
        )


def _as_text(labels: Sequence[Label]) -> str:
    """Labels as `--set data.labels=` reads them."""
    return ",".join(f"{label.value}:{label.name}" for label in labels)


def automatic_patch(sizes: np.ndarray, spacings: np.ndarray, data: DataSettings) -> tuple[int, ...]:
    """Multiples of 16 with the proportions of the median scan, as many voxels as the literature's patches."""
    assert data.spacing is not None
    target = np.where(np.array(data.spacing) > 0, data.spacing, np.median(spacings, 0))
    extent = np.median(sizes * spacings / target, 0)[: data.dimensions]
    factor = min(1.0, (_PATCH_VOXELS[data.dimensions] / math.prod(extent)) ** (1 / data.dimensions))
    sides = [int(max(16, round(side * factor / 16) * 16)) for side in extent]
    sides[int(np.argmax(extent))] = max(32, *sides)  # two voxels at the coarsest resolution, to be normalised
    return tuple(sides)


def _median_spacing(spacings: np.ndarray, dimensions: int) -> tuple[float, ...]:
    middle = np.median(spacings, axis=0)
    if dimensions == 2:
        return (float(middle[0]), float(middle[1]), 0.0)
    return tuple(round(float(s), 4) for s in middle)


def _geometry(cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (voxels) and spacings (mm) of scans along their canonical axes, (n, 3) each."""
    sizes, spacings = [], []
    for case in cases:
        geometry = read_geometry(case.image)
        # Each axis of the file is one of the patient's: of slices turned about two axes, two may be nearest to one.
        axes = [next(j for j, end in enumerate(geometry.orientation) if end in ends) for ends in ("LR", "PA", "SI")]
        sizes.append(np.array(geometry.size, float)[axes])
        spacings.append(np.array(geometry.spacing)[axes])
    return np.array(sizes), np.array(spacings)


def look_at_masks(cases: Sequence[Prepared], data: DataSettings) -> list[str]:
    """What to warn of in the masks that training learns from; raises SettingsError where none holds a structure."""
    drawn = [[len(voxels) > 0 for voxels in case.foreground()] for case in cases]
    bare = [case for case, found in zip(cases, drawn, strict=True) if not any(found)]
    unknown = [case.name for case in bare if (case.mask() == IGNORE).any()]
    if len(bare) == len(cases):
        raise SettingsError(_no_foreground([case.name for case in cases], data, bool(unknown)))
    absent = [label.name for label, found in zip(data.labels, zip(*drawn, strict=True), strict=True) if not any(found)]
    notes = []
    if absent:
        notes.append(f"No annotated mask holds {listed(absent)}: it will not be learnt.")
    if unknown:
        notes.append(
            f"The masks of {listed(unknown)} hold nothing but background and {data.ignore_value}, which says that "
            "nobody annotated there: no structure is learnt from them."
        )
    return notes


def _no_foreground(names: Sequence[str], data: DataSettings, ignored: bool) -> str:
    text = f"The masks of {listed(names)} hold no foreground: nothing to learn from. Check these label files."
    if not ignored:
        return text
    value, other = data.ignore_value, 254 if data.ignore_value == 255 else 255
    return (
        f"{text} They hold {value}, which says that nobody annotated there; if it is a structure, add "
        f'--set "data.labels={value}:NAME" --set data.ignore_value={other}.'
    )


def _labels_in(cases: Sequence[Case], data: DataSettings) -> list[Label]:
    """Labels named by the masks' own files (.seg.nrrd), or one for each value that occurs."""
    values: set[int] = set()
    for case in cases:
        assert case.label is not None
        mask = relabel(read_mask(case.label, case.label_frame), case.label_values or {})
        named = [label for label in mask.labels or [] if label.value != data.ignore_value]
        if named:
            return named
        values |= {int(value) for value in np.unique(to_array(mask.image))}
    ignored = data.ignore_value in values
    values -= {0, data.ignore_value}
    if not values:
        raise SettingsError(_no_foreground([case.name for case in cases], data, ignored))
    return [Label(v, f"label {v}", SPARE_COLORS[i % len(SPARE_COLORS)]) for i, v in enumerate(sorted(values))]
