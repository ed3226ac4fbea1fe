"""What is computed on resamples is the same however few of them are computed at once, and however it is searched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct, idct

from router_models.metrics import RoutingSums, auc_weighted, bootstrap_values, smooth_calibration_error_weighted

N = 400


@pytest.mark.parametrize("groups", [None, np.arange(N) // 3], ids=["rows", "groups"])
def test_a_statistic_is_given_few_resamples_at_once_and_its_values_are_those_of_all_together(groups) -> None:
    rng = np.random.default_rng(0)
    scores, weak, strong = rng.random(N).round(2), rng.random(N) < 0.5, rng.random(N) < 0.8
    for statistic in (RoutingSums(scores, weak, strong).apgr, auc_weighted(scores, weak)):
        given = []

        def seen(weights, given=given, statistic=statistic):
            given.append(weights)
            return statistic(weights)

        values = bootstrap_values(seen, N, draws=700, seed=1, groups=groups)
        assert max(weights.size for weights in given) * 8 < 2**20, "what a core keeps beside it"
        assert len(given) < 20, "and no more calls than that takes"
        assert np.array_equal(values, statistic(np.concatenate(given)))


def test_one_resample_at_a_time_where_a_single_one_is_large() -> None:
    n = 70_000
    values = bootstrap_values(lambda weights: weights.sum(axis=1), n, draws=3)
    assert values.tolist() == [n, n, n]


def halved(p: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The width that equals what it leaves of the residuals, by halving [0, 1] twelve times."""
    residual = np.zeros((len(weights), 1000))
    for row, weight in zip(residual, weights, strict=True):
        np.add.at(row, np.minimum((p * 1000).astype(int), 999), weight * (y - p) / weight.sum())
    spectrum = dct(residual, type=2, axis=1)
    low, high = np.zeros(len(weights)), np.ones(len(weights))
    for _ in range(12):
        sigma = (low + high) / 2
        bells = np.exp(-0.5 * (np.pi * np.arange(1000) * sigma[:, None]) ** 2)
        above = np.abs(idct(spectrum * bells, type=2, axis=1)).sum(axis=1) > sigma
        low, high = np.where(above, sigma, low), np.where(above, high, sigma)
    return (low + high) / 2


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 60), seed=st.integers(0, 99), bias=st.sampled_from([-0.9, -0.3, -0.02, 0.0, 0.05, 0.6]),
    few=st.booleans(),
)  # fmt: skip
def test_the_width_that_is_found_by_secants_is_the_one_that_halving_finds(
    n: int, seed: int, bias: float, few: bool
) -> None:
    rng = np.random.default_rng(seed)
    p = rng.choice([0.0, 0.5, 1.0], n) if few else rng.random(n)
    y = (rng.random(n) < np.clip(p + bias, 0, 1)).astype(float)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=6)])
    found, expected = smooth_calibration_error_weighted(p, y)(weights), halved(p, y, weights)
    # Of residuals of one sign every width leaves the same: half of 1 is then met to a rounding error.
    assert np.abs(found - expected).max() <= 1 / 4096 if few else np.array_equal(found, expected)


def test_residuals_of_nothing_have_no_error() -> None:
    p = np.array([0.0, 1.0, 1.0])
    assert smooth_calibration_error_weighted(p, p)(np.ones((2, 3))) == pytest.approx([0, 0], abs=1 / 4096)
