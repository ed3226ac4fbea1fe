"""Experiment 18: a promise is about requests like those it was proved on, and about those alone.

CERT is asked under one condition, traffic under two; under the other one answers are wrong more often at the same
score. Where requests are compared with the coverage the promise holds for all that is accepted. The negative controls:
without the comparison, and with rows left out only after they were counted.
"""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.pricing.prices import Price
from router_models.risk_control.certify import certify_policy
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.training.candidate import Settings
from router_models.training.whose_labels import LabelsUsed
from router_models.types import OperatingPoint
from router_models.types.conditions import PLAIN, Conditions
from router_models.versions.covering.covered_conditions import NOVELTY_QUANTILE, covered_conditions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIERS = ("cheap", "frontier")
PRICES = {tier: Price(Decimal(1), Decimal(2)) for tier in TIERS}
SETTINGS = Settings(TIERS, PRICES, epsilon=0.15, abstain_share=0.0, promise="accepted")
PLACED = {"cheap": OperatingPoint(0.0, 0.5), "frontier": OperatingPoint(np.inf, -np.inf)}
TRAFFIC = 20_000
LABELS = LabelsUsed("programmatic")


def answers(rng: np.random.Generator, harder: np.ndarray) -> CascadeEvidence:
    """Answers whose scores are calibrated where `harder` is 0, and too sure by as many log-odds elsewhere."""
    z = rng.normal(1.0, 1.5, len(harder))
    right = rng.random(len(z)) < 1 / (1 + np.exp(harder - z))
    p_ok = np.column_stack([1 / (1 + np.exp(-z)), np.full(len(z), 0.9)])
    return CascadeEvidence.of(
        TIERS, np.full((len(z), 1), 0.9), p_ok, [0.1, 1.0], np.column_stack([right, np.ones(len(z))])
    )


def accept_at(tune: CascadeEvidence, cert: CascadeEvidence, settings: Settings = SETTINGS) -> float:
    """The certified threshold; +inf where there is none."""
    try:
        found = certify_policy(tune, cert, settings.guarantee, settings.terms(NOW, LABELS), PLACED)
    except NotCertifiedError:
        return np.inf
    return found.points["cheap"].accept_at


def risk_and_share(traffic: CascadeEvidence, threshold: float) -> tuple[float, float]:
    """P(wrong | accepted) and the share accepted, of traffic as the coverage marks it."""
    replayed = replay_policy(traffic, Thresholds((0.0,), (threshold,), (-np.inf, -np.inf)))
    kept = replayed.accepted
    return (float(1 - traffic.grades[kept, 0].mean()) if kept.any() else 0.0), float(kept.mean())


CERTIFIED = Conditions(system_prompt="aa", decoding='{"temperature":0.7}')
SYSTEM_PROMPT, DECODING = replace(CERTIFIED, system_prompt="bb"), replace(CERTIFIED, decoding='{"temperature":1.9}')


@pytest.mark.parametrize(
    ("reason", "asked", "harder"), [("system_prompt", SYSTEM_PROMPT, 1.5), ("decoding", DECODING, 1)]
)
def test_requests_that_are_compared_with_the_coverage_keep_the_promise(reason, asked, harder, size, allowed, measured):
    runs, n = size(50, 2000), 600
    rng = np.random.default_rng(18)
    other = np.arange(TRAFFIC) % 2 == 1
    traffic = answers(rng, np.where(other, harder, 0.0))
    like_cert = np.flatnonzero(~other)
    oracle = max(
        risk_and_share(traffic.take(~other), t)[1] / 2
        for t in np.linspace(0.3, 0.99, 200)
        if risk_and_share(traffic.take(~other), t)[0] <= SETTINGS.epsilon
    )
    broken = unchecked = 0
    shares = []
    for _ in range(runs):
        coverage = covered_conditions([CERTIFIED] * n)
        uncovered = coverage.uncovered(asked)
        assert uncovered is not None
        assert uncovered.reason == reason
        assert coverage.uncovered(CERTIFIED) is None
        tune, cert = (traffic.take(rng.choice(like_cert, rows)) for rows in (300, n))
        threshold = accept_at(tune, cert)
        risk, share = risk_and_share(replace(traffic, covered=~other), threshold)
        broken += risk > SETTINGS.epsilon
        unchecked += risk_and_share(traffic, threshold)[0] > SETTINGS.epsilon
        shares.append(share)
    limit, kept = allowed(runs, SETTINGS.delta), float(np.mean(shares))
    measured(
        f"{reason}, B={runs}: broken {broken} (≤ {limit}), not compared {unchecked}, accepted {kept:.3f} = "
        f"{kept / oracle:.0%} of the oracle's"
    )
    assert broken <= limit
    assert unchecked > limit, "the negative control must fail"
    assert kept > 0.6 * oracle


