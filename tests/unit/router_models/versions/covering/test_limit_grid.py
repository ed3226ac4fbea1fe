"""Limits chosen among all combinations at once are those that trying one after the other finds."""

import itertools

import numpy as np
import pytest
from scipy.stats import beta

from router_models.versions.covering.limit_grid import LEVEL, Attack, Measured, choose_limits, rise_of, tried_limits

EPSILON = 0.1
QUANTILES = [(0.9, 0.6, 0.3)] * 3


def some(seed: int, n: int, shift: float = 0.0) -> Measured:
    rng = np.random.default_rng(seed)
    below = np.maximum(rng.normal(shift, 1.0, (n, 3)), 0.0)
    below[rng.random(n) < 0.05] = np.inf
    return Measured(rng.random(n) < 0.7, below)


@pytest.mark.parametrize("seed", range(6))
def test_all_combinations_at_once_are_each_of_them_tried(seed: int) -> None:
    ordinary = some(seed, 300)
    attacks = [Attack(f"way {i}", some(seed + 10, 90, 1.0), some(seed + 20 + i, 90, 0.6 * i)) for i in range(3)]
    columns = tried_limits([2.0, np.inf, 1.5], ordinary, QUANTILES)
    tried = []
    for limits in map(np.array, itertools.product(*columns)):
        price = 1 - ordinary.within(limits).sum() / ordinary.down.sum()
        rises = [rise_of(one.before.within(limits), one.after.within(limits)) for one in attacks]
        tried.append((price, *max(rises, key=lambda one: one[1]), limits))
    held = [one for one in tried if one[2] <= EPSILON]
    expected = min(one[0] for one in held) if held else min(one[2] for one in tried)
    found = choose_limits(columns, ordinary, attacks, EPSILON)
    assert (found.price if held else found.high) == pytest.approx(expected)
    (same,) = (one for one in tried if (one[3] == found.limits).all())
    assert (found.price, found.rise, found.high) == pytest.approx(same[:3])


def test_limits_lie_between_none_and_the_usual_and_hold_what_they_were_taken_from() -> None:
    ordinary = some(1, 200)
    for column, loosest in zip(tried_limits([0.5, np.inf, 9.0], ordinary, QUANTILES), (0.5, np.inf, 9.0), strict=True):
        assert column.tolist() == sorted(set(column.tolist()))
        assert column[0] == 0
        assert column[-1] == loosest
    below = ordinary.below[ordinary.down]
    below = below[np.isfinite(below).all(axis=1), 2]
    assert (below <= tried_limits([9.0] * 3, ordinary, [(0.6,)] * 3)[2][1]).mean() >= 0.6


def test_the_end_of_a_rise_is_never_below_that_of_what_was_gained() -> None:
    before, after = np.zeros(40, dtype=bool), np.zeros(40, dtype=bool)
    assert rise_of(before, after) == (0.0, pytest.approx(beta.ppf(LEVEL, 1, 40)))
    after[:2], before[2:4] = True, True
    assert rise_of(before, after) == (0.0, pytest.approx(beta.ppf(LEVEL, 3, 38) - 0.05))
    assert rise_of(before, np.ones(40, dtype=bool)) == (0.95, pytest.approx(1.0, abs=0.02))
