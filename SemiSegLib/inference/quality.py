"""The DSC to expect of a model's masks: its opinions on a scan, judged by what came of such opinions elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SemiSegLib.compute.devices import compute_to_predict
from SemiSegLib.compute.memory import told_of_memory
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.cases import Case, read_case, read_scan
from SemiSegLib.data.geometry import from_array, to_array
from SemiSegLib.data.grid import back_to_scan, to_network_grid
from SemiSegLib.data.preprocess import class_indices
from SemiSegLib.data.writing import write_scalar
from SemiSegLib.errors import SemiSegError
from SemiSegLib.inference.conformal import COVERAGE, LEAST_CASES, Calibration, promised, rank_correlation
from SemiSegLib.inference.ensemble import Ensemble, Opinions, entropy
from SemiSegLib.inference.predictor import Predictor
from SemiSegLib.metrics import dice
from SemiSegLib.models import load_model, model_file, rewrite_card

if TYPE_CHECKING:
    import SimpleITK as sitk

ALL = "all classes"  # as in the tables of SemiSegLib.metrics
FIGURES = ("agreement", "dsc")  # that a card keeps of each case: its score, see `Opinions.score`, and the true DSC
FORMER = "score"  # in cards of an earlier version, which took the probable DSC into it


class QualityError(SemiSegError):
    """A model's quality cannot be estimated or calibrated; the message says what is missing."""


@dataclass(frozen=True)
class Expected:
    """DSC to expect, its interval (None without calibration), and what it was estimated from."""

    expected_dsc: float
    low: float | None
    high: float | None
    empty: bool = False
    agreement: float | None = None
    probable_dice: float | None = None


