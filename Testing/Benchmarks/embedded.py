"""How a model does on scans that nobody cropped: validation scans laid into a larger field of view.

    python embedded.py --model left-atrium-lge --data LA --splits LA/splits.json:development --labelled 8

Scans of the left atrium are cropped around it everywhere in the literature; a clinician's are not. Each validation scan
is predicted as it is and in the middle of a canvas --factor times its size, whose rest is filled in three ways:

background  the scan's darkest intensity, as air would be
mirrored    the scan's own mirror image, again and again; its mirrored atria are not scored, neither found nor missed
other       tissue of another scan from beside its annotated structures, mirrored to fill the canvas, matched in mean
            and standard deviation: a context without anything to find

Scored on the whole canvas, so that what is found in the context counts as wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SemiSegLib.constants import IGNORE
from SemiSegLib.errors import SemiSegError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from SemiSegLib.data.cases import Case

CONTEXTS = ("background", "mirrored", "other")
_BLEND = 4  # voxels over which a scan fades into its context
_GAP = 2  # voxels between an annotated structure and the tissue that is taken from beside it


@dataclass(frozen=True)
class Embedded:
    """A canvas: intensities, mask (IGNORE: not scored), and where in it the scan lies. Axes x, y, z."""

    image: np.ndarray
    mask: np.ndarray
    place: tuple[slice, ...]


def embed(image: np.ndarray, mask: np.ndarray, factors: Sequence[float], context: str, other: np.ndarray) -> Embedded:
    """The scan in the middle of a canvas `factors` times its size; its own voxels are unchanged.

    `other`: tissue for the context of that name, see `tissue_beside`.
    """
    before = [int((factor - 1) * side / 2) for factor, side in zip(factors, image.shape, strict=True)]
    canvas = tuple(side + 2 * margin for side, margin in zip(image.shape, before, strict=True))
    place = tuple(slice(margin, margin + side) for margin, side in zip(before, image.shape, strict=True))
    margins = [(margin, margin) for margin in before]
    labels = np.zeros(canvas, np.uint8)
    if context == "background":
        filled = np.full(canvas, image.min(), np.float32)
    elif context == "mirrored":
        filled = np.pad(image, margins, mode="symmetric").astype(np.float32)
        labels[np.pad(mask, margins, mode="symmetric") > 0] = IGNORE
    else:
        filled = _matched(_tiled(other, canvas), image[mask == 0])
    weight = _fading(image.shape, before)
    filled = weight * np.pad(image, margins, mode="edge") + (1 - weight) * filled
    filled[place], labels[place] = image, mask
    return Embedded(filled.astype(np.float32), labels, place)


def tissue_beside(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The thickest slab of a scan beside its annotated structures; raises SemiSegError where there is none."""
    slabs = []
    for axis in range(image.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(image.ndim) if a != axis)))
        slabs += [(inside[0] - _GAP, axis, slice(None, max(0, inside[0] - _GAP)))]
        slabs += [(image.shape[axis] - inside[-1] - 1 - _GAP, axis, slice(inside[-1] + 1 + _GAP, None))]
    thickness, axis, part = max(slabs, key=lambda slab: slab[0])
    if thickness < 1:
        raise SemiSegError("the annotated structures reach all sides of the scan: there is no tissue beside them")
    return image[(slice(None),) * axis + (part,)]


