"""Strategies of what to annotate next, on pools whose right answer is known."""

import numpy as np
import pytest

from SemiSegLib.inference.choosing import (
    STRATEGIES,
    Pool,
    StrategyError,
    choose,
    descriptor,
    evenly,
    farthest_first,
    slices_first,
    typical_first,
)


@pytest.fixture
def pool():
    """Twelve scans in four groups of looks (corners of a square), one group annotated; every second is uncertain."""
    corners = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [11.0, 12.0]])
    looks = np.repeat(corners, 3, axis=0) + 0.01 * np.arange(12)[:, None]
    uncertainty = np.where(np.arange(12) % 2, 0.5, 0.1) + 0.001 * np.arange(12)
    return Pool(looks, corners[:1], uncertainty, np.arange(12) < 9)


def test_uncertainty_takes_the_peaks_and_power_mostly_does(pool):
    assert choose("uncertainty", pool, 3) == [11, 9, 7]
    drawn = [choose("power", pool, 1, seed)[0] for seed in range(600)]
    share = np.bincount(drawn, minlength=12) / 600
    weights = pool.ranks() ** 4
    assert share == pytest.approx(weights / weights.sum(), abs=0.06)


def test_diversity_visits_the_groups_that_nobody_annotated(pool):
    chosen = choose("diversity", pool, 3)
    assert {index // 3 for index in chosen} == {1, 2, 3}
    assert chosen[0] // 3 == 3  # the farthest corner
    both = choose("uncertain-and-diverse", pool, 2)
    assert all(index % 2 for index in both)
    assert len({index // 3 for index in both} - {0}) == 2


def test_foreground_random_leaves_empty_scans_to_the_end(pool):
    for seed in range(5):
        assert all(index < 9 for index in choose("foreground-random", pool, 9, seed))
    assert sorted(choose("foreground-random", pool, 12)) == list(range(12))


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_every_strategy_fills_the_budget_without_repeating_and_the_same_seed_repeats_it(strategy, pool):
    chosen = choose(strategy, pool, 5, seed=3)
    assert len(set(chosen)) == 5
    assert chosen == choose(strategy, pool, 5, seed=3)
    assert sorted(choose(strategy, pool, 99)) == list(range(12))


def test_without_a_model_only_looks_count(pool):
    bare = Pool(pool.descriptors, np.empty((0, 2)))
    assert sorted(index // 3 for index in choose("cold-start", bare, 4)) == [0, 1, 2, 3], "one of each group"
    for strategy in ("power", "uncertainty", "foreground-random", "uncertain-and-diverse"):
        with pytest.raises(StrategyError, match="needs a model"):
            choose(strategy, bare, 2)
    with pytest.raises(StrategyError, match=r"no strategy 'best'.*power"):
        choose("best", pool, 1)


def test_farthest_first_worked_by_hand():
    line = np.array([[0.0], [1.0], [4.0], [9.0], [10.0]])
    assert farthest_first(line, np.array([[0.0]]), 3) == [4, 2, 1]
    assert farthest_first(line, np.empty((0, 1)), 3) == [2, 4, 0]  # the mean is 4.8


def test_typical_first_worked_by_hand():
    line = np.array([[0.0], [1.0], [2.0], [10.0], [10.4], [10.6], [11.0], [11.2], [30.0]])
    # Three groups: 5 scans around 10.6, 3 around 1, 1 alone. The middle one of each has the smallest mean distance.
    assert typical_first(line, np.empty((0, 1)), 3) == [5, 1, 8]
    # With scans annotated at 10.5 and 29 their groups come last.
    assert typical_first(line, np.array([[10.5], [29.0]]), 1) == [1]
    assert typical_first(line[:1], np.empty((0, 1)), 3) == [0]


def test_a_descriptor_tells_places_apart_and_not_contrast():
    image = np.random.default_rng(0).normal(0, 0.05, (40, 36, 20))
    left, right = image.copy(), image.copy()
    left[4:12, 10:20, 5:15] += 1
    right[28:36, 10:20, 5:15] += 1
    assert np.linalg.norm(descriptor(left) - descriptor(2 * left + 3)) < 1e-5
    assert np.linalg.norm(descriptor(left) - descriptor(right)) > 1
    inside = left > 0.5, right > 0.5
    assert np.linalg.norm(descriptor(left, inside[0]) - descriptor(right, inside[1])) < 0.5  # the same organ elsewhere
    assert not descriptor(np.zeros((20, 20, 20))).any()


def test_slices_are_the_least_certain_ones_with_others_between():
    scores = np.array([0, 0, 1, 5, 6, 5, 1, 1, 4, 0, 0.0])
    assert slices_first(scores, 2) == [4, 8]
    assert slices_first(np.zeros(9), 3) == evenly(9, 3)


def test_even_slices_begin_in_the_middle_and_halve_the_gaps():
    assert evenly(10, 1) == [5]
    order = evenly(90, 5)
    assert sorted(order) == [9, 27, 45, 63, 81]
    assert order[0] == 45
    assert set(order[1:3]) == {9, 81}
    assert sorted(evenly(3, 8)) == [0, 1, 2]  # no slice twice where there are fewer than asked for
