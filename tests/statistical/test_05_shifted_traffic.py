"""Experiment 5: a threshold made for other traffic breaks its promise; fresh labels refuse it or keep it."""

import numpy as np
import pytest

from router_models.estimators.calibrators.scores import PlattCalibrator
from router_models.risk_control.sequence import Labelled, anchored_path, quantile_grid

DELTA = 0.1


@pytest.fixture
def shifted(pools):
    """(traffic tuned on, traffic served) by name: easy school questions → yes/no questions; a mild and a hard mix."""

    def get(name):
        if name == "qa":
            return pools("qa-8b-easy"), pools("qa-8b-hard")
        pool = pools("slices")
        easy = np.isin(pool.slices, ["slice-0", "slice-1", "slice-2"])
        return tuple(type(pool)(pool.scores[m], pool.wrong[m], pool.slices[m]) for m in (easy, ~easy))

    return get


@pytest.mark.parametrize(("name", "epsilon", "n"), [("qa", 0.20, 1000), ("synthetic", 0.10, 1000)])
def test_fresh_labels_refuse_or_hold_where_the_old_threshold_breaks(
    name, epsilon, n, shifted, size, allowed, measured
):
    (old, new), runs = shifted(name), size(200, 2000)
    rng = np.random.default_rng(6)
    plug_in_broken = old_broken = broken = refused = 0
    for _ in range(runs):
        rows = rng.integers(0, len(old), 400)
        calibrator = PlattCalibrator().fit(old.scores[rows], 1 - old.wrong[rows])
        # Accepting at p ≥ 1 - ε errs at most ε if p is calibrated: it is, on the traffic it was fitted on.
        p_new = calibrator.predict(new.scores)
        accepted = p_new >= 1 - epsilon
        plug_in_broken += accepted.any() and new.wrong[accepted].mean() > epsilon

        tune = Labelled(old.scores[rows], old.wrong[rows])
        grid = quantile_grid(tune.scores)
        again = rng.integers(0, len(old), n)
        certified_on_old = Labelled(old.scores[again], old.wrong[again])
        stale = anchored_path(tune, certified_on_old, grid, epsilon=epsilon, level=DELTA)
        if stale.rejected.any():
            old_broken += new.risk_and_share(grid[np.argmax(stale.rejected)])[0] > epsilon

        now = rng.integers(0, len(new), n)
        fresh = anchored_path(tune, Labelled(new.scores[now], new.wrong[now]), grid, epsilon=epsilon, level=DELTA)
        if fresh.rejected.any():
            broken += new.risk_and_share(grid[np.argmax(fresh.rejected)])[0] > epsilon
        else:
            refused += 1
    limit = allowed(runs, DELTA)
    measured(
        f"ε={epsilon} B={runs}: fresh CERT broken {broken} (≤ {limit}), refused {refused}; calibrated plug-in broken "
        f"{plug_in_broken}, certificate of the old traffic broken {old_broken}"
    )
    assert broken <= limit
    assert plug_in_broken > limit, "the negative control must fail"
    assert old_broken > limit, "a certificate covers the traffic it was made on, and no other"
