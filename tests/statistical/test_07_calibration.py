"""Experiment 7: with 200 labels the default calibrator beats the raw confidence and isotonic regression."""

import numpy as np
import pytest
from scipy.stats import t as student

from router_models.estimators.calibrators.scores import IsotonicCalibrator, PlattCalibrator, choose_calibrator
from router_models.metrics import log_loss

LABELS = 200


def interval(differences: list[float]) -> tuple[float, float]:
    """A paired 95 % t-interval of the mean difference over splits."""
    d = np.array(differences)
    half = student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return float(d.mean() - half), float(d.mean() + half)


@pytest.mark.parametrize("name", ["synthetic", "qa-8b", "qa-70b"])
def test_the_default_calibrator_beats_raw_and_isotonic(name, pools, size, measured):
    pool, splits = pools(name), size(30, 200)
    losses = {"raw": [], "default": [], "isotonic": []}
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(pool))
        fit, held_out = order[:LABELS], order[LABELS:][:5000]
        s, right = pool.scores, 1.0 - pool.wrong
        chosen = choose_calibrator(s[fit], right[fit])
        assert isinstance(chosen, PlattCalibrator)
        losses["raw"].append(log_loss(np.clip(s[held_out], 1e-6, 1 - 1e-6), right[held_out]))
        losses["default"].append(log_loss(chosen.predict(s[held_out]), right[held_out]))
        isotonic = IsotonicCalibrator().fit(s[fit], right[fit])
        losses["isotonic"].append(log_loss(isotonic.predict(s[held_out]), right[held_out]))
    versus = {k: interval(list(np.subtract(losses["default"], losses[k]))) for k in ("raw", "isotonic")}
    measured(
        f"{splits} splits, log-loss " + ", ".join(f"{k} {np.mean(v):.3f}" for k, v in losses.items())
        + f"; default - raw [{versus['raw'][0]:.3f}, {versus['raw'][1]:.3f}], "
        f"default - isotonic [{versus['isotonic'][0]:.3f}, {versus['isotonic'][1]:.3f}]"
    )  # fmt: skip
    assert versus["raw"][1] <= 0
    assert versus["isotonic"][1] <= 0
    worse = interval(list(np.subtract(losses["isotonic"], losses["default"])))
    assert worse[1] > 0, "the negative control, isotonic at this many labels, must fail the same test"
