"""From agreement to an expected DSC with an interval: a line fitted on cases whose DSC is known, and their residuals.

On the logit scale the DSC is taken as a straight line of the score (`Calibration.score`). The residual of each case is
that from the line of the other cases; the expected DSC plus and minus their quantile holds a new case's DSC with the
promised probability, as long as it is drawn like the cases the line was fitted on (jackknife prediction intervals:
Barber, Candès, Ramdas, Tibshirani, Annals of Statistics 49, 2021). The quantile of n residuals lies at rank
(n + 1) * coverage, between two residuals where that is no whole number (Beran and Hall, JRSS B 55, 1993): rounding up,
as is usual, would promise less than it holds with the ten or twenty cases there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_CASES = 3
"""A line through two cases, judged by the third."""

COVERAGE = 0.9  # share of cases that intervals hold where nothing else is asked for; a choice
_LEAST = 1e-3  # DSC and agreement are kept so far from 0 and 1, where the logit has no value


@dataclass(frozen=True)
class Estimate:
    """Expected DSC, and the bounds between which it lies with the promised probability."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Scores of cases (logit scale, higher is better) and the DSC each of them turned out to have, 0 to 1."""

    score: tuple[float, ...]
    dsc: tuple[float, ...]

    @property
    def usable(self) -> bool:
        """Whether there are enough cases to estimate from."""
        return len(self.score) >= LEAST_CASES

    def estimate(self, score: float, coverage: float) -> Estimate:
        """What to expect of a case with this score; see `promised` for the coverage that can be had."""
        score_of, dsc_of = np.array(self.score), logit(np.array(self.dsc))
        centre = float(_line(score_of, dsc_of)(score))
        margin = interpolated_quantile(np.abs(self._residuals()), coverage)
        expected, low, high = (float(_sigmoid(x)) for x in (centre, centre - margin, centre + margin))
        # A margin without bound is an interval that says nothing.
        return Estimate(expected, low, high) if math.isfinite(margin) else Estimate(expected, 0.0, 1.0)

    def left_out(self) -> np.ndarray:
        """(n,) the DSC that the other cases let one expect of each case."""
        return _sigmoid(logit(np.array(self.dsc)) - self._residuals())

    def error(self) -> float:
        """Mean absolute difference between the expected DSC of each case left out and its true one, 0 to 1."""
        return float(abs(self.left_out() - self.dsc).mean())

    def _residuals(self) -> np.ndarray:
        """(n,) logit of the DSC minus the value of the other cases' line."""
        score, dsc = np.array(self.score), logit(np.array(self.dsc))
        others = [np.arange(len(score)) != index for index in range(len(score))]
        return np.array([dsc[i] - _line(score[rest], dsc[rest])(score[i]) for i, rest in enumerate(others)])


def promised(cases: int, coverage: float) -> float:
    """The coverage that an interval from so many cases can promise: `coverage`, or n / (n + 1) if that is less."""
    return min(coverage, cases / (cases + 1))


def interpolated_quantile(values: np.ndarray, coverage: float) -> float:
    """The value at rank (n + 1) * coverage of the sorted `values`, counted from 1; infinite beyond the last."""
    ordered = np.sort(values)
    rank = (len(ordered) + 1) * coverage
    if rank > len(ordered) + 1e-9:
        return math.inf
    return float(np.interp(rank, np.arange(1, len(ordered) + 1), ordered))


def logit(share: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of shares, which are first kept within [0.001, 0.999]."""
    kept = np.clip(share, _LEAST, 1 - _LEAST)
    return np.log(kept / (1 - kept))


def rank_correlation(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one of the two is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (first, second)]
    if any(np.ptp(values) == 0 for values in ranks):
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def _sigmoid(value: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(value)))


def _line(x: np.ndarray, y: np.ndarray) -> np.poly1d:
    """The least-squares line, level where it would fall: more agreement never means a lower DSC."""
    spread = x - x.mean()
    slope = max(0.0, float(spread @ y) / float(spread @ spread)) if spread.any() else 0.0
    return np.poly1d([slope, y.mean() - slope * x.mean()])
