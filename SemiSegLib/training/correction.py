"""Whether a round of correction paid on the scans that were corrected: the model that it began from, and its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from SemiSegLib.compute.devices import Compute
from SemiSegLib.data.cases import Case, CaseList, read_case
from SemiSegLib.data.geometry import to_array
from SemiSegLib.inference.predictor import Predictor
from SemiSegLib.metrics import case_metrics
from SemiSegLib.models import Model, load_model
from SemiSegLib.runs import RunError, RunFolder, write_json
from SemiSegLib.training.intent import Intent

MOST_CASES = 12  # the last ones by name are left out: each costs two predictions
WORSE = 0.005  # DSC; less is what two trainings of the same scans differ by (a choice)


def compare_on_corrected(run: RunFolder, cases: CaseList, compute: Compute) -> None:
    """Write report/corrected.json and say what it holds: the DSC of each corrected scan before and after the round.

    At most MOST_CASES are compared. Nothing is written where no scan was corrected, or training began from no model, or
    that model is gone or of other labels.
    """
    corrected = [case for case in cases.labelled if case.origin == "corrected"][:MOST_CASES]
    intent = Intent.read(run)
    try:
        before = intent.initial_model() if intent is not None else None
    except RunError:
        return
    if before is None or not corrected:
        return
    models = {"before": before, "after": run.last_model}
    if _labels(load_model(before)) != _labels(load_model(run.last_model)):
        return  # their DSC are of other structures
    scores = {when: _scores(path, corrected, compute) for when, path in models.items()}
    rows = {case.name: {when: scores[when][case.name] for when in models} for case in corrected}
    first, last = (float(np.mean([row[when] for row in rows.values()])) for when in models)
    write_json(run.report / "corrected.json", {"from": str(before), "cases": rows, "before": first, "after": last})
    text = f"{len(corrected)} corrected scans: DSC {first:.3f} with the model before this round, {last:.3f} now."
    if last < first - WORSE:
        advice = f"It is still at {before}: train longer, or go on with it."
        run.event("message", level="warning", text=f"{text} The model before was better on them. {advice}")
    else:
        run.event("message", level="info", text=text)


def _labels(model: Model) -> dict[str, int]:
    return {label.name: label.value for label in model.card.settings.data.labels}


def _scores(model: Path, cases: Sequence[Case], compute: Compute) -> dict[str, float]:
    """Mean DSC over the classes, by case."""
    loaded = load_model(model)
    predictor, labels, scores = Predictor(loaded, compute), _labels(loaded), {}
    for case in cases:
        scan, mask = read_case(case)
        assert mask is not None
        found = to_array(predictor(scan).mask)
        metrics = case_metrics(found, to_array(mask.image), scan.GetSpacing(), labels, predictor.data.ignore_value)
        scores[case.name] = float(np.mean([values["dsc"] for values in metrics.values()]))
    return scores
