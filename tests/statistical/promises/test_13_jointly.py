"""Experiment 13: three promises that each hold with 1 - δ hold at once with 1 - δ only where δ was divided among them.

Every statement is exactly at its bound, and the three are shown by independent labels.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from router_models.pricing.prices import Price
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ANSWERED_RISK
from router_models.risk_control.labels import p_value
from router_models.risk_control.sequence import Labelled, anchored_path, quantile_grid
from router_models.training.candidate import Settings
from router_models.training.together import jointly, statements
from router_models.training.whose_labels import LabelsUsed
from router_models.versions.sealed.tier_models import together

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPSILON, SHARE, N = 0.2, 0.1, 1000
PRICES = {tier: Price(Decimal(1), Decimal(2)) for tier in ("cheap", "frontier")}
SETTINGS = Settings(("cheap", "frontier"), PRICES, epsilon=EPSILON, abstain_share=SHARE)


def some_promise_is_broken(rng, level: float) -> bool:
    """Accepted answers, a prefix, and abstention, all at their bound."""
    for _ in range(2):
        tune, cert = (Labelled(rng.random(n), rng.random(n) < EPSILON) for n in (300, N))
        if anchored_path(tune, cert, quantile_grid(tune.scores), epsilon=EPSILON, level=level).rejected.any():
            return True
    return bool(p_value(rng.binomial(N, SHARE), N, SHARE) <= level)


def test_promises_hold_at_once_only_where_delta_is_divided(size, allowed, measured):
    runs = size(300, 2000)
    rng = np.random.default_rng(13)
    divided = jointly(SETTINGS, prefix=True).delta
    broken = sum(some_promise_is_broken(rng, divided) for _ in range(runs))
    each = sum(some_promise_is_broken(rng, SETTINGS.delta) for _ in range(runs))
    limit = allowed(runs, SETTINGS.delta)
    measured(f"three promises, B={runs}: some broken {broken} (≤ {limit}), each at δ {each}")
    assert broken <= limit
    assert each > limit, "the negative control must fail"


@pytest.mark.parametrize(
    ("changes", "beside", "count"),
    [
        ({}, {}, 2),
        ({}, {"prefix": True, "overload": True}, 4),
        ({"abstain_share": 0.0}, {}, 1),
        ({"max_drop": 0.05}, {"prefix": True}, 3),
        ({"promise": "answered"}, {}, 1),
    ],
)
def test_as_many_parts_as_are_tested_apart(changes, beside, count):
    settings = replace(SETTINGS, **changes)
    assert statements(settings, **beside) == count
    assert jointly(settings, **beside).delta == pytest.approx(0.1 / count)


def test_a_certificate_and_a_version_say_how_sure_everything_is_at_once():
    made = SETTINGS.terms(NOW, LabelsUsed("programmatic")).issue(
        "P(wrong | cheap accepted)", n=300, accepted_n=200, errors=9, threshold=0.5,
        also=(Promise(ABSTAIN_RISK, SHARE, 0.1, 300, 3, 0.05, 0.1),),
    )  # fmt: skip
    assert "with 90 % confidence each, 80 % together" in made.summary()
    assert together((made, replace(made, also=()))) == pytest.approx(0.3)
    whole = replace(made, what=ANSWERED_RISK, threshold=None)
    assert "with 90 % confidence together" in whole.summary()
    assert Certificate.from_json(made.to_json()).delta_together == made.delta_together
    assert made.expires_at == NOW + timedelta(days=90)
