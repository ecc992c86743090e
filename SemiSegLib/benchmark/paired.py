"""Two methods on the same cases: the difference of their DSC case by case, with an interval.

Cases differ far more than methods, so only the difference within each case says which method is better.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95  # of the intervals; the usual choice


@dataclass(frozen=True)
class Difference:
    """Mean difference and its interval (NaN with fewer than two cases), all as fractions, over so many cases."""

    mean: float
    low: float
    high: float
    cases: int

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{100 * self.mean:+.2f}"
        return f"{100 * self.mean:+.2f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


def case_scores(cell: Mapping[str, Any]) -> dict[str, float]:
    """DSC of each validation case, mean of its classes that have one; cases without any are left out."""
    result = {}
    for name, labels in cell["validation"]["cases"].items():
        values = [scores["dsc"] for scores in labels.values()]
        known = [value for value in values if value is not None and not math.isnan(value)]
        if known:
            result[name] = statistics.fmean(known)
    return result


def paired(ours: Mapping[int, Mapping[str, float]], theirs: Mapping[int, Mapping[str, float]]) -> Difference | None:
    """The difference of scores by seed and case, over the seeds and cases that both have; None where there are none.

    Each case counts once, with the mean of its differences over the seeds. The interval is Student's t over cases: it
    says how sure the mean over further cases is, not how much another seed would change.
    """
    seeds = sorted(set(ours) & set(theirs))
    by_case: dict[str, list[float]] = {}
    for seed in seeds:
        for name in ours[seed].keys() & theirs[seed].keys():
            by_case.setdefault(name, []).append(ours[seed][name] - theirs[seed][name])
    return interval([statistics.fmean(values) for _, values in sorted(by_case.items())])


def interval(differences: Sequence[float]) -> Difference | None:
    """Mean with its Student's t interval."""
    from scipy import stats

    count = len(differences)
    if not count:
        return None
    mean = statistics.fmean(differences)
    if count < 2:
        return Difference(mean, math.nan, math.nan, count)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return Difference(mean, mean - half, mean + half, count)