def test_rows_that_are_not_covered_are_left_out_before_anything_is_counted(size, allowed, measured):
    """Three in ten rows were asked under settings that hardly any other row shares, and are never wrong."""
    runs, n = size(30, 1000), 1500
    rng = np.random.default_rng(118)
    broken = late = 0
    for _ in range(runs):
        tune, cert = (flat(rng, rows, 1.15 * SETTINGS.epsilon, 0.3) for rows in (500, n))
        known, rows = (settings_of(rare) for _, rare in (tune, cert))
        coverage = covered_conditions(rows)
        before, after = (
            replace(part[0], covered=np.array([coverage.uncovered(row) is None for row in asked]))
            for part, asked in ((tune, known), (cert, rows))
        )
        # The accepted, covered answers are wrong 1.15 ε of the time, at any threshold.
        broken += np.isfinite(accept_at(before.counted(), after.counted()))
        late += np.isfinite(accept_at(tune[0], cert[0]))
    limit = allowed(runs, SETTINGS.delta)
    measured(f"rare conditions, B={runs}: broken {broken} (≤ {limit}), left out after counting {late}")
    assert broken <= limit
    assert late > limit, "the negative control must fail"


def test_novel_rows_are_left_out_before_anything_is_counted(size, allowed, measured):
    """One row in twenty lies beyond TUNE's quantile, and is never wrong; the others are, a little more than ε."""
    runs, n = size(50, 1000), 60_000
    rng = np.random.default_rng(218)
    broken = late = 0
    for _ in range(runs):
        (tune, far_tune), (cert, far_cert) = (flat(rng, rows, 1.025 * SETTINGS.epsilon, 0.05) for rows in (2000, n))
        distances = [rng.random(len(far)) + far for far in (far_tune, far_cert)]
        edge = float(np.quantile(distances[0], NOVELTY_QUANTILE))
        known, fresh = (replace(part, covered=far <= edge) for part, far in zip((tune, cert), distances, strict=True))
        broken += np.isfinite(accept_at(known.counted(), fresh.counted()))
        late += np.isfinite(accept_at(tune, cert))
    limit = allowed(runs, SETTINGS.delta)
    measured(f"novelty, B={runs}: broken {broken} (≤ {limit}), left out after counting {late}")
    assert broken <= limit
    assert late > limit, "the negative control must fail"


def settings_of(rare: np.ndarray) -> list[Conditions]:
    """Conditions of rows, of which the rare ones have sampling settings of their own."""
    return [Conditions(decoding=f'{{"temperature":{1 + i / 9999}}}') if one else PLAIN for i, one in enumerate(rare)]


def flat(rng: np.random.Generator, n: int, risk: float, left_out: float) -> tuple[CascadeEvidence, np.ndarray]:
    """Answers whose score says nothing, wrong with `risk`; a share of the rows, which is returned, is never wrong."""
    free = rng.random(n) < left_out
    right = (rng.random(n) >= risk) | free
    p_ok = np.column_stack([rng.random(n), np.full(n, 0.9)])
    seen = CascadeEvidence.of(TIERS, np.full((n, 1), 0.9), p_ok, [0.1, 1.0], np.column_stack([right, np.ones(n)]))
    return seen, free
