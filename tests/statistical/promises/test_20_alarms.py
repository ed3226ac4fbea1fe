"""Experiments 11 and 15: alarms on labels of served answers.

11: at the promised risk the e-detector runs A labels on average at least before a false alarm, and a certificate that
holds is revoked in a share α of lives at most; a rise from .05 to .10 is found soon. The negative controls, a z-test
at every label and river's DDM as published (Gama et al. 2004), alarm far more often.

15: a stream is certified, served, and shifts: the risk is within ε until it does, and the certificate is revoked soon
after, in one decision of the label that says so (`tests/unit/serve_graph/learning/test_alarms_serving.py`).
"""

from collections.abc import Callable

import numpy as np

from router_models.monitoring.promise_watch import (
    PromiseWatch,
    WatchLimits,
    detector_value,
    e_value,
    log_ratios,
    next_detectors,
    next_wealth,
    raised_risks,
)
from router_models.risk_control.streaming import StreamCertifier

RISK, A, ALPHA = 0.05, 10_000.0, 0.05
NEVER = np.inf


def alarms(risk: Callable[[int], float], runs: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The label at which each run's detector and e-process first reach their limits; inf: not in so many."""
    rng, bets = np.random.default_rng(seed), len(raised_risks(RISK))
    detectors, wealth = np.full((runs, bets), -np.inf), np.full((runs, bets), -np.inf)
    drift, revoked = np.full(runs, NEVER), np.full(runs, NEVER)
    ratios = log_ratios([0.0, 1.0], RISK)
    for n in range(1, labels + 1):
        ratio = ratios[(rng.random(runs) < risk(n)).astype(int)]
        detectors, wealth = next_detectors(detectors, ratio), next_wealth(wealth, ratio, n)
        drift[(detector_value(detectors) >= A) & (drift == NEVER)] = n
        revoked[(e_value(wealth, n) >= 1 / ALPHA) & (revoked == NEVER)] = n
    return drift, revoked


def test_at_the_promised_risk_alarms_are_as_rare_as_they_say(size, allowed, measured):
    runs, labels = size(100, 1000), size(10_000, 40_000)
    drift, revoked = alarms(lambda _: RISK, runs, labels, 11)
    ran = np.minimum(drift, labels)  # shorter than the run length, where it was cut off
    lower = ran.mean() - 2.326 * ran.std() / np.sqrt(runs) if (drift < NEVER).any() else labels
    wrong = int((revoked < NEVER).sum())
    measured(
        f"run length ≥ {lower:.0f} (99 %, cut at {labels}); revoked in {wrong} of {runs} lives of {labels} labels"
    )
    assert lower >= min(A, 0.9 * labels)
    assert wrong <= allowed(runs, ALPHA)


def judged(harm: float, tied: float, runs: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A judge's marks of answers of which a share `harm` does harm, (runs, labels): ties as half, ties as nothing.

    Of harmful pairs it tells a share `tied` no better than by their order, and of the others a tenth of that.
    """
    rng = np.random.default_rng(seed)
    happened = rng.random((runs, labels)) < harm
    tie = rng.random((runs, labels)) < np.where(happened, tied, tied / 10)
    return np.where(tie, 0.5, happened), np.where(tie, 0.0, happened)


def revoked_at(marks: np.ndarray, epsilon: float) -> np.ndarray:
    """The label at which each run is revoked; inf: never."""
    wealth = np.full((len(marks), len(raised_risks(epsilon))), -np.inf)
    found = np.full(len(marks), NEVER)
    for n, column in enumerate(marks.T, start=1):
        wealth = next_wealth(wealth, log_ratios(column, epsilon), n)
        found[(e_value(wealth, n) >= 1 / ALPHA) & (found == NEVER)] = n
    return found


def test_a_judge_that_ties_finds_a_rise_sooner_and_is_no_more_often_wrong(size, allowed, measured):
    """What is certified counts a tie against the cheap answer, so that ε bounds harm with all ties in it."""
    runs, tied = size(100, 1000), 0.6
    epsilon = 0.05 + 0.95 * tied / 10  # a certificate at a harm of .05, exactly
    held, _ = judged(0.05, tied, runs, size(2000, 10_000), 21)
    wrong = int((revoked_at(held, epsilon) < NEVER).sum())
    half, nothing = (np.median(revoked_at(marks, epsilon)) for marks in judged(0.30, tied, runs, 3000, 22))
    measured(
        f"revoked in {wrong} of {runs} lives; at a harm of .30 after {half:.0f} labels, ties as nothing {nothing:.0f}"
    )
    assert wrong <= allowed(runs, ALPHA)
    assert half < 0.6 * nothing


def test_a_rise_is_found_soon_however_long_all_was_well(size, measured):
    runs = size(200, 1000)
    for before in (0, 1000):
        drift, revoked = alarms(lambda n, b=before: 0.03 if n <= b else 0.10, runs, before + 2500, 12)
        delays = drift - before, revoked - before
        measured(
            f"to .10 after {before} labels at .03: drift {delays[0].mean():.0f}, revoked {np.median(delays[1]):.0f}"
        )
        assert (drift > before).mean() >= 0.99
        assert delays[0].mean() <= 500
        assert np.median(delays[1]) <= 800


def test_a_z_test_at_every_label_and_ddm_alarm_far_more_often(size, allowed, measured):
    """The negative controls."""
    runs, labels = size(100, 1000), 5_000
    wrong = np.random.default_rng(13).random((runs, labels)) < RISK
    n = np.arange(1, labels + 1)
    share = np.cumsum(wrong, axis=1) / n
    peeked = ((share - RISK) / np.sqrt(RISK * (1 - RISK) / n) > 1.645)[:, 30:].any(axis=1)
    spread = np.sqrt(share * (1 - share) / n)
    level = share + spread
    level[:, :30] = np.inf
    best = np.minimum.accumulate(level, axis=1)
    at = np.maximum.accumulate(np.where(level == best, n, 0), axis=1) - 1
    rows = np.arange(runs)[:, None]
    ddm = ((level > share[rows, at] + 3 * spread[rows, at]) & (n > 30)).any(axis=1)
    measured(f"false alarms in {labels} labels: z-test at every label {peeked.mean():.2f}, DDM {ddm.mean():.2f}")
    assert peeked.sum() > allowed(runs, ALPHA)
    assert ddm.sum() > allowed(runs, ALPHA)


def test_a_stream_is_certified_served_within_its_promise_and_revoked_once_it_shifts(size, allowed, measured):
    runs, delta, epsilon, limits = size(60, 400), 0.1, 0.1, WatchLimits(A, ALPHA)
    rng = np.random.default_rng(15)
    broken = false = found = 0
    delays = []
    for _ in range(runs):
        risk = rng.uniform(0.03, 0.13)
        certifier = StreamCertifier(epsilon).update(rng.random(1500) < risk)
        if not certifier.certified(delta):
            continue
        found += 1
        broken += risk > epsilon
        before = PromiseWatch(epsilon).update(rng.random(400) < risk)
        false += risk <= epsilon and before.peak_e_value >= limits.e_value_at("overall", 0)
        state = before
        for at in range(10, 2001, 10):
            state = state.update(rng.random(10) < 0.2)
            if state.peak_e_value >= limits.e_value_at("overall", 0):
                delays.append(at)
                break
    measured(
        f"certified {found} of {runs}, broken {broken}, revoked too soon {false}, delay {np.median(delays):.0f} labels"
    )
    assert found >= runs / 4
    assert broken <= allowed(runs, delta)
    assert false <= allowed(found, ALPHA)
    assert len(delays) == found
    assert np.median(delays) <= 400
