"""Differences of two methods case by case, worked by hand and against scipy."""

import math

import pytest
from scipy import stats

from SemiSegLib.benchmark.paired import case_scores, interval, paired


def test_cases_count_once_whatever_the_seeds():
    ours = {1: {"a": 0.90, "b": 0.80}, 2: {"a": 0.92, "b": 0.70}}
    theirs = {1: {"a": 0.88, "b": 0.80}, 2: {"a": 0.86, "b": 0.66}, 3: {"a": 0.10, "b": 0.10}}
    found = paired(ours, theirs)
    # a: (0.02 + 0.06) / 2, b: (0 + 0.04) / 2; mean 0.03, sd 0.01 * sqrt(2), t(1 df, 97.5 %) = 12.706
    assert found.cases == 2
    assert found.mean == pytest.approx(0.03)
    assert found.high - found.mean == pytest.approx(12.7062 * 0.01 * math.sqrt(2) / math.sqrt(2), rel=1e-4)
    assert str(found) == "+3.00 (-9.7 to +15.7)"


def test_the_interval_is_scipys():
    differences = [0.01, -0.02, 0.03, 0.00, 0.05]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    found = interval(differences)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_case_has_no_interval_and_none_no_difference():
    assert str(paired({1: {"a": 0.9}}, {1: {"a": 0.8}})) == "+10.00"
    assert paired({1: {"a": 0.9}}, {2: {"a": 0.8}}) is None
    assert paired({1: {"a": 0.9}}, {1: {"b": 0.8}}) is None


def test_undefined_classes_are_left_out():
    cell = {"validation": {"cases": {"a": {"x": {"dsc": 0.5}, "y": {"dsc": None}}, "b": {"x": {"dsc": math.nan}}}}}
    assert case_scores(cell) == {"a": 0.5}
