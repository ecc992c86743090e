"""At the end of a run: the last model's scores on the validation cases, cases in pictures, one page with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from SemiSegLib.compute.devices import Compute
from SemiSegLib.data.cases import Case, CaseList, read_case
from SemiSegLib.data.geometry import canonical, from_array, to_array, volumes_ml
from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import write_whole
from SemiSegLib.inference.predictor import Prediction, Predictor
from SemiSegLib.metrics import CaseMetrics, case_metrics, summarise
from SemiSegLib.models import load_model
from SemiSegLib.report import (
    case_figure,
    case_rows,
    curves_figure,
    score_header,
    strip_picture,
    summary_rows,
    text_table,
)
from SemiSegLib.run_page import Strip, write_page
from SemiSegLib.runs import RunFolder, write_json

if TYPE_CHECKING:
    import SimpleITK as sitk

_PICTURES = 3  # large ones
STRIPS = 12  # unlabelled cases on the page, unless more are asked for: predicting hundreds takes its time


def write_summary(run: RunFolder, cases: CaseList, compute: Compute, strips: int | None = STRIPS) -> None:
    """Write report/ about the last model: curves, scores of the validation cases on their own grids, pictures, a page.

    The page shows every validation case and at most `strips` (None: all) unlabelled ones; an unlabelled scan that
    cannot be read or predicted becomes a warning. The few large pictures are of validation cases, else unlabelled ones.
    """
    run.report.mkdir(exist_ok=True)
    curves_figure(run.history(), run.report / "curves.png")
    predictor = Predictor(load_model(run.last_model), compute)
    validation = _validation(run, cases.validation, predictor) if cases.validation else []
    large = 0 if cases.validation else _PICTURES
    shown = spread(cases.unlabelled, strips)
    found = [_unlabelled(run, case, predictor, index < large) for index, case in enumerate(shown)]
    if large and not shown:
        for case in cases.labelled[:large]:
            scan, reference = _read(case)
            _draw(run, case.name, predictor(scan), reference, predictor, None)
    write_page(run, validation, [strip for strip in found if strip], len(cases.unlabelled))


def spread(cases: Sequence[Case], count: int | None) -> list[Case]:
    """At most `count` of the cases, at equal steps through the list."""
    if count is None or count >= len(cases):
        return list(cases)
    return [cases[index * len(cases) // count] for index in range(count)]


def _validation(run: RunFolder, cases: Sequence[Case], predictor: Predictor) -> list[Strip]:
    """Write the scores and some pictures; the cases' strips, the lowest DSC first."""
    scores: dict[str, CaseMetrics] = {}
    strips = []
    for index, case in enumerate(cases):
        scan, reference = _read(case)
        assert reference is not None
        prediction = predictor(scan)
        ignore = predictor.data.ignore_value
        found = case_metrics(to_array(prediction.mask), reference, scan.GetSpacing(), _labels(predictor), ignore)
        if index < _PICTURES:
            _draw(run, case.name, prediction, reference, predictor, found)
        strips.append((_mean_dsc(found), _strip(case.name, prediction, reference, predictor, _scores_text(found))))
        scores[case.name] = found
    summary = summarise(list(scores.values()))
    card = predictor.card
    model = {"which": "last", "iteration": card.iteration, "network": card.network}
    heading = f"The last model (iteration {card.iteration}, {card.network}), which predicts, on the validation cases:"
    table = heading + "\n\n" + text_table(score_header(), [*case_rows(scores), *summary_rows(summary)])
    write_whole(run.report / "validation.txt", table + "\n")
    write_json(run.report / "validation.json", {"model": model, "cases": scores, "summary": summary})
    run.event("message", level="info", text=table)
    return [strip for _, strip in sorted(strips, key=lambda pair: pair[0])]


def _unlabelled(run: RunFolder, case: Case, predictor: Predictor, large: bool) -> Strip | None:
    try:
        prediction = predictor(_read(case)[0])
    except SemiSegError as error:
        run.event("message", level="warning", text=f"no picture of {case.name}: {error}")
        return None
    if large:
        _draw(run, case.name, prediction, None, predictor, None)
    measured = volumes_ml(to_array(prediction.mask), _labels(predictor), prediction.scan)
    volumes = (f"{name} {ml:.1f} ml" for name, ml in measured.items())
    return _strip(case.name, prediction, None, predictor, ", ".join(volumes))


def _read(case: Case) -> tuple[sitk.Image, np.ndarray | None]:
    scan, mask = read_case(case)
    return scan, None if mask is None else to_array(mask.image)


def _labels(predictor: Predictor) -> dict[str, int]:
    return {label.name: label.value for label in predictor.data.labels}


def _mean_dsc(scores: CaseMetrics) -> float:
    return float(np.mean([values["dsc"] for values in scores.values()]))


def _scores_text(scores: CaseMetrics) -> str:
    several = len(scores) > 1
    parts = (
        f"{f'{name} ' if several else ''}DSC {100 * values['dsc']:.1f} %, HD95 {values['hd95_mm']:.1f} mm"
        for name, values in scores.items()
    )
    return "; ".join(parts).replace("nan mm", "undefined")


def _canonical(array: np.ndarray, prediction: Prediction) -> np.ndarray:
    return to_array(canonical(from_array(array, prediction.scan)))


def _strip(
    name: str, prediction: Prediction, reference: np.ndarray | None, predictor: Predictor, caption: str
) -> Strip:
    scan = canonical(prediction.scan)
    picture = strip_picture(
        to_array(scan),
        None if reference is None else _canonical(reference, prediction),
        to_array(canonical(prediction.mask)),
        scan.GetSpacing(),
        _labels(predictor),
    )
    return Strip(name, caption, picture)


def _draw(
    run: RunFolder,
    name: str,
    prediction: Prediction,
    reference: np.ndarray | None,
    predictor: Predictor,
    scores: dict[str, Any] | None,
) -> None:
    scan = canonical(prediction.scan)
    dsc = "" if scores is None else f", DSC {100 * _mean_dsc(scores):.1f} %"
    case_figure(
        to_array(scan),
        None if reference is None else _canonical(reference, prediction),
        to_array(canonical(prediction.mask)),
        np.stack([to_array(canonical(channel)) for channel in prediction.sdm()]),
        scan.GetSpacing(),
        _labels(predictor),
        run.report / "cases" / f"{name}.png",
        f"{name}{dsc}",
    )