@dataclass(frozen=True)
class CaseQuality:
    """What to expect of the mask of one scan; `uncertainty` is the file of its map, if one was written."""

    name: str
    whole: Expected
    classes: dict[str, Expected] = field(default_factory=dict)
    uncertainty: Path | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The entry of `cases` in the file."""
        figures = {key: getattr(self.whole, key) for key in ("expected_dsc", "low", "high", "empty")}
        classes = {name: asdict(expected) for name, expected in self.classes.items()}
        place = None if self.uncertainty is None else str(self.uncertainty)
        return {"name": self.name, **figures, "classes": classes, "uncertainty": place, "seconds": self.seconds}


class Judge:
    """A model and the calibration of its card: says of scans how good their masks will be.

    >>> judge = Judge(Path("run"))                                                   # doctest: +SKIP
    >>> judge(Case("scan", Path("scan.nii.gz"))).whole.expected_dsc                  # doctest: +SKIP
    0.88
    """

    def __init__(self, model: Path, device: str = "auto", coverage: float = COVERAGE) -> None:
        loaded = load_model(model)
        self.stored = loaded.card.quality
        compute = compute_to_predict(device, loaded.card.settings.training.precision)
        self.ensemble: Ensemble = Ensemble([Predictor(loaded, compute)])
        views = [view.name for view in self.ensemble.views]
        pairs = self.stored.get("classes", {}) if self.stored.get("views") == views else {}  # else of other figures
        self.former = any(FORMER in x for x in pairs.values())
        score = FORMER if self.former else FIGURES[0]
        self.calibrations = {name: Calibration(tuple(x[score]), tuple(x["dsc"])) for name, x in pairs.items()}
        cases = min((len(x.score) for x in self.calibrations.values() if x.usable), default=0)
        self.coverage = promised(cases, coverage) if cases else None
        self.names = [label.name for label in self.ensemble.data.labels]

    def __call__(self, case: Case, maps: Path | None = None) -> CaseQuality:
        """Judge one scan; its uncertainty map (0 to 1, on the scan's own grid) goes to the folder `maps`."""
        start = time.monotonic()
        opinions, grid, scan = look(case, self.ensemble)
        classes = {name: self._of_class(name, i, opinions) for i, name in enumerate(self.names, start=1)}
        place = None if maps is None else _write_map(opinions, grid, scan, case, maps)
        return CaseQuality(case.name, self._of_case(classes, opinions), classes, place, time.monotonic() - start)

    def _of_class(self, name: str, index: int, opinions: Opinions) -> Expected:
        agreement, probable = opinions.agreement(index), opinions.probable_dice(index)
        if not (opinions.judged == index).any():
            return Expected(0.0, 0.0, 1.0, True, agreement, probable)
        expected = self._expected(self.calibrations.get(name), opinions.score(index, self.former), agreement)
        return Expected(*expected, False, agreement, probable)

    def _of_case(self, classes: dict[str, Expected], opinions: Opinions) -> Expected:
        found = [name for name in self.names if not classes[name].empty]
        if len(self.names) == 1 or not found:
            first = classes[self.names[0]]
            return Expected(first.expected_dsc, first.low, first.high, first.empty)
        score = case_score(opinions, len(self.names), self.former)
        mean = sum(float(classes[name].agreement or 0) for name in found) / len(found)
        return Expected(*self._expected(self.calibrations.get(ALL), score, mean))

    def _expected(
        self, calibration: Calibration | None, score: float, agreement: float
    ) -> tuple[float, float | None, float | None]:
        if calibration is None or not calibration.usable or self.coverage is None:
            return agreement, None, None
        estimate = calibration.estimate(score, self.coverage)
        return estimate.expected, estimate.low, estimate.high

    def describe(self) -> dict[str, Any] | None:
        """The entry `calibration` of the file: how well cases that were left out in turn were estimated."""
        calibration = self.calibrations.get(ALL) or self.calibrations.get(self.names[0])
        if calibration is None or not calibration.usable:
            return None
        rank = rank_correlation(calibration.left_out(), calibration.dsc)
        return {
            "cases": len(calibration.dsc),
            "source": self.stored.get("source", ""),
            "mean_absolute_error": calibration.error(),
            "spearman": None if math.isnan(rank) else rank,
        }


def look(case: Case, ensemble: Ensemble) -> tuple[Opinions, sitk.Image, sitk.Image]:
    """(what the ensemble says of a scan, the grid that this is on, the scan); raises SemiSegError naming the file."""
    try:
        with told_of_memory(case.image):
            scan = read_scan(case)
            grid = to_network_grid(scan, ensemble.data)
            return ensemble.opinions(to_array(grid)), grid, scan
    except SemiSegError as error:
        message = str(error)
        raise QualityError(message if str(case.image) in message else f"{case.image}: {message}") from error


def case_score(opinions: Opinions, classes: int, former: bool = False) -> float:
    """Mean score of the classes that were found, for the mean DSC of the case."""
    found = [index for index in range(1, classes + 1) if (opinions.judged == index).any()]
    return sum(opinions.score(index, former) for index in found) / len(found)


def measure(model: Path, cases: Sequence[Case], device: str = "auto") -> dict[str, Any]:
    """Score and true DSC of annotated cases by class: what an estimate is made from, as `Card.quality` keeps it.

    The DSC is that of the mask which prediction gives, on the scan's own grid; voxels that nobody annotated are left
    out. A class that was not found has no entry for that case. Raises SemiSegError.
    """
    judge = Judge(model, device)
    names = judge.names
    wanted = [*names, ALL] if len(names) > 1 else names
    kept: dict[str, dict[str, list[float]]] = {name: {key: [] for key in FIGURES} for name in wanted}
    for case in cases:
        for name, figures in _measured(case, judge.ensemble, names).items():
            for key, value in zip(FIGURES, figures, strict=True):
                kept[name][key].append(value)
    return {"classes": kept, "views": [view.name for view in judge.ensemble.views]}


def calibrate(model: Path, cases: Sequence[Case], source: str, device: str = "auto") -> None:
    """Measure a model on annotated cases that it has not seen and keep the result in its file.

    :param source: what the cases are, in words
    :raises QualityError: too few cases for an interval
    """
    if len(cases) < LEAST_CASES:
        raise QualityError(
            f"{len(cases)} annotated cases that the model has not seen are too few to calibrate it: at least "
            f"{LEAST_CASES} are needed, and 9 for intervals that hold 90 % of cases."
        )
    keep(model, {"source": source, **measure(model, cases, device)})


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was measured in several goes, as one."""
    names = parts[0]["classes"]
    classes = {
        name: {key: [value for part in parts for value in part["classes"][name][key]] for key in FIGURES}
        for name in names
    }
    return {**parts[0], "classes": classes}


def keep(model: Path, measured: dict[str, Any]) -> None:
    """Write measured pairs into the card of a model's file."""
    path = model_file(model)
    loaded = load_model(path)
    loaded.card.quality = measured
    rewrite_card(path, loaded)


def _measured(case: Case, ensemble: Ensemble, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """FIGURES of each class, and of the case, that can be measured."""
    opinions, grid, scan = look(case, ensemble)
    given = read_case(case)[1]
    assert given is not None
    truth = class_indices(to_array(given.image), case, ensemble.data)
    mask = ensemble.members[0].on_scan(opinions.own, grid, scan).indices
    mask[truth == IGNORE] = IGNORE
    dsc = {i: dice(mask == i, truth == i) for i in range(1, len(names) + 1) if i in mask or i in truth}
    found = [i for i in dsc if (opinions.judged == i).any()]
    result = {names[i - 1]: (opinions.score(i), dsc[i]) for i in found}
    if len(names) > 1 and found:
        result[ALL] = (case_score(opinions, len(names)), sum(dsc.values()) / len(dsc))
    return result


def _write_map(opinions: Opinions, grid: sitk.Image, scan: sitk.Image, case: Case, folder: Path) -> Path:
    foreground = [back_to_scan(channel, grid, scan, 0.0) for channel in opinions.probabilities[1:]]
    background = 1 - np.sum(foreground, axis=0)
    path = folder / f"{case.name}_uncertainty.nii.gz"
    write_scalar(from_array(entropy(np.stack([background, *foreground])), scan), path, case.image)
    return path
