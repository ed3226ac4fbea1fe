"""Experiment 2: where every threshold's risk is exactly ε, any certificate is false; the level must still hold."""

import numpy as np
import pytest

from router_models.risk_control.sequence import Labelled, anchored_path, quantile_grid

DELTA = 0.1


@pytest.mark.parametrize(("epsilon", "n"), [(0.05, 400), (0.10, 300), (0.10, 1000), (0.20, 500)])
def test_uninformative_scores_are_certified_no_more_often_than_delta(epsilon, n, size, allowed, measured):
    runs = size(2000, 20_000)
    rng = np.random.default_rng(2)
    anchored = uncorrected = 0
    for _ in range(runs):
        tune = Labelled(rng.random(300), rng.random(300) < epsilon)
        cert = Labelled(rng.random(n), rng.random(n) < epsilon)
        path = anchored_path(tune, cert, quantile_grid(tune.scores), epsilon=epsilon, level=DELTA)
        anchored += path.rejected.any()
        # A Clopper-Pearson bound below ε at some threshold, without correction for having looked at all.
        uncorrected += (path.p_values <= DELTA).any()
    limit = 0.107 if runs >= 20_000 else allowed(runs, DELTA) / runs
    measured(
        f"ε={epsilon} n={n} B={runs}: anchored {anchored / runs:.4f} (≤ {limit:.3f}), "
        f"uncorrected {uncorrected / runs:.3f}"
    )
    assert anchored / runs <= limit
    assert uncorrected / runs > limit, "the negative control must fail"
