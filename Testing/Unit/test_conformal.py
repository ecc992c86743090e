"""Prediction intervals against values worked by hand, and what they promise on draws where it is known."""

import math

import numpy as np
import pytest
from scipy import stats

from SemiSegLib.inference.conformal import (
    Calibration,
    interpolated_quantile,
    logit,
    promised,
    rank_correlation,
)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [(0.5, 3.0), (0.75, 7.0), (5 / 6, 9.0), (0.9, math.inf)],  # ranks 3, 4.5, 5 and 5.4 of five
)
def test_the_quantile_lies_at_rank_n_plus_1_times_the_coverage(coverage, expected):
    assert interpolated_quantile(np.array([2.0, 9.0, 1.0, 5.0, 3.0]), coverage) == pytest.approx(expected)


def test_an_estimate_from_three_cases_worked_by_hand():
    """Scores 0, 1, 2 and logits of the DSC 0, 2, 1; the least-squares line is 0.5 + 0.5 x.

    Without the first the line through (1, 2), (2, 1) falls, so it is level at 1.5: residual -1.5. Without the second:
    0.5 x, residual 2 - 0.5 = 1.5. Without the third: 2 x, residual 1 - 4 = -3. With n = 3 a coverage of 0.75 is rank 3.
    """
    calibration = Calibration((0.0, 1.0, 2.0), tuple(sigmoid(y) for y in (0.0, 2.0, 1.0)))
    estimate = calibration.estimate(3.0, 0.75)
    assert estimate.expected == pytest.approx(sigmoid(0.5 + 0.5 * 3))
    assert estimate.low == pytest.approx(sigmoid(2.0 - 3.0))
    assert estimate.high == pytest.approx(sigmoid(2.0 + 3.0))
    assert calibration.left_out() == pytest.approx([sigmoid(1.5), sigmoid(0.5), sigmoid(4.0)])
    assert calibration.estimate(3.0, 0.5).low == pytest.approx(sigmoid(2.0 - 1.5))


def test_more_is_not_promised_than_the_cases_can_hold():
    assert promised(16, 0.9) == 0.9
    assert promised(4, 0.9) == pytest.approx(0.8)
    few = Calibration((0.0, 1.0, 2.0, 3.0), (0.5, 0.6, 0.7, 0.7))
    assert few.estimate(1.0, promised(4, 0.9)).high < 1
    assert (few.estimate(1.0, 0.95).low, few.estimate(1.0, 0.95).high) == (0.0, 1.0)


def test_a_perfect_and_an_absent_dsc_are_finite():
    calibration = Calibration((0.0, 1.0, 2.0, 3.0), (0.0, 0.5, 1.0, 1.0))
    estimate = calibration.estimate(2.0, 0.8)
    assert 0 < estimate.low < estimate.expected < estimate.high < 1
    assert logit(np.array([0.0, 1.0])) == pytest.approx([-math.log(999), math.log(999)])


@pytest.mark.parametrize(("cases", "coverage"), [(8, 0.8), (16, 0.9), (16, 0.83)])
def test_intervals_hold_what_they_promise(cases, coverage):
    """On 600 draws, whose DSC is what the score says plus noise with heavy tails (t, 4 degrees of freedom)."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        score = random.normal(2, 0.5, cases + 1)
        dsc = 1 / (1 + np.exp(-(0.8 * score + 0.2 * random.standard_t(4, cases + 1))))
        estimate = Calibration(tuple(score[:-1]), tuple(dsc[:-1])).estimate(score[-1], coverage)
        held += estimate.low <= dsc[-1] <= estimate.high
    assert held / 600 == pytest.approx(coverage, abs=0.04)


def test_rank_correlation_is_spearman_s():
    first, second = [0.1, 0.5, 0.5, 0.9, 0.2], [3.0, 1.0, 7.0, 8.0, 2.0]
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second)[0])
    assert math.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0]))
