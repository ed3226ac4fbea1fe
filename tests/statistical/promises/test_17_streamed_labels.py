"""Experiment 17: people's labels in random order over accepted answers, stopped when proved.

Thresholds are placed on TUNE by the labels of a judge that is wrong 5 % both ways; people label CERT rows that they
accept, in random order, and stop at the proof, or where more is not likely to be proved. The negative controls: a
judge that passes half of the bad answers taken for truth, and a test for a fixed number of labels that is looked at
after every label.
"""

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.labels import labels_needed, p_value
from router_models.risk_control.sequence import (
    Labelled,
    anchored_path,
    counts_at,
    quantile_grid,
    smoothed_risk,
    spent_delta,
)
from router_models.risk_control.streaming import NestedStream, follow_stream, place_stream

EPSILON, DELTA = 0.1, 0.1
LEVEL = spent_delta(DELTA, 1)
TUNE, CERT = 400, 900


def judged(rng, bad, lets_pass: float, blames: float):
    """What a judge says: passes some bad answers, and blames some good ones."""
    return np.where(bad, rng.random(len(bad)) >= lets_pass, rng.random(len(bad)) < blames)


def label_until_proved(placed, tune: Labelled, scores, truth) -> tuple[NestedStream, int]:
    """The tests when the labeller stops, as `serve-graph label` does, and how many rows were labelled (by fives)."""
    prior = smoothed_risk(*counts_at(np.array(placed[::-1]), tune))[::-1]
    marks = np.full(len(scores), np.nan)
    while True:
        stream = follow_stream(placed, scores, marks, epsilon=EPSILON, level=LEVEL)
        at = stream.steps[-1]
        rows = np.flatnonzero((scores >= at.threshold) & np.isnan(marks))
        more = stream.foretold(LEVEL, prior.tolist())
        if stream.next_row is None or (stream.proved is not None and (more is None or more > len(rows))):
            return stream, int(np.isfinite(marks).sum())
        marks[rows[:5]] = truth[rows[:5]]


def takes_a_judge_for_truth(rng, pool, bad, tune, cert) -> bool:
    """Whether the usual test on the labels of a judge that passes half of the bad answers breaks the promise."""
    known, fresh = (Labelled.of(pool.scores[rows], judged(rng, bad[rows], 0.5, 0.0)) for rows in (tune, cert))
    path = anchored_path(known, fresh, quantile_grid(known.scores), epsilon=EPSILON, level=LEVEL)
    lenient = path.thresholds[path.rejected][:1]
    return bool(len(lenient) and bad[pool.scores >= lenient[0]].mean() > EPSILON)


@pytest.mark.parametrize("promise", ["accepted", "harm"])
def test_streamed_labels_keep_the_promise_with_fewer_than_a_fixed_number(promise, pools, size, allowed, measured):
    pool, runs, rng = pools("synthetic"), size(150, 1000), np.random.default_rng(17)
    last_right = rng.random(len(pool)) < 0.85
    bad = pool.wrong & last_right if promise == "harm" else pool.wrong
    broken = trusting = none = 0
    labels, stopped, fixed, every, shares = [], [], [], [], []
    for _ in range(runs):
        tune, cert = rng.integers(len(pool), size=TUNE), rng.integers(len(pool), size=CERT)
        said = Labelled.of(pool.scores[tune], judged(rng, bad[tune], 0.05, 0.05))
        scores, marks = pool.scores[cert], bad[cert].astype(float)
        trusting += takes_a_judge_for_truth(rng, pool, bad, tune, cert)
        try:
            placed = place_stream(said, scores, epsilon=EPSILON, level=LEVEL, doubted=True)
            stream, labelled = label_until_proved(placed, said, scores, marks)
        except NotCertifiedError:
            none += 1
            continue
        if stream.proved is None:
            none += 1
            continue
        kept = pool.scores >= stream.proved.threshold
        risk = float(bad[kept].mean())
        broken += risk > EPSILON
        labels.append(labelled)
        stopped.append(stream.proved.state.n)
        shares.append(kept.mean())
        if (n := labels_needed(EPSILON, risk, LEVEL)) is not None:
            fixed.append(n)
            every.append(n / kept.mean())
    limit = allowed(runs, DELTA)
    measured(
        f"{promise}, ε={EPSILON} B={runs}: broken {broken} (≤ {limit}), a judge taken for truth {trusting}; stopped "
        f"at {np.median(stopped):.0f} accepted ones (median), a fixed number (power .9) needs {np.median(fixed):.0f}; "
        f"rows labelled in all {np.median(labels):.0f}, for the fixed number {np.median(every):.0f}; accepted "
        f"{np.mean(shares):.2f}, none certified {none}"
    )
    assert broken <= limit
    assert trusting > limit, "the negative control must fail"
    assert np.median(stopped) < np.median(fixed)
    assert np.median(labels) < 0.5 * np.median(every)
    assert none <= 0.3 * runs


def test_at_the_budget_itself_a_stream_that_may_stop_at_any_label_stays_within_delta(size, allowed, measured):
    runs, rng = size(300, 1000), np.random.default_rng(18)
    broken = stopped_early = 0
    for _ in range(runs):
        scores, marks = rng.random(CERT), (rng.random(CERT) < EPSILON).astype(float)
        stream = follow_stream((0.75, 0.5, 0.25, 0.0), scores, marks, epsilon=EPSILON, level=DELTA)
        broken += stream.proved is not None
        n = np.arange(1, CERT + 1)
        stopped_early += bool((p_value(np.cumsum(marks), n, EPSILON) <= DELTA).any())
    limit = allowed(runs, DELTA)
    measured(f"B={runs}: false {broken} (≤ {limit}), a fixed-n test stopped early {stopped_early}")
    assert broken <= limit
    assert stopped_early > limit, "the negative control must fail"