def _tiled(tissue: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The tissue mirrored at its sides again and again up to `shape`."""
    indices = []
    for side, wanted in zip(tissue.shape, shape, strict=True):
        position = np.arange(wanted) % (2 * side)
        indices.append(np.minimum(position, 2 * side - 1 - position))
    return tissue[np.ix_(*indices)].astype(np.float32)


def _matched(context: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    scaled = (context - context.mean()) / max(float(context.std()), 1e-6)
    return np.clip(scaled * tissue.std() + tissue.mean(), tissue.min(), tissue.max())


def _fading(shape: Sequence[int], before: Sequence[int]) -> np.ndarray:
    """1 in the scan, down to 0 at _BLEND voxels from it; broadcast over the axes."""
    weight = np.ones((1,) * len(shape), np.float32)
    for axis, (side, margin) in enumerate(zip(shape, before, strict=True)):
        position = np.arange(side + 2 * margin)
        away = np.maximum(margin - position, position - (margin + side - 1))
        along = np.clip(1 - away / _BLEND, 0, 1).astype(np.float32)
        weight = weight * along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return weight


def as_image(array: np.ndarray, place: Sequence[slice], scan: sitk.Image) -> sitk.Image:
    """The canvas around the scan in the patient's space."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing(scan.GetSpacing())
    image.SetDirection(scan.GetDirection())
    image.SetOrigin(scan.TransformContinuousIndexToPhysicalPoint([-float(part.start) for part in place]))
    return image


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Scores of every validation case, plain and in each context; raises SemiSegError."""
    from SemiSegLib.api import Predictor
    from SemiSegLib.data.cases import read_case
    from SemiSegLib.data.geometry import to_array
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.data.splits import apply_splits

    cases = apply_splits(find_cases(options.data), options.splits, options.labelled)
    validation = cases.validation[: options.cases]
    if not validation:
        raise SemiSegError(f"{options.splits} names no cases to validate with")
    predictor = Predictor(options.model, options.device)
    scores: dict[str, dict[str, Any]] = {context: {} for context in ("plain", *options.contexts)}
    for number, case in enumerate(validation):
        scan, given = read_case(case)
        assert given is not None
        image, mask = to_array(scan), to_array(given.image).astype(np.uint8)
        donor = _tissue_of(cases.labelled[number % len(cases.labelled)])
        scores["plain"][case.name] = _score(predictor, Embedded(image, mask, (slice(0, None),) * 3), scan)
        for context in options.contexts:
            found = _score(predictor, embed(image, mask, options.factor, context, donor), scan)
            scores[context][case.name] = found
        said = ", ".join(f"{context} {100 * found[case.name]['dsc']:.1f}" for context, found in scores.items())
        print(f"{case.name}: DSC {said}", file=sys.stderr, flush=True)
    settings = {"model": str(options.model), "factor": list(options.factor), "cases": len(validation)}
    return {"format": "semiseg-benchmark-embedded-1", **settings, "scores": scores}


def _tissue_of(case: Case) -> np.ndarray:
    from SemiSegLib.data.cases import read_case
    from SemiSegLib.data.geometry import to_array

    scan, mask = read_case(case)
    assert mask is not None
    return tissue_beside(to_array(scan), to_array(mask.image))


def _score(predictor: Any, canvas: Embedded, scan: sitk.Image) -> dict[str, float]:
    """Means over the classes; ml that were found outside the scan; seconds."""
    from SemiSegLib.metrics import case_metrics

    begun = time.perf_counter()
    found = predictor.predict(as_image(canvas.image, canvas.place, scan)).mask
    seconds = time.perf_counter() - begun
    classes = case_metrics(found, canvas.mask, scan.GetSpacing(), predictor.labels, IGNORE)
    means = {key: float(np.mean([scores[key] for scores in classes.values()])) for key in ("dsc", "hd95_mm", "assd_mm")}
    outside = (found > 0) & (canvas.mask != IGNORE)
    outside[canvas.place] = False
    return {**means, "outside_ml": float(outside.sum() * np.prod(scan.GetSpacing()) / 1000), "seconds": seconds}


def table(result: dict[str, Any]) -> str:
    """The contexts side by side, as Markdown; differences are those of the same scans."""
    from SemiSegLib.report import markdown_table

    rows, plain = [], result["scores"]["plain"]
    for context, scores in result["scores"].items():
        values = {key: np.array([case[key] for case in scores.values()]) for key in next(iter(scores.values()))}
        lost = 100 * np.array([scores[name]["dsc"] - plain[name]["dsc"] for name in scores])
        rows.append(
            [
                context,
                f"{100 * values['dsc'].mean():.2f}",
                "–" if context == "plain" else f"{lost.mean():+.2f} [{lost.min():+.1f}, {lost.max():+.1f}]",
                f"{100 * values['dsc'].min():.1f}",
                f"{np.nanmean(values['hd95_mm']):.1f}",
                f"{values['outside_ml'].mean():.2f}",
                f"{np.median(values['seconds']):.1f}",
            ]
        )
    header = ["scan", "DSC [%]", "− plain [range]", "worst DSC", "HD95 [mm]", "found outside [ml]", "time [s]"]
    return markdown_table(header, rows)


def main() -> int:
    """Measure, and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, help="name, run folder or file")
    add("--data", type=Path, required=True)
    add("--splits", metavar="FILE:NAME", required=True, help="the split that names the scans to validate with")
    add("--labelled", type=int, metavar="N", help="annotated scans that tissue is taken from, as in training")
    add("--cases", type=int, metavar="N", help="only the first N of them")
    add(
        "--factor",
        type=_factors,
        default=(1.8, 1.8, 1.0),
        metavar="X,Y,Z",
        help="canvas over scan (default: 1.8,1.8,1)",
    )
    add("--contexts", nargs="+", choices=CONTEXTS, default=list(CONTEXTS))
    add("--device", default="auto")
    add("--json", type=Path, help="also write all scores here")
    options = parser.parse_args()
    try:
        result = measure(options)
    except SemiSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    return 0


def _factors(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(values) != 3 or min(values) < 1:
        raise argparse.ArgumentTypeError("write X,Y,Z, none below 1")
    return values


if __name__ == "__main__":
    sys.exit(main())
