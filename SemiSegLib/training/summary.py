"""At the end of a run: the model on the validation cases in numbers, and a few cases in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SemiSegLib.compute.devices import Compute
from SemiSegLib.data.cases import Case, CaseList, read_case
from SemiSegLib.data.geometry import canonical, from_array, to_array
from SemiSegLib.inference.predictor import Prediction, Predictor
from SemiSegLib.metrics import case_metrics, summarise
from SemiSegLib.models import load_model
from SemiSegLib.report import case_figure, case_rows, curves_figure, score_header, summary_rows, text_table
from SemiSegLib.runs import RunFolder, write_json, write_whole

_PICTURES = 3


def write_summary(run: RunFolder, cases: CaseList, compute: Compute) -> None:
    """Write report/: scores of the last model on the validation cases on their own grids, pictures, curves.

    Without a validation part the pictures show unlabelled (else labelled) cases and there are no scores.
    """
    run.report.mkdir(exist_ok=True)
    curves_figure(run.history(), run.report / "curves.png")
    predictor = Predictor(load_model(run.last_model), compute)
    if cases.validation:
        _score(run, cases.validation, predictor)
    else:
        for case in (cases.unlabelled or cases.labelled)[:_PICTURES]:
            _picture(run, case, predictor)


def _score(run: RunFolder, cases: Sequence[Case], predictor: Predictor) -> None:
    labels = {label.name: label.value for label in predictor.data.labels}
    ignore = predictor.data.ignore_value
    scores = {}
    for index, case in enumerate(cases):
        scan, mask = read_case(case)
        prediction = predictor(scan)
        assert mask is not None
        reference = to_array(mask.image)
        scores[case.name] = case_metrics(to_array(prediction.mask), reference, scan.GetSpacing(), labels, ignore)
        if index < _PICTURES:
            _draw(run, case.name, prediction, reference, labels, scores[case.name])
    summary = summarise(list(scores.values()))
    card = predictor.card
    model = {"which": "last", "iteration": card.iteration, "network": card.network}
    heading = f"The last model (iteration {card.iteration}, {card.network}), which predicts, on the validation cases:"
    table = heading + "\n\n" + text_table(score_header(), [*case_rows(scores), *summary_rows(summary)])
    write_whole(run.report / "validation.txt", table + "\n")
    write_json(run.report / "validation.json", {"model": model, "cases": scores, "summary": summary})
    run.event("message", level="info", text=table)


def _picture(run: RunFolder, case: Case, predictor: Predictor) -> None:
    scan, mask = read_case(case)
    labels = {label.name: label.value for label in predictor.data.labels}
    _draw(run, case.name, predictor(scan), None if mask is None else to_array(mask.image), labels, None)


def _draw(
    run: RunFolder,
    name: str,
    prediction: Prediction,
    reference: np.ndarray | None,
    labels: dict[str, int],
    scores: dict[str, dict[str, float]] | None,
) -> None:
    def turned(array: np.ndarray) -> np.ndarray:
        return to_array(canonical(from_array(array, prediction.scan)))

    scan = canonical(prediction.scan)
    sdm = np.stack([to_array(canonical(channel)) for channel in prediction.sdm()])
    dsc = "" if scores is None else f", DSC {100 * np.nanmean([s['dsc'] for s in scores.values()]):.1f} %"
    case_figure(
        to_array(scan),
        None if reference is None else turned(reference),
        to_array(canonical(prediction.mask)),
        sdm,
        scan.GetSpacing(),
        labels,
        run.report / f"{name}.png",
        f"{name}{dsc}",
    )
