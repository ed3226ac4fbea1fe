"""Experiment 14: as many labels as `plan` names certify as often as it promises, nine times in ten.

A plan from few labels is followed: so many fresh ones are collected, half as many to tune on, and certified. The
negative control is what was counted before: the fewest over all thresholds, at the risk that the same labels show.
"""

import numpy as np
import pytest

from router_models.planning.labels import labels_row
from router_models.risk_control.labels import POWER, labels_needed
from router_models.risk_control.sequence import (
    Labelled,
    anchored_path,
    counts_at,
    quantile_grid,
    smoothed_risk,
    spent_delta,
)

EPSILON, DELTA = 0.1, 0.1
LEVEL = spent_delta(DELTA, 1)


def drawn(pool, rng, n: int) -> Labelled:
    rows = rng.integers(0, len(pool), n)
    return Labelled(pool.scores[rows], pool.wrong[rows])


def succeeds(pool, rng, labels: int) -> bool:
    tune, cert = drawn(pool, rng, labels // 2), drawn(pool, rng, labels)
    path = anchored_path(tune, cert, quantile_grid(tune.scores), epsilon=EPSILON, level=LEVEL)
    return bool(path.rejected.any())


def luckiest(data: Labelled) -> int | None:
    accepted, wrong = counts_at(quantile_grid(data.scores), data)
    risk = smoothed_risk(accepted, wrong)
    each = [(labels_needed(EPSILON, float(r), LEVEL), a / len(data)) for r, a in zip(risk, accepted, strict=True)]
    return min((int(np.ceil(n / share)) for n, share in each if n is not None), default=None)


@pytest.mark.sampled(None, one_in=3)
@pytest.mark.parametrize("labels", [200, 500, 1500])
def test_as_many_labels_as_a_plan_names_certify_as_often_as_it_promises(labels, pools, size, measured):
    pool, runs = pools("synthetic"), size(100, 1000)
    rng = np.random.default_rng(labels)
    follow, lucky = [], []
    for _ in range(runs):
        data = drawn(pool, rng, labels)
        named, before = labels_row(EPSILON, DELTA, data, len(data)).fewest, luckiest(data)
        if named is not None:
            follow.append(succeeds(pool, rng, min(named, 60_000)))
        if before is not None:
            lucky.append(succeeds(pool, rng, min(before, 60_000)))
    noise = 3 * np.sqrt(POWER * (1 - POWER) / max(len(follow), 1))
    measured(
        f"{labels} labels, B={runs}: named in {len(follow)}, certified {np.mean(follow):.3f} (promised {POWER:g}, "
        f"≥ {POWER - noise:.3f}); luckiest threshold {np.mean(lucky):.3f}"
    )
    assert len(follow) > runs / 2
    assert np.mean(follow) >= POWER - noise
    assert np.mean(lucky) < POWER - noise, "the negative control must fail"
